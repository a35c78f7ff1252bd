//! Running the built program.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this one and uses some of it")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// Longest that a run may take, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program, to run in `folder`, on a machine without GPUs: what it prints must not depend on them.
pub fn denoir(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_denoir"));
    command.current_dir(folder).stdin(Stdio::null());
    // The newer and the older name of the loader's list of drivers.
    command.env("VK_DRIVER_FILES", "none.json").env("VK_ICD_FILENAMES", "none.json");
    command.env("CUDA_VISIBLE_DEVICES", "");
    command
}

/// What a run gave.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Run { code: output.status.code(), stdout: output.stdout, stderr }
    }
}

impl Run {
    /// Standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.stdout).context(self.stderr.clone())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs the program; it must succeed.
pub fn ok<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Result<Run> {
    let run = Run::from(denoir(folder).args(args).output()?);
    ensure!(run.code == Some(0), "exit code {:?}: {}", run.code, run.stderr);
    Ok(run)
}

/// Runs the program; it must fail with this code, one line on standard error, nothing on standard output, and leave
/// the folder as it was. The line.
pub fn fails<S: AsRef<OsStr>>(folder: &Path, code: i32, args: impl IntoIterator<Item = S>) -> Result<String> {
    let before = list(folder)?;
    let run = Run::from(denoir(folder).args(args).output()?);
    ensure!(run.code == Some(code), "exit code {:?}, not {code}: {}", run.code, run.stderr);
    ensure!(run.stderr.lines().count() == 1, "more than one line: {}", run.stderr);
    ensure!(run.stderr.starts_with("error: "), "{}", run.stderr);
    ensure!(run.stdout.is_empty(), "standard output: {}", run.text());
    ensure!(list(folder)? == before, "files were left: {:?}", list(folder)?);
    Ok(run.stderr)
}

/// Files in a folder, by name, with their lengths.
pub fn list(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        files.push((entry.path(), entry.metadata()?.len()));
    }
    files.sort();
    Ok(files)
}

/// A file of the project's fixtures.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(path)
}

/// A folder with `model.gguf`, a small class-conditional model with the class names a cat, b, ..., j.
pub fn with_model() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let names = ["tabby cat, moggy", "border collie", "c", "d", "e", "f", "g", "h", "i", "jay"];
    let labels = folder.path().join("labels.txt");
    std::fs::write(&labels, names.join("\n"))?;
    let (checkpoint, config) = (fixture("checkpoints/pg-ctx.ckpt"), fixture("checkpoints/pg-ctx.json"));
    let mut convert = denoir(folder.path());
    convert.arg("convert").arg(checkpoint).arg("--config").arg(config).arg("--labels").arg(&labels);
    convert.args(["-o", "model.gguf", "--type", "f32", "-q"]);
    let run = Run::from(convert.output()?);
    ensure!(run.code == Some(0), "{}", run.stderr);
    std::fs::remove_file(labels)?;
    Ok(folder)
}

/// A folder with `model.gguf`, a small text-to-image model, and its text encoder, `encoder.gguf`.
pub fn with_text_models() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let (checkpoint, config) = (fixture("checkpoints/t2i.ckpt"), fixture("checkpoints/t2i.json"));
    let (checkpoint, config) = (checkpoint.to_string_lossy(), config.to_string_lossy());
    ok(folder.path(), ["convert", &checkpoint, "--config", &config, "--type", "f32", "-o", "model.gguf", "-q"])?;
    let encoder = fixture("checkpoints/qwen3");
    ok(folder.path(), ["convert", &encoder.to_string_lossy(), "-o", "encoder.gguf", "-q"])?;
    Ok(folder)
}

/// Runs the program, and ends it if it takes longer than anything here may.
pub fn within(command: &mut Command) -> Result<Run> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill()?;
            bail!("it hangs: {:?}", child.wait_with_output()?);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Run::from(child.wait_with_output()?))
}

/// The shape and values of a NumPy file of f32.
pub fn npy(path: &Path) -> Result<(Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path)?;
    ensure!(bytes.starts_with(b"\x93NUMPY\x01\x00"), "no NumPy file");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    ensure!(header.is_multiple_of(64), "the header is not padded");
    let text = String::from_utf8_lossy(&bytes[10..header]);
    let shape = text.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).context("no shape")?.0;
    let shape: Vec<usize> = shape.split(',').filter_map(|d| d.trim().parse().ok()).collect();
    let values: Vec<f32> = bytes[header..].as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    ensure!(values.len() == shape.iter().product::<usize>(), "{shape:?} and {} values", values.len());
    Ok((shape, values))
}

/// A decoded PNG file.
pub struct Png {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
    /// Keywords and texts.
    pub texts: Vec<(String, String)>,
}

/// Decodes a PNG file.
pub fn png(bytes: &[u8]) -> Result<Png> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info()?;
    let mut rgb = vec![0; reader.output_buffer_size().context("too large")?];
    let info = reader.next_frame(&mut rgb)?;
    let latin = reader.info().uncompressed_latin1_text.iter().map(|t| (t.keyword.clone(), t.text.clone()));
    let mut texts: Vec<(String, String)> = latin.collect();
    for text in &reader.info().utf8_text {
        texts.push((text.keyword.clone(), text.get_text()?));
    }
    Ok(Png { width: info.width, height: info.height, rgb, texts })
}

/// The RGB values of a binary PPM file.
pub fn ppm(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    let start = b"P6\n32 32\n255\n";
    ensure!(bytes.starts_with(start), "no such PPM");
    Ok(bytes[start.len()..].to_vec())
}
