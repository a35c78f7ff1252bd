//! What the crate's features leave in. These are constants, not `cfg`s: every build compiles the same code, and what is
//! left out is never reached.

use crate::DType;

/// f16 weights.
pub(crate) const F16: bool = cfg!(feature = "f16");
/// bf16 weights.
pub(crate) const BF16: bool = cfg!(feature = "bf16");
/// int8 weights and activations.
pub(crate) const INT8: bool = cfg!(feature = "int8");
/// Kernels that only text networks use.
pub(crate) const TEXT: bool = cfg!(feature = "text");
/// 16-bit activations. Only instruction sets that multiply vectors of them gain by them.
pub(crate) const NARROW: bool = cfg!(feature = "simd");

/// Rather less code than fewer instructions: without vectors speed is not what a program is built for.
pub(crate) const SMALL: bool = !cfg!(feature = "simd");

/// Why a kernel of text networks is refused.
pub(crate) const NEEDS_TEXT: &str = "needs the crate's feature `text`";

/// Why a matrix of this type, of weights or of activations, is refused.
pub(crate) const fn missing(dtype: DType, weights: bool) -> Option<&'static str> {
    match dtype {
        DType::F16 | DType::BF16 if !weights && !NARROW => Some("16-bit activations need the crate's feature `simd`"),
        DType::F16 if !F16 => Some("f16 needs the crate's feature `f16`"),
        DType::BF16 if !BF16 => Some("bf16 needs the crate's feature `bf16`"),
        DType::I8 if !INT8 => Some("int8 needs the crate's feature `int8`"),
        _ => None,
    }
}
