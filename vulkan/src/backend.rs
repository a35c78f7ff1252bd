//! The backend: recorded programs.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use denoir_core::Precision;
use denoir_core::backend::{Backend, ModelFile, Program};
use denoir_core::ops::{Bounds, Op};

use crate::device::Device;
use crate::launch::Launcher;
use crate::pipelines::Pipelines;
use crate::recording::Recording;
use crate::tier::Tiers;
use crate::timers::KernelTime;
use crate::{Error, kernels};

/// Target time of a submission in seconds, and the limit above which its program is split again; both are below
/// watchdog limits.
const SUBMISSION_SECONDS: f64 = 0.1;
const LONGEST_SECONDS: f64 = 0.2;
/// Maximum number of times a backend splits again: a kernel with one long workgroup cannot be split.
const CORRECTIONS: u32 = 8;

/// The backend for a Vulkan device.
pub struct Vulkan {
    programs: HashMap<Program, Recording>,
    launcher: Launcher,
    /// Time limit of a submission in seconds.
    longest: f64,
    corrections: u32,
    /// The last submission.
    last: Option<Program>,
}

impl Vulkan {
    pub(crate) fn new(
        device: &Arc<Device>,
        pipelines: &Arc<Mutex<Pipelines>>,
        tiers: Tiers,
        flop_per_second: f64,
        file: Arc<dyn ModelFile>,
        arena_bytes: usize,
    ) -> Result<Vulkan, Error> {
        let most_flop = (flop_per_second * SUBMISSION_SECONDS) as u64;
        let launcher = Launcher::new(device, pipelines, tiers, most_flop, file, arena_bytes)?;
        Ok(Vulkan { programs: HashMap::new(), launcher, longest: LONGEST_SECONDS, corrections: 0, last: None })
    }

    fn device(&self) -> &Device {
        self.launcher.device()
    }

    /// Bytes of memory that all backends on the device hold now.
    pub fn allocated_bytes(&self) -> u64 {
        self.device().allocated.load(Ordering::Relaxed)
    }

    /// Splits future programs into submissions of at most this many floating-point operations, and splits them again if
    /// one is measured to take longer than this. The defaults are the work that the device is expected to do in 0.1 s,
    /// and 0.2 s: operating systems reset devices whose submissions take seconds.
    pub fn limit_submissions(&mut self, flop: u64, longest: Duration) {
        (self.launcher.most_flop, self.longest) = (flop.max(1), longest.as_secs_f64());
    }

    /// Turns timing of every kernel in future programs on or off. Timed kernels do not overlap.
    ///
    /// # Errors
    /// [`Error`] of the device; the call waits for it.
    pub fn set_timed(&mut self, timed: bool) -> Result<(), Error> {
        self.device().wait_idle()?;
        self.programs.clear();
        (self.launcher.timed, self.last) = (timed, None);
        Ok(())
    }

    /// Returns the times of the last program's kernels, longest first; empty unless they were timed.
    ///
    /// # Errors
    /// [`Error`] of the device; the call waits for it.
    pub fn kernel_times(&self) -> Result<Vec<KernelTime>, Error> {
        self.device().wait_idle()?;
        let last = self.last.and_then(|program| self.programs.get(&program));
        last.map_or(Ok(Vec::new()), Recording::times)
    }

    /// Returns whether a recorded program's submissions took too long; future programs are then split finer.
    fn is_too_coarse(&mut self, program: Program) -> Result<bool, Error> {
        let compiled = |recording: &&Recording| recording.runs > 1 || !self.device().about.is_processor();
        let recording = self.programs.get(&program).filter(compiled).filter(|_| self.corrections < CORRECTIONS);
        let Some((seconds, flop)) = recording.map_or(Ok(None), Recording::longest)? else { return Ok(false) };
        let too_long = seconds > self.longest;
        if too_long {
            let share = SUBMISSION_SECONDS / LONGEST_SECONDS * self.longest / seconds;
            self.launcher.most_flop = self.launcher.most_flop.min((flop as f64 * share) as u64).max(1);
            self.corrections += 1;
        }
        Ok(too_long)
    }
}

// SAFETY: the bounds are the sizes that the buffers were made with.
unsafe impl Backend for Vulkan {
    type Error = Error;

    fn precision(&self) -> Precision {
        self.launcher.tiers.precision()
    }

    fn bounds(&self) -> Bounds {
        Bounds { weights: self.launcher.weights.file_bytes(), arena: self.launcher.arena.len() }
    }

    fn begin(&mut self, program: Program) -> Result<bool, Error> {
        // What a failure left behind.
        self.launcher.close_recording();
        if self.programs.contains_key(&program) {
            if !self.is_too_coarse(program)? {
                return Ok(false);
            }
            // It may be under way.
            self.device().wait_idle()?;
            self.programs.remove(&program);
        }
        match program.is_recorded() {
            true => self.launcher.open_recording()?,
            false => self.launcher.weights.stream(true),
        }
        Ok(true)
    }

    unsafe fn kernel(&mut self, op: &Op) -> Result<(), Error> {
        let on = &mut self.launcher;
        match op {
            Op::Linear(op) => kernels::linear::launch(on, op),
            Op::ClassCondition(op) => kernels::class_condition::launch(on, op),
            Op::ContextTokens(op) => kernels::context_tokens::launch(on, op),
            Op::Patchify(op) => kernels::patchify::launch(on, op),
            Op::Unpatchify(op) => kernels::unpatchify::launch(on, op),
            Op::NormModulate(op) => kernels::norm_modulate::launch(on, op),
            Op::RmsNorm(op) => kernels::rms_norm::launch(on, op),
            Op::LayerNorm(op) => kernels::layer_norm::launch(on, op),
            Op::QkNormRope(op) => kernels::qk_norm_rope::launch(on, op),
            Op::Attention(op) => kernels::attention::launch(on, op),
            Op::CausalAttention(op) => kernels::causal_attention::launch(on, op),
            Op::Swiglu(op) => kernels::swiglu::launch(on, op),
            Op::QuantizeRows(op) => kernels::quantize_rows::launch(on, op),
            Op::GatherRows(op) => kernels::gather_rows::launch(on, op),
            Op::DequantizeBlocks(op) => kernels::dequantize_blocks::launch(on, op),
            Op::SolverStep(op) => kernels::solver_step::launch(on, op),
        }
    }

    fn submit(&mut self, program: Program) -> Result<(), Error> {
        if let Some(mut recording) = self.launcher.close_recording() {
            recording.finish()?;
            self.programs.insert(program, recording);
        }
        if let Some(recording) = self.programs.get_mut(&program) {
            self.launcher.stream.submit(&recording.segments)?;
            recording.runs += 1;
            self.last = Some(program);
        }
        Ok(())
    }

    unsafe fn upload(&mut self, at: usize, bytes: &[u8]) -> Result<(), Error> {
        self.launcher.stream.write(self.launcher.arena.raw, at, bytes)
    }

    unsafe fn download(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), Error> {
        self.launcher.stream.read(self.launcher.arena.raw, at, bytes)
    }
}

impl Drop for Vulkan {
    fn drop(&mut self) {
        // A lost device has nothing under way either.
        let _ = self.device().wait_idle();
        self.launcher.pipelines().save();
    }
}

impl std::fmt::Debug for Vulkan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tiers = self.launcher.tiers;
        f.debug_struct("Vulkan").field("device", self.device()).field("tiers", &tiers).finish_non_exhaustive()
    }
}
