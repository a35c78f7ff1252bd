//! One error for all that can go wrong on the way from a model file to an image.

use core::convert::Infallible;

use crate::backend::OpError;
use crate::cpu::Misaligned;
use crate::gguf::GgufError;
use crate::models::ModelError;
use crate::models::plan::PlanError;
use crate::room::NoRoom;
use crate::sampling::RunError;
use crate::sampling::sampler::SettingsError;

/// Why the processor draws no image, whichever step fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The file holds no model.
    Model(ModelError),
    /// The settings make no sampler.
    Settings(SettingsError),
    /// There is no plan for such a batch.
    Plan(PlanError),
    /// The memory is too small.
    Room(NoRoom),
    /// The file or the arena starts at no multiple of 64.
    Misaligned(Misaligned),
    /// Drawing failed.
    Run(RunError<Infallible>),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Model(e) => e.fmt(f),
            Error::Settings(e) => e.fmt(f),
            Error::Plan(e) => e.fmt(f),
            Error::Room(e) => e.fmt(f),
            Error::Misaligned(e) => e.fmt(f),
            Error::Run(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

macro_rules! from {
    ($($variant:ident: $error:ty,)*) => {
        $(
            impl From<$error> for Error {
                fn from(e: $error) -> Error {
                    Error::$variant(e)
                }
            }
        )*
    };
}

from! {
    Model: ModelError,
    Settings: SettingsError,
    Plan: PlanError,
    Room: NoRoom,
    Misaligned: Misaligned,
    Run: RunError<Infallible>,
}

impl From<GgufError> for Error {
    fn from(e: GgufError) -> Error {
        Error::Model(ModelError::Gguf(e))
    }
}

impl From<OpError<Infallible>> for Error {
    fn from(e: OpError<Infallible>) -> Error {
        Error::Run(RunError::Op(e))
    }
}
