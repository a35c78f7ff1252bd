//! The interface between a network and the sampling loop.

use crate::backend::{Backend, OpError, Recorder};
use crate::models::plan::{ModulationPlan, PlanError, Trajectory};
use crate::tensor::Precision;

/// The positions of a network's activations in the arena.
pub trait Plan: Copy + core::fmt::Debug {
    /// Bytes of the arena.
    fn arena_bytes(&self) -> usize;
    /// The activation types that the plan was made for.
    fn precision(&self) -> Precision;
    /// The sampler's buffers.
    fn trajectory(&self) -> &Trajectory;
    /// The modulation vectors.
    fn modulation(&self) -> &ModulationPlan;
    /// Channels of a head of attention.
    fn head_dim(&self) -> usize;
    /// Rows and columns of the largest int8 activations of the blocks; no columns if there are none.
    fn int8(&self) -> [usize; 2];
    /// The same plan for the first `images` images of the batch.
    #[must_use]
    fn of_images(&self, images: usize) -> Self;
}

/// A network that predicts the clean image. [`Denoiser`](crate::Denoiser) drives it through a sampler.
///
/// Everything that depends only on the time comes from the modulation table. [`Network::modulate`] computes it for a
/// chunk of time points, with one row for each time and each *variant*. A job has a fixed number of variants: its
/// distinct labels, or 1 if only the time matters.
pub trait Network {
    /// The network's plan type.
    type Plan: Plan;
    /// The condition of a job's images.
    type Condition<'c>: Copy;
    /// The state that the network keeps for a condition.
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

    /// Number of images of a condition.
    fn images(condition: Self::Condition<'_>) -> usize;

    /// Writes the constant data: the rotation table.
    ///
    /// # Errors
    /// Errors of the backend.
    fn write_constants<B: Backend>(&self, plan: &Self::Plan, backend: &mut B) -> Result<(), OpError<B::Error>>;

    /// Checks a condition for these branches.
    ///
    /// # Errors
    /// [`ConditionError`] if the condition is invalid.
    fn check(&self, condition: Self::Condition<'_>, branches: Branches) -> Result<(), ConditionError>;

    /// Copies a checked condition to the device. It must not have more images than the plan.
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

    /// Number of modulation table rows per time point.
    fn variants(session: &Self::Session) -> usize;

    /// The variant that image `image` of a pass uses; images of the null branch follow the job's.
    fn variant(session: &Self::Session, image: usize) -> usize;

    /// Computes `times` · `variants` rows of the modulation table from the sinusoids in the plan.
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

    /// Computes the tensors that all evaluations at one time share, such as refined texts, after the modulation rows of
    /// the pass are set. Called again when the time or `guided` (whether the null branch is evaluated too) changes.
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

/// The branches of classifier-free guidance that a condition must cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branches {
    /// A job without guidance.
    Conditional,
    /// A job with guidance in at least one evaluation.
    Both,
    /// One evaluation of exactly the condition, which may be the null class.
    Either,
}

/// Errors of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConditionError {
    /// No class has this number.
    Label {
        /// The given number.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A prompt embedding has the wrong size.
    Text {
        /// Values given.
        len: usize,
        /// Tokens that the network expects.
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
