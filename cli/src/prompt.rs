//! Prompts: turns words or a file of embeddings into a network's input.

use std::path::{Path, PathBuf};

use denoir::{EncodedPrompt, Loading, MappedFile, Options, TextEncoder};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

use crate::embeddings::{self, NEGATIVE, PROMPT};
use crate::error::Error;
use crate::interrupt;
use crate::output::Output;

/// An open text encoder. For a folder, it includes the temporary file that the folder was converted to.
pub(crate) struct OpenEncoder {
    encoder: TextEncoder,
    // Dropped, and so deleted, after the encoder.
    _folder: Option<TempDir>,
}

impl OpenEncoder {
    /// Opens a `qwen3` GGUF file, or converts a folder of `config.json`, `*.safetensors` and `tokenizer.json`.
    pub(crate) fn open(path: &Path, loading: Loading, note: &mut dyn FnMut(&str)) -> Result<OpenEncoder, Error> {
        if !path.exists() {
            let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such text encoder");
            return Err(Error::Read(path.to_owned(), missing));
        }
        if !path.is_dir() {
            let encoder = TextEncoder::load(path, loading)?.with_cancel(interrupt::flag());
            return Ok(OpenEncoder { encoder, _folder: None });
        }
        note(&format!("converting {0} for this run; `denoir convert {0} -o FILE.gguf` does it once", path.display()));
        let folder = TempDir::new().map_err(Error::writing(&std::env::temp_dir()))?;
        let file = folder.path().join("text-encoder.gguf");
        let options = denoir_convert::Options { cancel: Some(interrupt::flag()), ..Default::default() };
        denoir_convert::convert(&denoir_convert::locate(path)?, &file, &options, &mut |_| {})?;
        let encoder = TextEncoder::load(file, Loading::Map)?.with_cancel(interrupt::flag());
        Ok(OpenEncoder { encoder, _folder: Some(folder) })
    }

    pub(crate) fn encoder(&self) -> &TextEncoder {
        &self.encoder
    }
}

/// The source of a picture's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Words, through a text encoder.
    Words { prompt: String, negative: String, encoder: PathBuf },
    /// A file of embeddings.
    Embeds(PathBuf),
}

impl Source {
    /// Computes the input for a network of this text size. An encoder is opened, used and closed here, so that it is
    /// gone when drawing starts.
    pub(crate) fn read(
        &self,
        size: (usize, usize),
        options: &Options,
        loading: Loading,
        note: &mut dyn FnMut(&str),
    ) -> Result<EncodedPrompt, Error> {
        match self {
            Source::Words { prompt, negative, encoder } => {
                let open = OpenEncoder::open(encoder, loading, note)?;
                Ok(open.encoder().encode_prompt(prompt, negative, size, options)?)
            }
            Source::Embeds(path) => read(path, size),
        }
    }
}

/// Reads a file of embeddings for a network of this text size.
fn read(path: &Path, (tokens, width): (usize, usize)) -> Result<EncodedPrompt, Error> {
    let file = MappedFile::open(path)?;
    embeddings::parse(file.bytes(), (tokens, width)).map_err(|what| Error::Embeds(path.to_owned(), what))
}

/// Writes embeddings of this shape as bfloat16, to which they are already rounded.
pub(crate) fn write(path: &Path, embeds: &EncodedPrompt, (tokens, width): (usize, usize)) -> Result<(), Error> {
    let bytes = |values: &[f32]| -> Vec<u8> {
        values.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect()
    };
    let parts = [(PROMPT, bytes(&embeds.prompt)), (NEGATIVE, bytes(&embeds.negative))];
    let wrong = |e: safetensors::SafeTensorError| Error::Embeds(path.to_owned(), e.to_string());
    let views: Vec<_> = parts
        .iter()
        .map(|(name, data)| Ok((*name, TensorView::new(Dtype::BF16, vec![tokens, width], data)?)))
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    Output::write(path, &safetensors::serialize(views, None).map_err(wrong)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_embeddings_are_refused_or_read() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("e.safetensors");
        let embeds = EncodedPrompt { prompt: vec![1.5; 6], negative: vec![-2.0; 6] };
        write(&path, &embeds, (2, 3))?;
        assert_eq!(read(&path, (2, 3))?, embeds);
        let good = std::fs::read(&path)?;
        let (mut taken, mut refused) = (0, 0);
        let mut check = |bytes: &[u8]| -> anyhow::Result<()> {
            std::fs::write(&path, bytes)?;
            match read(&path, (2, 3)) {
                Ok(embeds) => {
                    assert!(embeds.prompt.len() == 6 && embeds.negative.len() == 6);
                    taken += 1;
                }
                Err(_) => refused += 1,
            }
            Ok(())
        };
        for len in 0..good.len() {
            check(&good[..len])?;
        }
        for bit in 0..8 * good.len() {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            check(&bytes)?;
        }
        // Every flip of a value is read, as are a few of the header's.
        assert!(taken >= 8 * 24 && refused > good.len(), "{taken} taken, {refused} refused");
        Ok(())
    }
}
