//! Draws the tiny model `tiny.gguf` and compares the image with `tiny.golden`: the scalar kernels byte by byte, those
//! of every other instruction set that the machine has within [`TOLERANCE`], or [`ROUNDED`].
//!
//! The model has every kernel and weight type of a class-conditional network: the first block's matrices are int8,
//! the second's f16 and bf16. Its settings evaluate the guided and the unguided branch.
#![no_std]

use core::fmt;
use core::ops::ControlFlow;

use denoir_core::cpu::{Cpu, Isa};
use denoir_core::gguf::Gguf;
use denoir_core::jit::{JitModel, JitPlan};
use denoir_core::network::Plan;
use denoir_core::noise::Rng;
use denoir_core::sampler::Settings;
use denoir_core::{DType, Denoiser, Error, Job, Room, Serial};

/// Values of the image, `(3, 16, 16)`.
pub const VALUES: usize = 3 * 16 * 16;
/// Bytes of memory for everything; [`verify`] says how many of them the model needs.
pub const ARENA_BYTES: usize = 320 << 10;

/// How far the image of another instruction set may be from the golden one: root of the mean squared difference, over
/// that of the golden image. Other orders of sums give 5e-7 (measured); where one moves an int8 activation to its other
/// neighbour, a few 1e-4 are possible. A wrong kernel gives another image: above 1e-1.
pub const TOLERANCE: f32 = 1e-3;
/// The same where the instruction set rounds activations before bf16 and int8 layers to bf16, which gives 5.6e-3 (measured).
pub const ROUNDED: f32 = 2e-2;

const CLASS: u32 = 1;
const SEED: u64 = 42;

/// Why there is no image, or another one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// There is no image.
    Draw(Error),
    /// The scalar image is not the golden one.
    Differs {
        /// Index of the first byte that differs.
        byte: usize,
    },
    /// An instruction set's image is not within its tolerance of the golden one.
    Far {
        /// The instruction set.
        isa: &'static str,
        /// How far it is.
        rms: f32,
    },
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(e: E) -> Failure {
        Failure::Draw(e.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Draw(e) => e.fmt(f),
            Failure::Far { isa, rms } => {
                write!(f, "{isa}: the image is {} billionths from the golden one", billionths(*rms))
            }
            Failure::Differs { byte } => write!(f, "byte {byte} of the image differs from the golden one"),
        }
    }
}

impl core::error::Error for Failure {}

/// Draws one image on the calling thread, all of whose memory comes from `room`.
///
/// # Errors
/// [`Error`]
pub fn draw(file: &[u8], room: &mut Room<'_>, isa: Isa, image: &mut [f32]) -> Result<(), Error> {
    let gguf = Gguf::parse(file)?;
    let model = JitModel::read_into(&gguf, room.place()?)?;
    let plan = JitPlan::new(model, 1, isa.precision())?;
    let scratch = room.bytes(isa.scratch_bytes(plan.head_dim(), plan.int8(), 1))?;
    let cpu = Cpu::new(file, room.bytes(plan.arena_bytes)?, &Serial, isa)?.with_scratch(scratch);
    let settings = Settings::from_gguf(&gguf)?;
    let job = Job { settings: &settings, condition: &[CLASS][..], seeds: &[SEED], rng: Rng::Torch };
    Denoiser::new(model, plan, cpu)?.generate(&job, image, &mut |_| ControlFlow::Continue(()))?;
    Ok(())
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
    let mut used = 0;
    for isa in Isa::available() {
        let mut room = Room::new(arena);
        let all = room.left();
        let image: &mut [f32; VALUES] = room.place()?.write([0.0; VALUES]);
        draw(file, &mut room, isa, image)?;
        used = used.max(all - room.left());
        let bytes = image.iter().flat_map(|x| x.to_le_bytes());
        // A golden of another length differs at its end, or past it.
        let byte = bytes.zip(golden).take_while(|(ours, theirs)| ours == *theirs).count();
        let equal = byte == VALUES * 4 && byte == golden.len();
        let rms = rms(image, golden);
        seen(isa.name(), rms);
        if isa == Isa::SCALAR && !equal {
            return Err(Failure::Differs { byte });
        }
        // The image is finite, `generate` sees to that, and so is this.
        let tolerance = if isa.precision().bf16 == DType::BF16 { ROUNDED } else { TOLERANCE };
        if rms > tolerance {
            return Err(Failure::Far { isa: isa.name(), rms });
        }
    }
    Ok(used)
}

/// For messages: to print floats takes 20 KB of a small program.
pub fn billionths(rms: f32) -> u32 {
    (rms * 1e9) as u32
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
