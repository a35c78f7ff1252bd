//! A fixture file: see `fixtures/README.md`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use denoir::MappedFile;
use denoir::core::DType;
use safetensors::{Dtype, SafeTensors};

use crate::error::Error;

/// A fixture file in memory.
#[derive(Clone, Debug)]
pub struct Fixture {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
    parameters: HashMap<String, String>,
}

/// Little-endian f32 values.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// One tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Type of the values; bytes of pictures count as int8, integers as u32.
    pub dtype: DType,
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// The values, little-endian, row after row.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// The values of an f32 tensor.
    pub fn f32(&self) -> Vec<f32> {
        floats(&self.bytes)
    }

    /// The values of a tensor of integers.
    pub fn u32(&self) -> Vec<u32> {
        self.bytes.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect()
    }

    /// Rows and columns: a vector is one row; of more dimensions the last is the columns.
    pub fn matrix(&self) -> (usize, usize) {
        let cols = self.shape.last().copied().unwrap_or(1);
        (self.shape.iter().product::<usize>() / cols.max(1), cols)
    }
}

impl Fixture {
    /// A path that the fixture names, from its own folder on.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join(path)
    }

    /// Reads a fixture.
    ///
    /// # Errors
    /// [`Error`] for a file that cannot be read, is damaged, or says no `kind`.
    pub fn open(path: &Path) -> Result<Fixture, Error> {
        let fixture = Fixture::read(path)?;
        fixture.parameter("kind")?;
        Ok(fixture)
    }

    /// Reads any file of tensors.
    pub(crate) fn read(path: &Path) -> Result<Fixture, Error> {
        let file = MappedFile::open(path)?;
        let damaged = |e: &dyn std::fmt::Display| Error::Fixture(path.to_owned(), e.to_string());
        let (_, metadata) = SafeTensors::read_metadata(file.bytes()).map_err(|e| damaged(&e))?;
        let parameters = metadata.metadata().clone().unwrap_or_default();
        let mut tensors = HashMap::new();
        for (name, view) in SafeTensors::deserialize(file.bytes()).map_err(|e| damaged(&e))?.iter() {
            let Some(dtype) = dtype(view.dtype()) else {
                return Err(damaged(&format!("tensor {name:?} is of type {:?}", view.dtype())));
            };
            let tensor = Tensor { dtype, shape: view.shape().to_vec(), bytes: view.data().to_vec() };
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Fixture { path: path.to_owned(), tensors, parameters })
    }

    /// `forward`, `sample`, `op`, `noise` or `text`.
    pub fn kind(&self) -> &str {
        self.parameters.get("kind").map_or("", String::as_str)
    }

    pub(crate) fn error(&self, what: &str) -> Error {
        Error::Fixture(self.path.clone(), what.to_owned())
    }

    /// A word of the metadata.
    ///
    /// # Errors
    /// [`Error::Fixture`] where there is none of this name.
    pub fn parameter(&self, name: &str) -> Result<&str, Error> {
        self.parameters.get(name).map(String::as_str).ok_or_else(|| self.error(&format!("the metadata lacks {name:?}")))
    }

    /// Every word of the metadata.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A number of the metadata.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        let text = self.parameter(name)?;
        text.trim()
            .parse()
            .map_err(|_| self.error(&format!("{name} in the metadata is {text:?}, which is no such number")))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&Tensor, Error> {
        self.tensors.get(name).ok_or_else(|| self.error(&format!("tensor {name:?} is missing")))
    }

    /// A tensor of this type.
    pub(crate) fn typed(&self, name: &str, dtype: DType) -> Result<&Tensor, Error> {
        let tensor = self.tensor(name)?;
        if tensor.dtype == dtype {
            return Ok(tensor);
        }
        Err(self.error(&format!("tensor {name:?} is {}, not {dtype}", tensor.dtype)))
    }

    /// Names of the tensors in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Integers in fixtures are small and not negative, so their bits equal the engine's u32. Bytes of pictures count as
/// int8.
fn dtype(of: Dtype) -> Option<DType> {
    match of {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::I8 | Dtype::U8 => Some(DType::I8),
        Dtype::I32 => Some(DType::U32),
        _ => None,
    }
}
