//! Draws the tiny model `tiny.gguf` and compares the image with `tiny.golden`: the scalar kernels byte by byte, those of
//! every other instruction set that the machine has within [`TOLERANCE`].
//!
//! The model has every kernel and weight type of a class-conditional network: the first block's matrices are int8,
//! the second's f16 and bf16. Its settings evaluate the guided and the unguided branch.
#![no_std]

use core::convert::Infallible;
use core::fmt;
use core::ops::ControlFlow;

use denoir_core::cpu::{Cpu, Isa, Misaligned};
use denoir_core::gguf::Gguf;
use denoir_core::jit::{JitModel, JitPlan, PlanError};
use denoir_core::noise::Rng;
use denoir_core::ops::OpError;
use denoir_core::sampler::{Settings, SettingsError};
use denoir_core::{Denoiser, Job, ModelError, RunError, Serial};

/// Values of the image, `(3, 16, 16)`.
pub const VALUES: usize = 3 * 16 * 16;
/// Bytes of memory for activations; [`draw`] says how many of them the model needs.
pub const ARENA_BYTES: usize = 256 << 10;

/// How far the image of another instruction set may be from the golden one: root of the mean squared difference, over
/// that of the golden image. Other orders of sums give 5e-7 (measured); where one moves an int8 activation to its other
/// neighbour, a few 1e-4 are possible. A wrong kernel gives another image: above 1e-1.
pub const TOLERANCE: f32 = 1e-3;

const CLASS: u32 = 1;
const SEED: u64 = 42;

/// Bytes where core wants a model file and an arena to start.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Aligned<T: ?Sized>(
    /// The bytes.
    pub T,
);

/// Why there is no image, or another one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The file holds no model.
    Model(ModelError),
    /// The file's settings make no sampler.
    Settings(SettingsError),
    /// The model has no plan for one image.
    Plan(PlanError),
    /// The arena is too small.
    Arena {
        /// Bytes needed.
        needed: usize,
    },
    /// The file or the arena starts at no multiple of 64.
    Misaligned(Misaligned),
    /// A kernel failed.
    Op(OpError<Infallible>),
    /// Sampling failed.
    Run(RunError<Infallible>),
    /// The scalar image is not the golden one.
    Differs {
        /// Index of the first byte that differs.
        byte: usize,
    },
    /// An instruction set's image is not within [`TOLERANCE`] of the golden one.
    Far {
        /// The instruction set.
        isa: &'static str,
        /// How far it is.
        rms: f32,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Model(e) => e.fmt(f),
            Failure::Settings(e) => e.fmt(f),
            Failure::Plan(e) => e.fmt(f),
            Failure::Arena { needed } => write!(f, "the model needs {needed} bytes of memory"),
            Failure::Misaligned(e) => e.fmt(f),
            Failure::Op(e) => e.fmt(f),
            Failure::Run(e) => e.fmt(f),
            Failure::Far { isa, rms } => write!(f, "{isa}: the image is {rms:e} from the golden one"),
            Failure::Differs { byte } => write!(f, "byte {byte} of the image differs from the golden one"),
        }
    }
}

impl core::error::Error for Failure {}

/// Draws one image on the calling thread; the bytes of the arena that this takes.
///
/// # Errors
/// [`Failure`]
pub fn draw(file: &[u8], arena: &mut [u8], isa: Isa, image: &mut [f32; VALUES]) -> Result<usize, Failure> {
    let gguf = Gguf::parse(file).map_err(|e| Failure::Model(e.into()))?;
    let model = JitModel::from_gguf(&gguf).map_err(Failure::Model)?;
    let settings = Settings::from_gguf(&gguf).map_err(Failure::Settings)?;
    let plan = JitPlan::new(&model, 1, isa.precision()).map_err(Failure::Plan)?;
    let needed = plan.arena_bytes;
    let arena = arena.get_mut(..needed).ok_or(Failure::Arena { needed })?;
    let cpu = Cpu::new(file, arena, Serial, isa).map_err(Failure::Misaligned)?;
    let mut denoiser = Denoiser::new(&model, plan, cpu).map_err(Failure::Op)?;
    let job = Job { settings: &settings, condition: &[CLASS][..], seeds: &[SEED], rng: Rng::Torch };
    denoiser.generate(&job, image, &mut |_| ControlFlow::Continue(())).map_err(Failure::Run)?;
    Ok(needed)
}

/// Draws the image with every instruction set and compares it with the golden one, little-endian f32. `seen` is told
/// each instruction set and how far its image is; the bytes of the arena that this takes.
///
/// # Errors
/// [`Failure`]
pub fn verify(
    file: &[u8],
    golden: &[u8],
    arena: &mut [u8],
    seen: &mut dyn FnMut(&'static str, f32),
) -> Result<usize, Failure> {
    let mut image = [0.0; VALUES];
    let mut used = 0;
    for isa in Isa::available() {
        used = draw(file, arena, isa, &mut image)?;
        let bytes = image.iter().flat_map(|x| x.to_le_bytes());
        // A golden of another length differs at its end, or past it.
        let byte = bytes.zip(golden).take_while(|(ours, theirs)| ours == *theirs).count();
        let equal = byte == VALUES * 4 && byte == golden.len();
        let rms = rms(&image, golden);
        seen(isa.name(), rms);
        if isa == Isa::SCALAR && !equal {
            return Err(Failure::Differs { byte });
        }
        // The image is finite, `generate` sees to that, and so is this.
        if rms > TOLERANCE {
            return Err(Failure::Far { isa: isa.name(), rms });
        }
    }
    Ok(used)
}

/// See [`TOLERANCE`].
fn rms(image: &[f32; VALUES], golden: &[u8]) -> f32 {
    let (golden, _) = golden.as_chunks::<4>();
    let mut sums = [0.0f32; 2];
    for (ours, golden) in image.iter().zip(golden) {
        let golden = f32::from_le_bytes(*golden);
        sums[0] += (ours - golden) * (ours - golden);
        sums[1] += golden * golden;
    }
    libm::sqrtf(sums[0] / sums[1])
}
