//! Tiers: the levels of device features that the kernels use.

use denoir_core::DType;
use denoir_core::Precision;

/// A level of device features. Each can be forced; opening a device compares each with the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Vulkan 1.1 and f32; everything else is unpacked in the shader.
    Floor,
    /// 16-bit values in registers and shared memory; sums stay f32, but for bf16 layers where f16 is faster.
    Fp16,
    /// Integer dot products for int8.
    Int8,
    /// `VK_KHR_cooperative_matrix` for f16, bf16 as f16, and int8, in the shapes that the device lists.
    Matrix,
}

impl Tier {
    /// All tiers, the floor first.
    pub const ALL: [Tier; 4] = [Tier::Floor, Tier::Fp16, Tier::Int8, Tier::Matrix];

    /// The name that reports and options use.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Floor => "floor",
            Tier::Fp16 => "fp16",
            Tier::Int8 => "int8-dot",
            Tier::Matrix => "cooperative-matrix",
        }
    }

    /// The tier of this name.
    pub fn from_name(name: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|t| t.name() == name)
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a tier that a device claims is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// A kernel of it gives wrong results.
    Wrong,
    /// The driver does not compile a kernel of it.
    NotCompiled,
    /// The device was lost while a kernel of it ran.
    Lost,
    /// Its linear layers are slower than those of the tiers below.
    Slow,
}

impl std::fmt::Display for Unused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unused::Wrong => "computes wrongly",
            Unused::NotCompiled => "does not compile its kernels",
            Unused::Lost => "crashes",
            Unused::Slow => "is slower",
        })
    }
}

/// The tiers in use: the floor always, others if the device supports them and computes correctly with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiers {
    pub(crate) fp16: bool,
    /// Whether bf16 layers are multiplied in f16, two products at a time; part of [`Tier::Fp16`].
    pub(crate) packed: bool,
    pub(crate) int8: bool,
    pub(crate) matrix: Option<Matrix>,
}

/// The cooperative matrix shapes that the kernels use; `None` if the device lists no usable one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matrix {
    /// (M, N, K) of f16 · f16 + f32.
    pub(crate) f16: Option<[u32; 3]>,
    /// (M, N, K) of s8 · s8 + s32.
    pub(crate) int8: Option<[u32; 3]>,
    /// Invocations that share a matrix.
    pub(crate) subgroup: u32,
}

impl Tiers {
    /// Returns whether these include a tier.
    pub fn has(&self, tier: Tier) -> bool {
        match tier {
            Tier::Floor => true,
            Tier::Fp16 => self.fp16,
            Tier::Int8 => self.int8,
            Tier::Matrix => self.matrix.is_some(),
        }
    }

    /// The activation types that suit these tiers; bf16 pays off only with matrices or packed products.
    pub(crate) fn precision(&self) -> Precision {
        let if_has = |has, dtype| if has { dtype } else { DType::F32 };
        let matrices = self.matrix.is_some_and(|matrix| matrix.f16.is_some());
        Precision {
            f16: if_has(self.fp16, DType::F16),
            bf16: if_has(matrices || self.packed, DType::BF16),
            centred: false,
            fused_swiglu: false,
            rounded_qkv: false,
            rounded_rows: false,
            streamed: true,
        }
    }

    /// The tiers, the floor first.
    pub fn list(&self) -> impl Iterator<Item = Tier> + '_ {
        Tier::ALL.into_iter().filter(|&t| self.has(t))
    }

    /// These tiers up to the given one.
    #[must_use]
    pub(crate) fn up_to(self, tier: Tier) -> Tiers {
        Tiers {
            fp16: self.fp16 && tier >= Tier::Fp16,
            packed: self.packed && tier >= Tier::Fp16,
            int8: self.int8 && tier >= Tier::Int8,
            matrix: self.matrix.filter(|_| tier >= Tier::Matrix),
        }
    }

    /// These tiers with only these of their matrices.
    #[must_use]
    pub(crate) fn with_matrices(self, f16: bool, int8: bool) -> Tiers {
        let some =
            |matrix: Matrix| Matrix { f16: matrix.f16.filter(|_| f16), int8: matrix.int8.filter(|_| int8), ..matrix };
        Tiers { matrix: self.matrix.map(some).filter(|matrix| matrix.f16.is_some() || matrix.int8.is_some()), ..self }
    }

    /// These tiers without the given one.
    #[must_use]
    pub(crate) fn without(self, tier: Tier) -> Tiers {
        match tier {
            Tier::Floor => self,
            Tier::Fp16 => Tiers { fp16: false, packed: false, ..self },
            Tier::Int8 => Tiers { int8: false, ..self },
            Tier::Matrix => Tiers { matrix: None, ..self },
        }
    }
}
