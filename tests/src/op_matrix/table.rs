//! The cases of a kernel, drawn on demand.

use super::case::Case;
use super::draw::Draw;
use super::seed::hash;

/// A case that is yet to be drawn.
pub(super) struct Plan {
    pub(super) name: String,
    draw: Box<dyn Fn(Draw) -> Case + Sync>,
}

impl Plan {
    pub(super) fn draw(&self, seed: u64) -> Case {
        Case { name: self.name.clone(), ..(self.draw)(Draw::new(seed ^ hash(&self.name))) }
    }
}

/// The cases of a kernel.
#[derive(Default)]
pub struct Table(pub(super) Vec<Plan>);

impl Table {
    /// Adds a case; names are different.
    pub fn add(&mut self, name: String, draw: impl Fn(Draw) -> Case + Sync + 'static) {
        self.0.push(Plan { name, draw: Box::new(draw) });
    }
}
