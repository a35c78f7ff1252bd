use crate::{Condition, Model, Rng, Settings};

/// A request for images.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The condition, which also sets the number of images.
    pub condition: Condition<'r>,
    /// Noise seed of the first image; each further image adds one.
    pub seed: u64,
    /// The noise generator.
    pub rng: Rng,
    /// Solver, steps, guidance.
    pub settings: Settings,
}

impl<'r> Request<'r> {
    /// Seed 42 and the model's own settings.
    pub fn preset(model: &Model, condition: Condition<'r>) -> Request<'r> {
        Request { condition, seed: 42, rng: Rng::Torch, settings: *model.preset() }
    }
}
