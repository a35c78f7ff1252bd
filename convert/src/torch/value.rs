//! The values of a pickle, and the memory that they take.

use super::classes::{Class, ElementType};

/// Bytes of a value, of an item and of an entry in a vector that grows by doubling.
pub(super) const VALUE: usize = 2 * size_of::<Value<'_>>();
pub(super) const ITEM: usize = 2 * size_of::<Id>();
pub(super) const ENTRY: usize = 2 * ITEM;
/// Bytes of a memo entry in a hash table that grows by doubling.
pub(super) const MEMO: usize = 24;
/// What the allocator adds to a block, and the least that it hands out.
pub(super) const BLOCK: usize = 32;

/// Index of a value in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(super) u32);

/// A value of the pickle. Strings borrow from it.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Int(i64),
    Float(f64),
    Str(&'a str),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    /// A dict, an OrderedDict, or the attributes of a Namespace.
    Dict(Vec<(Id, Id)>),
    Class(Class),
    Storage(Box<Storage<'a>>),
    Tensor(Box<TensorRef<'a>>),
    /// Anything that is allowed but that conversion does not need.
    Opaque,
}

impl Value<'_> {
    /// Bytes of its own on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let sizes = |sizes: &[u64]| BLOCK + size_of_val(sizes);
        match self {
            Value::Tuple(items) => BLOCK + size_of_val::<[Id]>(items),
            Value::List(items) => ITEM * items.len(),
            Value::Dict(pairs) => ENTRY * pairs.len(),
            Value::Storage(_) => BLOCK + size_of::<Storage<'_>>(),
            Value::Tensor(t) => BLOCK + size_of::<TensorRef<'_>>() + sizes(&t.shape) + sizes(&t.stride),
            _ => 0,
        }
    }
}

/// A storage: one entry of the zip file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage<'a> {
    pub(crate) ty: ElementType,
    /// Name of the entry below `data/`.
    pub(crate) key: &'a str,
    /// Length in elements.
    pub(crate) len: u64,
}

/// A tensor: a strided view of a storage, all numbers in elements.
#[derive(Clone, Debug)]
pub(crate) struct TensorRef<'a> {
    pub(crate) storage: Storage<'a>,
    pub(crate) offset: u64,
    pub(crate) shape: Vec<u64>,
    pub(crate) stride: Vec<u64>,
}
