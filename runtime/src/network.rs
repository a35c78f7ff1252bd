use denoir_core::DType;
use denoir_core::gguf::{Gguf, Name, keys};
use denoir_core::jit::JitModel;
use denoir_core::t2i::T2iModel;
use denoir_core::{ModelError, Network as _, Weight};

/// The networks that denoir runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Network {
    /// JiT and PixelGen, class-conditional.
    Jit(Box<JitModel>),
    /// PixelGen, text to image.
    T2i(Box<T2iModel>),
}

impl Network {
    /// The network of a model file.
    ///
    /// # Errors
    /// [`ModelError`] for an architecture that denoir does not run, or a file that lacks something.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Network, ModelError> {
        match gguf.string(keys::ARCHITECTURE)? {
            keys::ARCH_JIT => boxed(gguf, JitModel::from_gguf).map(Network::Jit),
            keys::ARCH_T2I => boxed(gguf, T2iModel::from_gguf).map(Network::T2i),
            other => {
                let name: Name = other.chars().take(16).filter(char::is_ascii).collect();
                Err(ModelError::Architecture(name))
            }
        }
    }

    /// `general.architecture`.
    pub const fn architecture(&self) -> &'static str {
        match self {
            Network::Jit(_) => keys::ARCH_JIT,
            Network::T2i(_) => keys::ARCH_T2I,
        }
    }

    /// Colour channels.
    pub const fn channels(&self) -> usize {
        match self {
            Network::Jit(m) => m.config.channels,
            Network::T2i(m) => m.config.channels,
        }
    }

    /// Height and width of an image in pixels.
    pub const fn input_size(&self) -> usize {
        match self {
            Network::Jit(m) => m.config.input_size,
            Network::T2i(m) => m.config.input_size,
        }
    }

    /// Values of an image.
    pub fn pixels(&self) -> usize {
        match self {
            Network::Jit(m) => m.pixels(),
            Network::T2i(m) => m.pixels(),
        }
    }

    /// Classes, the null class not among them; 0 for a network that draws from a text.
    pub const fn classes(&self) -> usize {
        match self {
            Network::Jit(m) => m.config.classes,
            Network::T2i(_) => 0,
        }
    }

    /// Tokens of a text and the width of each, for a network that draws from one.
    pub const fn text_size(&self) -> Option<(usize, usize)> {
        match self {
            Network::Jit(_) => None,
            Network::T2i(m) => Some((m.config.text_length, m.config.text_width)),
        }
    }

    /// The matrices that every evaluation reads.
    pub(crate) fn matrices(&self) -> Vec<Weight> {
        match self {
            Network::Jit(m) => m.matrices().collect(),
            Network::T2i(m) => m.matrices().collect(),
        }
    }

    /// The matrices of the modulation, which are read once for many evaluations.
    pub(crate) fn modulation_matrices(&self) -> Vec<&Weight> {
        match self {
            Network::Jit(m) => m.modulation_matrices().collect(),
            Network::T2i(m) => m.modulation_matrices().collect(),
        }
    }

    /// The type of most of the weights.
    pub fn weight_type(&self) -> DType {
        match self {
            Network::Jit(m) => m.weight_type(),
            Network::T2i(m) => m.weight_type(),
        }
    }

    /// Floating-point operations of one evaluation of one image without adaLN, two for a multiply-add.
    pub fn flop(&self) -> u64 {
        match self {
            Network::Jit(m) => m.config.flop(),
            Network::T2i(m) => m.config.flop(),
        }
    }
}

/// A model in memory of its own. They are large, and callers' stacks may be small: so each passes through a frame that is
/// gone by the time the next is needed.
#[inline(never)]
pub(crate) fn boxed<N>(gguf: &Gguf<'_>, read: fn(&Gguf<'_>) -> Result<N, ModelError>) -> Result<Box<N>, ModelError> {
    Ok(Box::write(Box::new_uninit(), read(gguf)?))
}
