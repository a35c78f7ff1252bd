//! The cases of a kernel.

use denoir::core::ops::HISTORY;
use denoir::core::{DType, Modulation, Region, TokenLayout, View};

use crate::check::Check;
use crate::error::Error;
use crate::fixture::{Fixture, floats};

/// The outputs that are compared, by field.
pub type Outputs = Vec<(&'static str, View)>;

/// The memory that matrices are placed in.
pub trait CaseMemory {
    /// A matrix of these rows and columns, whose elements follow row after row in `bytes`.
    fn tensor(&mut self, region: Region, dtype: DType, shape: (usize, usize), bytes: &[u8]) -> View;

    /// A matrix in the arena for a kernel to write; it is poisoned.
    fn output(&mut self, dtype: DType, shape: (usize, usize)) -> View;
}

/// Compares a case's outputs after its kernel ran: f32 by their error, others to the bit.
///
/// # Errors
/// [`Error::Fixture`] for tensors that it lacks.
pub fn check(fixture: &Fixture, case: &str, arena: &[u8], outputs: &Outputs) -> Result<Vec<Check>, Error> {
    let compare = |(field, view): &(&str, View)| {
        let want = fixture.tensor(&format!("{case}.want.{field}"))?;
        let (got, name) = (read(arena, view), format!("{case}.{field}"));
        Ok(match want.dtype {
            DType::F32 => Check::relative(name, &floats(&got), &want.f32(), fixture.number("limit")?),
            _ => Check::equal(name, &got, &want.bytes),
        })
    };
    outputs.iter().map(compare).collect()
}

/// One case of a kernel: its parameters, and its tensors on their way to memory.
pub(super) struct Case<'f> {
    pub(super) fixture: &'f Fixture,
    pub(super) name: &'f str,
    pub(super) memory: &'f mut dyn CaseMemory,
}

impl Case<'_> {
    fn key(&self, field: &str) -> String {
        format!("{}.{field}", self.name)
    }

    pub(super) fn text(&self, parameter: &str) -> Result<&str, Error> {
        self.fixture.parameter(&self.key(parameter))
    }

    pub(super) fn number<T: std::str::FromStr>(&self, parameter: &str) -> Result<T, Error> {
        self.fixture.number(&self.key(parameter))
    }

    pub(super) fn layout(&self, of: &str) -> Result<TokenLayout, Error> {
        Ok(TokenLayout {
            images: self.number(&format!("{of}images"))?,
            image_tokens: self.number(&format!("{of}image_tokens"))?,
            context_tokens: self.number(&format!("{of}context_tokens"))?,
        })
    }

    pub(super) fn modulation(&mut self) -> Result<Modulation, Error> {
        Ok(Modulation { table: self.x("modulation")?, rows: self.x("modulation_rows")? })
    }

    /// The weights of the stored velocities.
    pub(super) fn velocities(&self, parameter: &str) -> Result<[f32; HISTORY], Error> {
        let mut weights = [0.0; HISTORY];
        for (weight, text) in weights.iter_mut().zip(self.text(parameter)?.split(',')) {
            *weight = text.parse().map_err(|_| self.fixture.error(&format!("{parameter}: {text:?} is no number")))?;
        }
        Ok(weights)
    }

    /// A field as a matrix.
    fn view(&mut self, region: Region, field: &str) -> Result<View, Error> {
        let tensor = self.fixture.tensor(&self.key(field))?;
        Ok(self.memory.tensor(region, tensor.dtype, tensor.matrix(), &tensor.bytes))
    }

    pub(super) fn x(&mut self, field: &str) -> Result<View, Error> {
        self.view(Region::Arena, field)
    }

    pub(super) fn w(&mut self, field: &str) -> Result<View, Error> {
        self.view(Region::Weights, field)
    }

    pub(super) fn optional(&mut self, region: Region, field: &str) -> Result<Option<View>, Error> {
        self.fixture.has(&self.key(field)).then(|| self.view(region, field)).transpose()
    }

    /// A poisoned output with the shape of the wanted one.
    pub(super) fn out(&mut self, field: &str) -> Result<View, Error> {
        let like = self.fixture.tensor(&self.key(&format!("want.{field}")))?;
        Ok(self.memory.output(like.dtype, like.matrix()))
    }
}

/// The bytes of a view's elements.
fn read(arena: &[u8], view: &View) -> Vec<u8> {
    let size = view.dtype.size();
    let row = |r: usize| {
        let start = view.offset + r * view.stride * size;
        arena[start..start + view.cols * size].iter().copied()
    };
    (0..view.rows).flat_map(row).collect()
}
