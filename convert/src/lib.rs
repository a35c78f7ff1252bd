//! Reads upstream JiT and PixelGen checkpoints and writes denoir's GGUF model file.
//!
//! The input is a PixelGen Lightning `.ckpt`, a JiT `.pth`, or `.safetensors` (one file, or an index of shards). A
//! Qwen3 text encoder comes as `.safetensors` with `config.json` and `tokenizer.json` in the same folder. Neither
//! Python nor code from a pickle runs: see the module `torch`. The input is memory-mapped and converted block by block,
//! so memory does not grow with the checkpoint. The output appears complete or not at all.
//!
//! ```no_run
//! use denoir_convert::{Options, convert};
//! # fn main() -> Result<(), denoir_convert::ConvertError> {
//! let options = Options { dtype: Some(denoir_core::DType::I8), ..Options::default() };
//! let summary = convert("PixelGen_XL.ckpt".as_ref(), "pixelgen-xl.gguf".as_ref(), &options, &mut |_| {})?;
//! println!("{}: {} tensors, {} bytes", summary.name, summary.tensors, summary.bytes);
//! # Ok(()) }
//! ```
//!
//! # Which upstream made it
//! The sampler preset and the 8-bit rounding depend on the project. `ema_denoiser.` and `denoiser.` mark PixelGen;
//! `model_ema1`, `model_ema2`, `model` and `net.` mark JiT; without any prefix, two patch projections indicate JiT and
//! one indicates PixelGen-XL. A configuration overrides this with `family`; upstream's YAML is always PixelGen's.

mod arch;
mod checkpoint;
pub mod config;
mod element;
mod emit;
mod error;
mod locate;
mod output;
#[doc(hidden)]
pub mod parts;
mod plan;
mod preset;
mod qwen3;
pub mod random;
mod safetensors;
mod tensor;
mod torch;
mod writer;

pub use config::{Config, ConfigError};
pub use error::ConvertError;
pub use locate::locate;
pub use output::Output;
pub use safetensors::SafetensorsError;
pub use torch::{PickleError, ZipError};

use core::sync::atomic::{AtomicBool, Ordering};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use denoir_core::DType;
use sha2::{Digest, Sha256};

use checkpoint::{Checkpoint, Kind};
use emit::EmitError;
use plan::{Plan, Request};

/// Largest file of class names in bytes.
const MAX_LABELS_BYTES: u64 = 1 << 20;

/// Options of a conversion.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The set of weights: `ema` or `raw`, or upstream's `model_ema1`, `model_ema2`, `model`. `None`: upstream's EMA.
    pub weights: Option<String>,
    /// Type of the matrices. With [`DType::I8`] those of attention and FFN are I8 with a scale per row, the others
    /// F16, and the rows of `mlp.w3` are rotated. Vectors and positions are always F32. `None`: BF16, or for a text
    /// encoder its own type.
    pub dtype: Option<DType>,
    /// Configuration file: see [`config`].
    pub config: Option<PathBuf>,
    /// File of class names, one per line.
    pub labels: Option<PathBuf>,
    /// If another thread sets this, the conversion ends with [`ConvertError::Cancelled`].
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Options {
    fn cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

/// The progress of a conversion.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'p> {
    /// The tensor being converted; empty at the end.
    pub tensor: &'p str,
    /// Bytes of tensor data written.
    pub bytes_done: u64,
    /// Total bytes of tensor data.
    pub bytes_total: u64,
}

/// A summary of the written file.
#[derive(Clone, Debug)]
pub struct Summary {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// `general.name`.
    pub name: String,
    /// The set of weights that was converted; empty if the checkpoint has one unnamed set.
    pub weights: &'static str,
    /// Type of the matrices.
    pub dtype: DType,
    /// Number of tensors, scales included.
    pub tensors: usize,
    /// Number of weights, scales not included.
    pub parameters: u64,
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of the checkpoint in hexadecimal; shards are hashed in sequence, in name order.
    pub source_sha256: String,
}

/// Converts the checkpoint at `input` to a model file at `output`.
///
/// `output` is replaced only once the new file is complete and on disk; after an error no new file is left in its
/// folder. The checkpoint is memory-mapped and must not change meanwhile.
///
/// # Errors
/// [`ConvertError`]; its message is one line that says what is wrong, where, and how to fix it if possible.
pub fn convert(
    input: &Path,
    output: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Summary, ConvertError> {
    let config = load_config(options.config.as_deref())?;
    let labels = options.labels.as_deref().map(load_labels).transpose()?;
    let unusable = |source| ConvertError::Write { path: output.to_owned(), source };
    Output::check(output).map_err(unusable)?;
    let read = [Some(input), options.config.as_deref(), options.labels.as_deref()];
    refuse_input(output, read.into_iter().flatten())?;

    let first = Mapped::open(input)?;
    let name = file_name(input);
    let kind = checkpoint::sniff(first.bytes(), &name)?;
    let mut maps = vec![(name.clone(), input.to_owned(), first)];
    if kind == Kind::SafetensorsIndex {
        maps = open_shards(input, maps.remove(0).2.bytes())?;
        refuse_input(output, maps.iter().map(|(_, path, _)| path.as_path()))?;
    }
    let files: Vec<(String, &[u8])> = maps.iter().map(|(name, _, map)| (name.clone(), map.bytes())).collect();
    let mut checkpoint = Checkpoint::open(kind, &files, &|| options.cancelled())?;
    checkpoint.file = name;
    let encoder = qwen3::recognise(&checkpoint).then(|| qwen3::Files::load(input)).transpose()?;
    let dtype = options.dtype.unwrap_or_else(|| match encoder {
        Some(_) => qwen3::stored_type(&checkpoint),
        None => DType::BF16,
    });
    let request = Request {
        weights: options.weights.as_deref(),
        dtype,
        config: &config,
        labels: labels.as_deref(),
        encoder: encoder.as_ref(),
    };
    let plan = Plan::new(&checkpoint, &request)?;
    if options.cancelled() {
        return Err(ConvertError::Cancelled);
    }
    let mut out = Output::create(output).map_err(unusable)?;

    // The hash reads the file once more, on the second core, through a small buffer.
    let failed = AtomicBool::new(false);
    let stop = || failed.load(Ordering::Relaxed) || options.cancelled();
    let hashed: Vec<(&Path, &File)> = maps.iter().map(|(_, path, map)| (path.as_path(), &map.file)).collect();
    let read_error = |source| ConvertError::Read { path: input.to_owned(), source };
    let summary = std::thread::scope(|scope| {
        let hash = std::thread::Builder::new().spawn_scoped(scope, || sha256_of_files(&hashed, &stop));
        let hash = hash.map_err(read_error)?;
        let mut release = |bytes: &[u8]| maps.iter().for_each(|(_, _, map)| map.release(bytes));
        let written = emit::emit(&plan, &checkpoint, out.file(), progress, &mut release, &|| options.cancelled());
        failed.store(written.is_err(), Ordering::Relaxed);
        let hash = hash.join().unwrap_or_else(|_| Err(read_error(io::Error::other("the hashing thread failed"))));
        let write_error = |source| ConvertError::Write { path: output.to_owned(), source };
        let writer = written.map_err(|error| error.at(output))?;
        let hash = hash?;
        if options.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        let bytes = writer.finish(plan.sha256_at, &hash).map_err(write_error)?;
        Ok::<_, ConvertError>(summarize(&plan, dtype, bytes, hash))
    })?;
    out.commit().map_err(unusable)?;
    Ok(summary)
}

/// Converts a checkpoint in memory, a single file, to any seekable writer.
///
/// `name` is the file name for messages and metadata. What is written before an error is incomplete.
///
/// # Errors
/// As [`convert`]; write errors carry `name`.
pub fn convert_bytes(
    input: &[u8],
    name: &str,
    output: &mut (impl Write + Seek),
    weights: Option<&str>,
    dtype: DType,
    config: &Config,
    labels: Option<&[String]>,
) -> Result<Summary, ConvertError> {
    let kind = checkpoint::sniff(input, name)?;
    if kind == Kind::SafetensorsIndex {
        let reason = "an index of safetensors shards cannot be converted from memory";
        return Err(ConvertError::Format { file: name.into(), reason });
    }
    let checkpoint = Checkpoint::open(kind, &[(name.to_owned(), input)], &|| false)?;
    let plan = Plan::new(&checkpoint, &Request { weights, dtype, config, labels, encoder: None })?;
    let path = Path::new(name);
    let writer =
        emit::emit(&plan, &checkpoint, output, &mut |_| {}, &mut |_| {}, &|| false).map_err(|error| error.at(path))?;
    let hash = hex(&Sha256::digest(input));
    let write_error = |source| ConvertError::Write { path: path.to_owned(), source };
    let bytes = writer.finish(plan.sha256_at, &hash).map_err(write_error)?;
    Ok(summarize(&plan, dtype, bytes, hash))
}

impl EmitError {
    /// Names the file of a write error.
    fn at(self, path: &Path) -> ConvertError {
        match self {
            EmitError::Convert(error) => error,
            EmitError::Write(source) => ConvertError::Write { path: path.to_owned(), source },
        }
    }
}

fn summarize(plan: &Plan<'_>, dtype: DType, bytes: u64, source_sha256: String) -> Summary {
    let parameters = plan.network.specs.iter().map(|spec| spec.shape.iter().product::<u64>()).sum();
    Summary {
        architecture: plan.network.architecture,
        name: plan.name.clone(),
        weights: plan.selection.weights,
        dtype,
        tensors: plan.entries.len(),
        parameters,
        bytes,
        source_sha256,
    }
}

/// Refuses an output that is one of the files to read.
fn refuse_input<'p>(output: &Path, mut read: impl Iterator<Item = &'p Path>) -> Result<(), ConvertError> {
    let target = Output::leads_to(output);
    match read.any(|input| Output::leads_to(input) == target) {
        true => Err(ConvertError::Output { path: output.to_owned(), reason: "it is an input file" }),
        false => Ok(()),
    }
}

fn load_config(path: Option<&Path>) -> Result<Config, ConvertError> {
    let Some(path) = path else { return Ok(Config::default()) };
    let bytes = read_small(path, config::MAX_CONFIG_BYTES)?;
    Config::parse(&bytes).map_err(|source| ConvertError::Config { file: file_name(path), source })
}

/// Reads class names, one per line; blank lines at the end do not count.
fn load_labels(path: &Path) -> Result<Vec<String>, ConvertError> {
    let refuse = |reason: &str| ConvertError::Labels { reason: format!("{}: {reason}", file_name(path)) };
    let bytes = read_small(path, MAX_LABELS_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| refuse("not UTF-8"))?;
    let labels: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    if labels.iter().any(String::is_empty) { Err(refuse("a name is empty")) } else { Ok(labels) }
}

/// Reads a file of at most `limit` bytes.
fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, ConvertError> {
    let read = || {
        let mut bytes = Vec::new();
        open_regular(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > limit => {
            let reason = format!("larger than {} MiB, the most that is read of it", limit >> 20);
            Err(ConvertError::Read { path: path.to_owned(), source: io::Error::other(reason) })
        }
        other => other.map_err(|source| ConvertError::Read { path: path.to_owned(), source }),
    }
}

/// Opens a regular file. Anything else is refused before it is opened, because opening a pipe waits for its writer.
fn open_regular(path: &Path) -> io::Result<File> {
    let refuse = || io::Error::other("not a regular file");
    if !path.metadata()?.is_file() {
        return Err(refuse());
    }
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // What has taken the file's place since is not waited for either.
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refuse()) }
}

type Map = (String, PathBuf, Mapped);

fn open_shards(index: &Path, bytes: &[u8]) -> Result<Vec<Map>, ConvertError> {
    let shards =
        safetensors::shards(bytes).map_err(|source| ConvertError::Safetensors { file: file_name(index), source })?;
    let open = |name: String| {
        let path = index.with_file_name(&name);
        let map = Mapped::open(&path)?;
        Ok((name, path, map))
    };
    shards.into_iter().map(open).collect()
}

/// A file in memory, and open: what is hashed is what was mapped.
struct Mapped {
    file: File,
    map: Option<memmap2::Mmap>,
}

impl Mapped {
    fn open(path: &Path) -> Result<Self, ConvertError> {
        let read = |source| ConvertError::Read { path: path.to_owned(), source };
        if !path.metadata().map_err(read)?.is_file() {
            let reason = "not a file; give the checkpoint file itself (.ckpt, .pth, .safetensors or its index)";
            return Err(ConvertError::Format { file: path.display().to_string(), reason });
        }
        let file = open_regular(path).map_err(read)?;
        if file.metadata().map_err(read)?.len() == 0 {
            return Ok(Mapped { file, map: None });
        }
        // SAFETY: the map is read-only and private to this call. That nobody changes the file meanwhile is the
        // documented condition of `convert`; without it reads could see torn data, which are only ever numbers
        // here: every offset and length is copied out and checked once before use.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(read)?;
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Sequential);
        Ok(Mapped { file, map: Some(map) })
    }

    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Releases the pages of `part` to the system, if it belongs to this file: a checkpoint may be larger than the
    /// machine's memory.
    #[cfg(unix)]
    fn release(&self, part: &[u8]) {
        if let Some(map) = &self.map
            && map.as_ptr_range().contains(&part.as_ptr())
        {
            let offset = part.as_ptr() as usize - map.as_ptr() as usize;
            // SAFETY: the map is of a file and read-only, so pages that are dropped come back the same. A failure
            // leaves the pages where they are.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len()) };
        }
    }

    /// Does nothing: this system manages pages by itself.
    #[cfg(not(unix))]
    fn release(&self, _part: &[u8]) {}
}

fn sha256_of_files(files: &[(&Path, &File)], stop: &dyn Fn() -> bool) -> Result<String, ConvertError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 18];
    for &(path, mut file) in files {
        let read = |source| ConvertError::Read { path: path.to_owned(), source };
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hash.update(buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read(error)),
            }
            if stop() {
                return Ok(String::new());
            }
        }
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The last component of a path, for messages and metadata.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
