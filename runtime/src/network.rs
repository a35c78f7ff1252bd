use std::mem::MaybeUninit;

use denoir_core::Precision;
#[cfg(feature = "cuda")]
use denoir_core::View;
use denoir_core::backend::{Backend, TapFn, Tapped};
use denoir_core::cpu::Isa;
use denoir_core::gguf::{Gguf, Name, keys};
use denoir_core::jit::JitModel;
use denoir_core::network::{Network, Plan};
use denoir_core::plan::PlanError;
use denoir_core::t2i::T2iModel;
use denoir_core::{DType, Denoiser, ModelError, RunError, Weight};

use crate::bytes::reserved;
use crate::denoise::Conditioned;
use crate::{AlignedBytes, Denoise, Error};

/// The networks that denoir runs.
#[derive(Clone, Debug)]
pub enum AnyNetwork {
    /// JiT and PixelGen, class-conditional.
    Jit(Box<JitModel>),
    /// PixelGen, text to image.
    T2i(Box<T2iModel>),
}

/// Evaluates one expression for whichever network it is.
macro_rules! each {
    ($network:expr, $n:ident => $value:expr) => {
        match $network {
            AnyNetwork::Jit($n) => $value,
            AnyNetwork::T2i($n) => $value,
        }
    };
}

impl AnyNetwork {
    /// Reads the network of a model file.
    ///
    /// # Errors
    /// [`ModelError`] if denoir does not run the architecture or the file lacks something.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<AnyNetwork, ModelError> {
        match gguf.string(keys::ARCHITECTURE)? {
            keys::ARCH_JIT => boxed(gguf, JitModel::read_into).map(AnyNetwork::Jit),
            keys::ARCH_T2I => boxed(gguf, T2iModel::read_into).map(AnyNetwork::T2i),
            other => {
                let name: Name = other.chars().take(16).filter(char::is_ascii).collect();
                Err(ModelError::Architecture(name))
            }
        }
    }

    /// The value of `general.architecture`.
    pub const fn architecture(&self) -> &'static str {
        match self {
            AnyNetwork::Jit(_) => keys::ARCH_JIT,
            AnyNetwork::T2i(_) => keys::ARCH_T2I,
        }
    }

    /// Colour channels.
    pub const fn channels(&self) -> usize {
        each!(self, n => n.config.channels)
    }

    /// Height and width of an image, in pixels.
    pub const fn input_size(&self) -> usize {
        each!(self, n => n.config.input_size)
    }

    /// Number of values in an image.
    pub fn pixels(&self) -> usize {
        each!(self, n => n.pixels())
    }

    /// Number of classes without the null class; 0 for a text-to-image network.
    pub const fn classes(&self) -> usize {
        match self {
            AnyNetwork::Jit(n) => n.config.classes,
            AnyNetwork::T2i(_) => 0,
        }
    }

    /// Number and width of a prompt embedding's tokens, for a text-to-image network.
    pub const fn text_size(&self) -> Option<(usize, usize)> {
        match self {
            AnyNetwork::Jit(_) => None,
            AnyNetwork::T2i(n) => Some((n.config.text_length, n.config.text_width)),
        }
    }

    /// The type of most weights.
    pub fn weight_type(&self) -> DType {
        each!(self, n => n.weight_type())
    }

    /// Floating-point operations of one evaluation of one image without adaLN; a multiply-add counts as two.
    pub fn flop(&self) -> u64 {
        each!(self, n => n.config.flop())
    }

    /// Bytes of activations for a batch of `batch` images on a backend with this precision.
    ///
    /// # Errors
    /// [`PlanError`] for an unusable batch, or sizes beyond the address space.
    pub fn arena_bytes(&self, batch: usize, precision: Precision) -> Result<usize, PlanError> {
        each!(self, n => n.plan(batch, precision).map(|plan| plan.arena_bytes()))
    }

    /// Bytes that the processor's kernels work in.
    pub(crate) fn scratch_bytes(&self, batch: usize, isa: Isa, threads: usize) -> Result<usize, PlanError> {
        each!(self, n => n.plan(batch, isa.precision()).map(|plan| isa.scratch_bytes(plan.head_dim(), plan.int8(), threads)))
    }

    /// Number of time points whose modulation vectors are computed together.
    pub(crate) fn chunk_times(&self, batch: usize, precision: Precision) -> Result<usize, PlanError> {
        each!(self, n => n.plan(batch, precision).map(|plan| plan.modulation().chunk_times))
    }

    /// Where a denoiser for a batch of `batch` images leaves the first `count` of them.
    #[cfg(feature = "cuda")]
    pub(crate) fn images(&self, batch: usize, precision: Precision, count: usize) -> Result<View, PlanError> {
        each!(self, n => n.plan(batch, precision).map(|plan| plan.trajectory().x.rows_from(0, count)))
    }

    /// Calls `f` with a denoiser for up to `batch` images, on a backend that has the model file and an arena of
    /// [`AnyNetwork::arena_bytes`].
    ///
    /// # Errors
    /// Those of [`Denoiser::new`] and of `f`.
    pub fn with_denoiser<B: Backend, T, E: From<Error>>(
        &self,
        batch: usize,
        backend: B,
        f: impl FnOnce(&mut dyn Denoise) -> Result<T, E>,
    ) -> Result<T, E>
    where
        Error: From<RunError<B::Error>>,
    {
        each!(self, n => f(&mut denoiser(&**n, batch, backend)?))
    }

    /// Like [`AnyNetwork::with_denoiser`], but also shows every intermediate tensor to `tap`, if given.
    pub(crate) fn with_tapped<B: Backend, T>(
        &self,
        batch: usize,
        backend: B,
        tap: Option<&mut TapFn<'_>>,
        f: impl FnOnce(&mut dyn Denoise) -> Result<T, Error>,
    ) -> Result<T, Error>
    where
        Error: From<RunError<B::Error>>,
    {
        let mut scratch = AlignedBytes::zeroed(if tap.is_some() { backend.bounds().arena } else { 0 })?;
        self.with_denoiser(batch, Tapped::new(backend, tap, scratch.as_mut_slice()), f)
    }

    /// The matrices that every evaluation reads.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn matrices(&self) -> Result<Vec<Weight>, Error> {
        each!(self, n => {
            let mut matrices = reserved(n.matrices().count())?;
            matrices.extend(n.matrices());
            Ok(matrices)
        })
    }
}

fn denoiser<B: Backend, N: Conditioned>(network: &N, batch: usize, backend: B) -> Result<Denoiser<'_, B, N>, Error>
where
    Error: From<RunError<B::Error>>,
{
    let plan = network.plan(batch, backend.precision())?;
    Ok(Denoiser::new(network, plan, backend)?)
}

/// Reads a model on the heap, where it stays: it is large, and the caller's stack may be small.
///
/// # Errors
/// Those of `read`; [`ModelError::TooLarge`] if there is no memory.
pub(crate) fn boxed<N>(gguf: &Gguf<'_>, read: ReadInto<N>) -> Result<Box<N>, ModelError> {
    // A vector may be refused its memory, a box may not.
    let mut models = reserved::<N>(1).map_err(|_| ModelError::TooLarge)?;
    let [slot, ..] = models.spare_capacity_mut() else { return Err(ModelError::TooLarge) };
    let at: *const N = slot.as_ptr();
    let model: *const N = read(gguf, slot)?;
    assert!(std::ptr::eq(model, at));
    // SAFETY: `read` returned a reference to a model in the slot.
    unsafe { models.set_len(1) };
    let model = Box::into_raw(models.into_boxed_slice());
    // SAFETY: a box of one model has the layout of a box of a slice of one.
    Ok(unsafe { Box::from_raw(model.cast::<N>()) })
}

/// [`JitModel::read_into`] and the like.
type ReadInto<N> = for<'s> fn(&Gguf<'_>, &'s mut MaybeUninit<N>) -> Result<&'s mut N, ModelError>;
