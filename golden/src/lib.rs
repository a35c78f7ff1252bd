//! Compares denoir with what PyTorch computed, tensor by tensor: the files of `fixtures/`, for `denoir verify` and the
//! tests. `fixtures/README.md` has their format.

mod check;
mod error;
mod fixture;
mod forward;
mod models;
mod noise;
pub mod op;
mod sample;
mod text;

pub use check::{Check, Verdict};
pub use error::Error;
pub use fixture::{Fixture, Tensor};
pub use forward::Forward;
pub use models::Models;
pub use sample::Sample;

/// Runs what a fixture holds, in the models' type and with their options, and compares all of it.
///
/// # Errors
/// [`Error`] for a fixture that cannot be used, or a model that cannot be converted or run.
pub fn verify(fixture: Fixture, models: &mut Models) -> Result<Verdict, Error> {
    match fixture.kind() {
        "forward" => forward::verify(fixture, models),
        "sample" => sample::verify(fixture, models),
        "noise" => noise::verify(&fixture),
        "op" => op::verify(&fixture, models),
        "text" => text::verify(&fixture, models),
        other => Err(fixture.error(&format!("fixtures of the kind {other:?} are not known"))),
    }
}
