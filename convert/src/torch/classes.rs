//! The classes and functions that a checkpoint's pickle may name. None of them ever runs: each stands for data.

/// Element type of a torch storage or of a safetensors tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElementType {
    F32,
    F16,
    BF16,
    F64,
    /// A type that no weight has, by torch's name.
    Other(&'static str),
}

impl ElementType {
    /// Bytes per element; `None` for a type that no weight has.
    pub(crate) const fn size(self) -> Option<u64> {
        match self {
            ElementType::F32 => Some(4),
            ElementType::F16 | ElementType::BF16 => Some(2),
            ElementType::F64 => Some(8),
            ElementType::Other(_) => None,
        }
    }

    /// torch's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            ElementType::F32 => "float32",
            ElementType::F16 => "float16",
            ElementType::BF16 => "bfloat16",
            ElementType::F64 => "float64",
            ElementType::Other(name) => name,
        }
    }
}

/// The meaning of a class or function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// `torch._utils._rebuild_tensor_v2(storage, offset, shape, stride, ...)`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter(tensor, ...)`.
    RebuildParameter,
    /// A mapping, or an object whose attributes are one.
    Dict,
    /// A typed storage.
    Storage(ElementType),
    /// Plain data that conversion does not need; it is read and dropped.
    Inert,
}

impl Class {
    /// The class of this name; `None` if it is not listed.
    pub(crate) fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Some(Class::RebuildTensor),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Class::RebuildParameter),
            ("collections", "OrderedDict" | "defaultdict" | "Counter") => Some(Class::Dict),
            ("builtins" | "__builtin__", "dict") => Some(Class::Dict),
            ("argparse", "Namespace") | ("types", "SimpleNamespace") => Some(Class::Dict),
            (
                "lightning.fabric.utilities.data"
                | "lightning.pytorch.utilities.parsing"
                | "lightning_fabric.utilities.data"
                | "pytorch_lightning.utilities.parsing",
                "AttributeDict",
            ) => Some(Class::Dict),
            ("torch", name) => storage(name).map(Class::Storage).or_else(|| inert_torch(name)),
            _ => is_inert(module, name).then_some(Class::Inert),
        }
    }
}

/// The typed storages of torch.
fn storage(name: &str) -> Option<ElementType> {
    Some(match name {
        "FloatStorage" => ElementType::F32,
        "HalfStorage" => ElementType::F16,
        "BFloat16Storage" => ElementType::BF16,
        "DoubleStorage" => ElementType::F64,
        "LongStorage" => ElementType::Other("int64"),
        "IntStorage" => ElementType::Other("int32"),
        "ShortStorage" => ElementType::Other("int16"),
        "CharStorage" => ElementType::Other("int8"),
        "ByteStorage" => ElementType::Other("uint8"),
        "BoolStorage" => ElementType::Other("bool"),
        "ComplexFloatStorage" => ElementType::Other("complex64"),
        "ComplexDoubleStorage" => ElementType::Other("complex128"),
        _ => return None,
    })
}

/// Other names of the module `torch`: its element types and a few value classes.
fn inert_torch(name: &str) -> Option<Class> {
    const NAMES: &[&str] = &[
        "Size",
        "device",
        "float32",
        "float",
        "float16",
        "half",
        "bfloat16",
        "float64",
        "double",
        "int8",
        "uint8",
        "int16",
        "int32",
        "int",
        "int64",
        "long",
        "bool",
        "complex64",
        "complex128",
        "strided",
        "contiguous_format",
        "preserve_format",
        "channels_last",
    ];
    NAMES.contains(&name).then_some(Class::Inert)
}

/// Classes of real checkpoints' hyper-parameters, callbacks and progress counters.
fn is_inert(module: &str, name: &str) -> bool {
    match module {
        "builtins" | "__builtin__" => matches!(
            name,
            "int"
                | "float"
                | "bool"
                | "str"
                | "bytes"
                | "bytearray"
                | "list"
                | "tuple"
                | "set"
                | "frozenset"
                | "complex"
                | "slice"
                | "range"
                | "object"
                | "long"
                | "unicode"
        ),
        "collections" => name == "deque",
        "datetime" => matches!(name, "datetime" | "date" | "time" | "timedelta" | "timezone"),
        "decimal" => name == "Decimal",
        "fractions" => name == "Fraction",
        "uuid" => name == "UUID",
        "enum" => matches!(name, "Enum" | "IntEnum"),
        "typing" => name == "Any",
        "pathlib" | "pathlib._local" => {
            matches!(name, "Path" | "PosixPath" | "WindowsPath" | "PurePath" | "PurePosixPath" | "PureWindowsPath")
        }
        "_codecs" => name == "encode",
        "copyreg" | "copy_reg" => name == "_reconstructor",
        "numpy" => matches!(name, "dtype" | "ndarray"),
        "numpy.dtypes" => name.ends_with("DType") && name.bytes().all(|b| b.is_ascii_alphanumeric()),
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "scalar" | "_reconstruct"),
        "torch.nn.parameter" => name == "Parameter",
        "torch.torch_version" => name == "TorchVersion",
        "torch.serialization" => name == "_get_layout",
        "omegaconf.dictconfig" => name == "DictConfig",
        "omegaconf.listconfig" => name == "ListConfig",
        "omegaconf.base" => matches!(name, "ContainerMetadata" | "Metadata"),
        "omegaconf.nodes" => matches!(
            name,
            "AnyNode" | "StringNode" | "IntegerNode" | "FloatNode" | "BooleanNode" | "PathNode" | "BytesNode"
        ),
        _ => false,
    }
}
