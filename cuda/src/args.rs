//! Kernel arguments: the twins of the structures in `kernels/types.cuh` and of each kernel's own.

use bytemuck::{Pod, Zeroable};
use denoir_core::{DType, TokenLayout};

/// A matrix whose element type the kernel knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Matrix {
    /// Address; 0 if absent.
    pub(crate) at: u64,
    /// Elements from one row to the next.
    pub(crate) stride: u32,
    pub(crate) rows: u32,
}

/// A matrix whose element type is an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AnyMatrix {
    pub(crate) at: u64,
    /// Elements from one row to the next.
    pub(crate) stride: u32,
    /// Type number of `types.cuh`.
    pub(crate) dtype: u32,
}

/// The three numbers of a token layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Tokens {
    pub(crate) images: u32,
    pub(crate) image_tokens: u32,
    pub(crate) context_tokens: u32,
}

impl From<&TokenLayout> for Tokens {
    fn from(layout: &TokenLayout) -> Tokens {
        Tokens {
            images: word(layout.images),
            image_tokens: word(layout.image_tokens),
            context_tokens: word(layout.context_tokens),
        }
    }
}

/// Converts a number for the kernels. One that does not fit was rejected together with its operand.
pub(crate) fn word(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Returns the type number of `types.cuh`.
pub(crate) const fn element_type(dtype: DType) -> u32 {
    match dtype {
        DType::F32 | DType::U32 => 0,
        DType::F16 => 1,
        DType::BF16 => 2,
        DType::I8 => 3,
    }
}

/// Declares a kernel's argument: its size, which the source asserts too, and its fields, whose names and order a test
/// compares with the source. `Pod` rejects gaps.
macro_rules! arguments {
    ($name:ident, $size:literal, { $($field:ident: $kind:ty,)* }) => {
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        pub(crate) struct $name {
            $(pub(crate) $field: $kind,)*
        }

        const _: () = assert!(size_of::<$name>() == $size && $size <= 8 * crate::stream::ARGUMENT_WORDS);

        #[cfg(test)]
        impl $name {
            /// Names, offsets and sizes.
            pub(crate) const FIELDS: &[(&str, usize, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field), size_of::<$kind>())),*];
        }
    };
}
pub(crate) use arguments;
