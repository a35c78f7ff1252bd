//! What a network is to the sampling loop.

use crate::backend::{Backend, OpError, Recorder};
use crate::models::plan::{ModulationPlan, PlanError, Trajectory};
use crate::tensor::Precision;

/// Where a network's activations lie.
pub trait Plan: Copy + core::fmt::Debug {
    /// Bytes of the arena.
    fn arena_bytes(&self) -> usize;
    /// The activation types that it was made for.
    fn precision(&self) -> Precision;
    /// The sampler's buffers.
    fn trajectory(&self) -> &Trajectory;
    /// The modulation vectors.
    fn modulation(&self) -> &ModulationPlan;
    /// The same plan for the first `images` images of the batch.
    #[must_use]
    fn of_images(&self, images: usize) -> Self;
}

/// A network that predicts the clean image. [`Denoiser`](crate::Denoiser) drives it through a sampler.
///
/// Whatever depends on the time alone goes through the modulation table: [`Network::modulate`] makes it for a chunk of
/// time points, one row for each time and each *variant*, of which a job has a fixed number (the distinct labels; 1
/// where nothing but the time counts).
pub trait Network {
    /// Where its activations lie.
    type Plan: Plan;
    /// What the images of a job are conditioned on.
    type Condition<'c>: Copy;
    /// What it remembers of a condition.
    type Session;

    /// Longest period of the timestep embedding; t itself stays in [0, 1].
    const MAX_PERIOD: f64;

    /// Values of an image.
    fn pixels(&self) -> usize;

    /// Plans the activations of `batch` images.
    ///
    /// # Errors
    /// [`PlanError`] for an invalid batch size, or sizes beyond the address space.
    fn plan(&self, batch: usize, precision: Precision) -> Result<Self::Plan, PlanError>;

    /// Images that a condition is for.
    fn images(condition: Self::Condition<'_>) -> usize;

    /// Writes what never changes: the rotation table.
    ///
    /// # Errors
    /// Errors of the backend.
    fn write_constants<B: Backend>(&self, plan: &Self::Plan, backend: &mut B) -> Result<(), OpError<B::Error>>;

    /// Checks a condition for these branches.
    ///
    /// # Errors
    /// [`ConditionError`] for one that there is not.
    fn check(&self, condition: Self::Condition<'_>, branches: Branches) -> Result<(), ConditionError>;

    /// Brings a condition that was checked, of no more images than the plan has room for, to the device.
    ///
    /// # Errors
    /// Errors of the backend.
    fn begin<B: Backend>(
        &self,
        plan: &Self::Plan,
        backend: &mut B,
        condition: Self::Condition<'_>,
        branches: Branches,
    ) -> Result<Self::Session, OpError<B::Error>>;

    /// Rows of the modulation table for one time point.
    fn variants(session: &Self::Session) -> usize;

    /// Which of them image `image` of a pass uses; those of the null branch come after the job's.
    fn variant(session: &Self::Session, image: usize) -> usize;

    /// Makes `times` · `variants` rows of the modulation table from the sinusoids in the plan.
    ///
    /// # Errors
    /// Errors of the backend.
    fn modulate<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        plan: &Self::Plan,
        times: usize,
        variants: usize,
    ) -> Result<(), OpError<B::Error>>;

    /// Makes what evaluations at one time share, after the modulation rows of a pass were chosen. Called again where the
    /// time has changed, or whether the null branch is evaluated as well (`guided`).
    ///
    /// # Errors
    /// Errors of the backend.
    fn at_time<B: Backend>(
        &self,
        _plan: &Self::Plan,
        _backend: &mut B,
        _guided: bool,
    ) -> Result<(), OpError<B::Error>> {
        Ok(())
    }

    /// One evaluation: `x_eval` to `x_hat` for `images` images, which is the batch, or twice the batch with the null
    /// branch in the second half.
    ///
    /// # Errors
    /// Errors of the backend.
    fn forward<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        plan: &Self::Plan,
        images: usize,
    ) -> Result<(), OpError<B::Error>>;
}

/// Which branches of classifier-free guidance a condition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branches {
    /// A job without guidance.
    Conditional,
    /// A job with guidance in some evaluation.
    Both,
    /// One evaluation of whatever the condition names, the null class included.
    Either,
}

/// A condition that a network cannot draw under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConditionError {
    /// There is no class of this number.
    Label {
        /// The number given.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A text has another size than the network takes.
    Text {
        /// Values given.
        len: usize,
        /// Tokens that the network takes.
        tokens: usize,
        /// Width of each.
        width: usize,
    },
}

impl core::fmt::Display for ConditionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ConditionError::Label { label, classes } => {
                write!(f, "class {label} does not exist: there are {classes}, from 0")
            }
            ConditionError::Text { len, tokens, width } => {
                write!(f, "a text of {len} values: the network takes {tokens} × {width}")
            }
        }
    }
}

impl core::error::Error for ConditionError {}
