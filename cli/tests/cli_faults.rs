//! What goes wrong while the program draws: at any moment the disk fills up, the folder goes or the user stops it.
//! Nothing half-written is left, and what was finished stays.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use common::{PATIENCE, Run, denoir, fixture, list, npy, ok, png, with_model, with_text_models};

/// Two images, and some steps.
const DRAW: &str = "generate -m model.gguf --class 1 -i 2 --steps 3 -q";

/// A fresh folder with the model of another one.
fn with_copy(of: &TempDir) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    fs::copy(of.path().join("model.gguf"), folder.path().join("model.gguf"))?;
    Ok(folder)
}

/// Files in a folder, by name.
fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for (path, _) in list(folder)? {
        if path.is_file() {
            files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), fs::read(&path)?);
        }
    }
    Ok(files)
}

/// Whether each file that is there is one of a finished run, or was there before. A preview is of some step.
fn whole(folder: &Path, finished: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    for (name, bytes) in contents(folder)? {
        match name.as_str() {
            "p.png" => drop(png(&bytes)?),
            _ => ensure!(finished.get(&name) == Some(&bytes), "{name} is new or half-written"),
        }
    }
    Ok(())
}

/// Waits for a child that must end.
fn wait(child: &mut Child) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            bail!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal, unless the child has ended.
fn signal(child: &mut Child, name: &str) -> Result<()> {
    if child.try_wait()?.is_none() {
        ensure!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status()?.success());
    }
    Ok(())
}

/// The outputs of [`DRAW`] that the tests below stop: separate files, a sheet, an array.
const OUTPUTS: [&str; 3] = [
    "-o a.png --trajectory a.gif --preview p.png",
    "--grid -o a.png --trajectory t.png --preview p.png",
    "-o a.npy --trajectory a.gif --preview p.png",
];

/// The preview is a new file after each step, so the test knows when each begins.
#[test]
fn a_signal_at_any_step_leaves_whole_files() -> Result<()> {
    let model = with_model()?;
    for (output, name) in OUTPUTS.into_iter().zip(["INT", "TERM", "HUP"]) {
        let line = format!("{DRAW} {output}");
        let done = with_copy(&model)?;
        ok(done.path(), line.split(' '))?;
        let finished = contents(done.path())?;
        // Three previews of each image, and the first moment.
        for step in 0..=6 {
            let folder = with_copy(&model)?;
            let preview = folder.path().join("p.png");
            let mut child = denoir(folder.path()).args(line.split(' ')).stderr(Stdio::piped()).spawn()?;
            let (mut seen, mut last) = (0, 0);
            while child.try_wait()?.is_none() && seen <= step {
                // The number of the file, or of the moment: a file that is gone gives its number to the next one.
                let now = fs::metadata(&preview).map_or(0, |m| m.ino() ^ m.mtime_nsec() as u64);
                seen += usize::from(now != last);
                last = now;
            }
            signal(&mut child, name)?;
            let status = wait(&mut child)?;
            let stderr = Run::from(child.wait_with_output()?).stderr;
            match status.code() {
                Some(0) => ensure!(contents(folder.path())? == finished, "{line}: done, and not all is there"),
                Some(130) => ensure!(stderr.trim() == "error: interrupted", "{line}: {stderr}"),
                // Before there is anything to clean up, signals do what they always do.
                None => ensure!(status.signal().is_some() && list(folder.path())?.len() == 1, "{line}: {status}"),
                _ => bail!("{line}, step {step}: {status}: {stderr}"),
            }
            whole(folder.path(), &finished).map_err(|e| e.context(format!("{line}, step {step}")))?;
        }
    }
    Ok(())
}

/// Signals at any time, steps or not: while files are converted, text is encoded, noise and models are written.
#[test]
fn a_signal_at_any_time_leaves_nothing_half_written() -> Result<()> {
    let folder = with_text_models()?;
    let encoder = fixture("checkpoints/qwen3").display().to_string();
    for line in [
        format!("convert {encoder} -o x.gguf -q"),
        format!("encode -p cat --text-encoder {encoder} -o x.safetensors -q"),
        format!("generate -m model.gguf -p cat --text-encoder {encoder} -o x.png -q"),
        "noise --seed 1 --shape 64x3x256x256 -o x.npy".into(),
        "bench --shape jit-b16 --save x.gguf".into(),
        "bench --shape jit-b16 -q".into(),
    ] {
        let before = list(folder.path())?;
        let temporary = tempfile::tempdir()?;
        for delay in [5, 60, 300] {
            let mut command = denoir(folder.path());
            command.args(line.split(' ')).env("TMPDIR", temporary.path()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            std::thread::sleep(Duration::from_millis(delay));
            signal(&mut child, "TERM")?;
            let start = Instant::now();
            let status = wait(&mut child)?;
            ensure!(start.elapsed() < Duration::from_secs(30), "{line}: it took {:?}", start.elapsed());
            let stderr = Run::from(child.wait_with_output()?).stderr;
            if status.success() {
                list(folder.path())?
                    .iter()
                    .filter(|file| !before.contains(file))
                    .try_for_each(|(path, _)| fs::remove_file(path))?;
            } else {
                let expected = status.signal() == Some(15) || status.code() == Some(130);
                ensure!(expected, "{line}, after {delay} ms: {status}: {stderr}");
            }
            ensure!(list(folder.path())? == before, "{line}, after {delay} ms: {:?}", list(folder.path())?);
            ensure!(list(temporary.path())?.is_empty(), "{line}, after {delay} ms: {:?}", list(temporary.path())?);
        }
    }
    Ok(())
}

/// A limit on the size of files stands for a full disk: any write may be the one that fails.
#[test]
fn a_disk_that_fills_up_leaves_what_was_finished() -> Result<()> {
    let folder = with_model()?;
    let convert = format!(
        "convert {} --config {} -q -o a.gguf",
        fixture("checkpoints/pg-ctx.ckpt").display(),
        fixture("checkpoints/pg-ctx.json").display()
    );
    let lines = OUTPUTS.map(|output| format!("{DRAW} {output}"));
    for line in lines.into_iter().chain([convert, "noise --seed 1 --shape 2x3x32x32 -o a.npy".into()]) {
        let done = with_copy(&folder)?;
        ok(done.path(), line.split(' '))?;
        let finished = contents(done.path())?;
        let largest = finished.iter().filter(|(name, _)| *name != "model.gguf").map(|(_, bytes)| bytes.len()).max();
        let blocks = largest.unwrap_or(0) / 512;
        for limit in (0..=blocks).step_by((blocks / 6).max(1)) {
            let script = format!("trap '' XFSZ; ulimit -f {limit}; exec {} {line}", env!("CARGO_BIN_EXE_denoir"));
            let run = Run::from(Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output()?);
            whole(folder.path(), &finished).map_err(|e| e.context(format!("{line}, {limit} blocks")))?;
            match run.code {
                // A block may be of 512 bytes or of 1024.
                Some(0) => ensure!(limit > blocks / 2 - 1, "{line}: {limit} blocks were enough"),
                code => ensure!(code == Some(1) && run.stderr.lines().count() == 1, "{line}: {code:?}: {}", run.stderr),
            }
            for (path, _) in list(folder.path())?.iter().filter(|(path, _)| !path.ends_with("model.gguf")) {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_folder_that_goes_while_drawing_is_one_error() -> Result<()> {
    let model = with_model()?;
    for (output, failed) in [
        ("-o o/a.png", "o/a-1.png"),
        ("-o o/a.npy", "o/a.npy"),
        ("--grid -o o/a.ppm", "o/a.ppm"),
        ("-o a.ppm --trajectory o/a.gif", "o/a-1.gif"),
    ] {
        let folder = with_copy(&model)?;
        let (out, preview) = (folder.path().join("o"), folder.path().join("p.png"));
        fs::create_dir(&out)?;
        let line = format!("{DRAW} --steps 200 --preview p.png {output}").replace("--steps 3 ", "");
        let mut child = denoir(folder.path()).args(line.split(' ')).stderr(Stdio::piped()).spawn()?;
        while child.try_wait()?.is_none() && !preview.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::remove_dir_all(&out)?;
        let status = wait(&mut child)?;
        let stderr = Run::from(child.wait_with_output()?).stderr;
        ensure!(status.code() == Some(1) && stderr.lines().count() == 1, "{line}: {status}: {stderr}");
        ensure!(stderr.starts_with(&format!("error: cannot write {failed}: No such file")), "{line}: {stderr}");
        ensure!(!out.exists(), "{line}: the folder came back");
    }
    Ok(())
}

/// Two signals in a row, as impatient users send them: the first one's clean-up is not cut short.
#[test]
fn a_second_signal_leaves_nothing_either() -> Result<()> {
    let folder = with_model()?;
    let before = list(folder.path())?;
    let line = "generate -m model.gguf --steps 10000 -o a.npy --class 1 --preview p.png";
    let mut child = denoir(folder.path()).args(line.split(' ')).stderr(Stdio::piped()).spawn()?;
    while child.try_wait()?.is_none() && !folder.path().join("p.png").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&mut child, "INT")?;
    signal(&mut child, "INT")?;
    let status = wait(&mut child)?;
    ensure!(status.code() == Some(130), "{status}");
    fs::remove_file(folder.path().join("p.png"))?;
    ensure!(list(folder.path())? == before, "{:?}", list(folder.path())?);
    ensure!(npy(&folder.path().join("a.npy")).is_err());
    Ok(())
}
