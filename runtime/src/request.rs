use crate::{Condition, Model, Rng, Settings};

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// What the images show, and how many there are.
    pub condition: Condition<'r>,
    /// The first image's noise seed; the others follow, one up each.
    pub seed: u64,
    /// What noise a seed gives.
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
