//! Files that are no files, names that speak to the terminal, and small files that ask for much: one line, and nothing
//! else.
#![cfg(unix)]

mod common;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use common::{Run, denoir, fixture, list, with_model, with_text_models, within};
use serde_json::Value;

/// Makes a pipe, a socket, a folder and a link to the pipe in `folder`; their names and those of two devices.
fn no_files(folder: &Path) -> Result<[&'static str; 6]> {
    ensure!(Command::new("mkfifo").arg(folder.join("pipe")).status()?.success());
    drop(UnixListener::bind(folder.join("socket"))?);
    fs::create_dir(folder.join("folder"))?;
    std::os::unix::fs::symlink("pipe", folder.join("link"))?;
    Ok(["pipe", "socket", "folder", "link", "/dev/zero", "/dev/null"])
}

/// A line with `@` for `file` must end with code 1, one line, and nothing written.
fn refuses(folder: &Path, line: &str, file: &str) -> Result<String> {
    let before = list(folder)?;
    let line = line.replace('@', file);
    let run = within(denoir(folder).args(line.split(' '))).context(line.clone())?;
    ensure!(run.code == Some(1), "{line}: exit code {:?}: {}", run.code, run.stderr);
    ensure!(run.stderr.starts_with("error: ") && run.stderr.lines().count() == 1, "{line}: {}", run.stderr);
    ensure!(list(folder)? == before, "{line}: files were left: {:?}", list(folder)?);
    Ok(run.stderr)
}

#[test]
fn what_is_no_file_is_refused_before_it_is_opened() -> Result<()> {
    let folder = with_model()?;
    let convert = format!("convert {} -o x.gguf", fixture("checkpoints/pg-ctx.ckpt").display());
    for file in no_files(folder.path())? {
        for line in [
            "generate -m @",
            "inspect @",
            "bench -m @",
            &format!("{convert} --config @"),
            &format!("{convert} --labels @"),
        ] {
            refuses(folder.path(), line, file)?;
        }
        // A folder may hold a checkpoint or fixtures.
        for line in ["verify @", "convert @ -o x.gguf"].iter().filter(|_| file != "folder") {
            ensure!(refuses(folder.path(), line, file)?.contains(file), "{line}");
        }
        // A shard is in the index's own folder.
        if !file.contains('/') {
            let index = format!(r#"{{"weight_map":{{"a":"{file}"}}}}"#);
            fs::write(folder.path().join("m.safetensors.index.json"), index)?;
            refuses(folder.path(), "convert m.safetensors.index.json -o x.gguf", file)?;
            fs::remove_file(folder.path().join("m.safetensors.index.json"))?;
        }
    }
    Ok(())
}

#[test]
fn what_is_no_file_holds_no_text() -> Result<()> {
    let folder = with_text_models()?;
    for file in no_files(folder.path())? {
        refuses(folder.path(), "generate -m model.gguf --prompt-embeds @", file)?;
        // A folder may hold a text encoder.
        let lines =
            ["encode -p cat --text-encoder @ -o x.safetensors", "generate -m model.gguf -p cat --text-encoder @"];
        for line in lines.iter().filter(|_| file != "folder") {
            refuses(folder.path(), line, file)?;
        }
    }
    // The files beside a text encoder's tensors.
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let copy = folder.path().join("copy");
        fs::create_dir(&copy)?;
        for entry in fixture("checkpoints/qwen3").read_dir()? {
            let entry = entry?;
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
        fs::remove_file(copy.join(name))?;
        ensure!(Command::new("mkfifo").arg(copy.join(name)).status()?.success());
        ensure!(refuses(folder.path(), "convert @ -o x.gguf", "copy")?.contains("not a"), "{name}");
        fs::remove_dir_all(copy)?;
    }
    Ok(())
}

// ---- names ------------------------------------------------------------------------------------------------------

/// Colours, a title, a cleared screen, a line that hides its beginning, text that runs backwards, invisible letters.
const EVIL: &str =
    "\u{1b}[31m\u{1b}]0;x\u{7}\u{9b}2J\r\u{7f}\u{202e}\u{2066}\u{200b}\u{200d}\u{feff}\u{ad}\u{2028}\u{e0041}é";

/// Whether a terminal would do anything but show the text.
fn speaks(text: &str) -> bool {
    let hidden = |c| EVIL.contains(c) && !matches!(c, '[' | ']' | ';' | '0'..='9' | 'a'..='z' | 'A'..='Z' | 'é');
    text.chars().any(|c| (c.is_control() && c != '\n') || hidden(c))
}

/// Runs the program; nothing that it prints may speak to the terminal.
fn silent<S: AsRef<std::ffi::OsStr>>(folder: &Path, args: &[S]) -> Result<Run> {
    let run = within(denoir(folder).args(args))?;
    let what: Vec<_> = args.iter().map(AsRef::as_ref).collect();
    ensure!(!speaks(&run.text()), "{what:?}: {:?}", run.text());
    ensure!(!speaks(&run.stderr), "{what:?}: {:?}", run.stderr);
    Ok(run)
}

/// A model whose name, class names, file and folder are evil.
#[test]
fn names_of_a_model_are_shown_and_not_obeyed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut config: Value = serde_json::from_slice(&fs::read(fixture("checkpoints/pg-ctx.json"))?)?;
    config["name"] = EVIL.into();
    fs::write(at("config.json"), config.to_string())?;
    // Lines end class names, so they hold none, and spaces around them are cut.
    let class = EVIL.replace(['\r', '\u{2028}'], "");
    fs::write(at("labels.txt"), [class.as_str(); 10].join("\n"))?;
    let checkpoint = at(&format!("{EVIL}.ckpt"));
    fs::copy(fixture("checkpoints/pg-ctx.ckpt"), &checkpoint)?;
    let model = format!("{EVIL}\n.gguf");
    let checkpoint = checkpoint.to_string_lossy();
    let run = silent(
        folder.path(),
        &["convert", &checkpoint, "--config", "config.json", "--labels", "labels.txt", "-o", &model],
    )?;
    ensure!(run.code == Some(0) && run.stderr.lines().count() == 1, "{}", run.stderr);

    let text = silent(folder.path(), &["inspect", &model, "--tensors"])?.text();
    ensure!(text.contains("\\u{1b}[31m\\u{1b}]0;x\\u{7}\\u{9b}2J\\r\\u{7f}\\u{202e}\\u{2066}\\u{200b}"), "{text}");
    let json = silent(folder.path(), &["inspect", &model, "--json"])?.json()?;
    ensure!(
        json["name"] == EVIL && json["file"] == model.as_str() && json["class_names"][9] == class.as_str(),
        "{json}"
    );
    ensure!(json["metadata"]["denoir.source.file"] == format!("{EVIL}.ckpt"), "{json}");

    let out = format!("{EVIL}.png");
    let draw = ["generate", "-m", &model, "--steps", "2", "--class", "3", "-o", &out];
    let run = silent(folder.path(), &[&draw[..], &["-v"]].concat())?;
    ensure!(run.code == Some(0) && run.stderr.contains("\\u{9b}2J"), "{}", run.stderr);
    let json = silent(folder.path(), &[&draw[..], &["--json"]].concat())?.json()?;
    ensure!(json["outputs"][0] == out.as_str() && json["images"][0]["class_name"] == class.as_str(), "{json}");
    ensure!(json["model"]["name"] == EVIL, "{json}");
    let json = silent(folder.path(), &["bench", "-m", &model, "--runs", "1", "--json"])?.json()?;
    ensure!(json["name"] == EVIL && json["model"] == model.as_str(), "{json}");
    silent(folder.path(), &["bench", "-m", &model, "--runs", "1"])?;
    Ok(())
}

#[test]
fn errors_show_what_they_quote() -> Result<()> {
    let folder = with_model()?;
    let evil = EVIL;
    let none = format!("{evil}\n.gguf");
    fs::write(folder.path().join(format!("{evil}.safetensors")), EVIL)?;
    fs::write(folder.path().join("evil.yaml"), format!("\"{}\": 1\n", "\\e[31m"))?;
    fs::write(folder.path().join("evil.json"), serde_json::json!({ EVIL: 1 }).to_string())?;
    let checkpoint = fixture("checkpoints/pg-ctx.ckpt").to_string_lossy().into_owned();
    let text = format!("{evil}.safetensors");
    for args in [
        &["generate", "-m", &none][..],
        &["generate", "-m", "model.gguf", "--class", evil],
        &["generate", "-m", "model.gguf", "-o", evil],
        &["generate", "-m", "model.gguf", "--preview", evil],
        &["generate", "-m", "model.gguf", "--isa", evil],
        &["generate", "-m", "model.gguf", evil],
        &["generate", "-m", "model.gguf", "--cfg-scale", evil],
        &["inspect", &none],
        &["inspect", &text],
        &["verify", &text],
        &["verify", &none],
        &["convert", &text, "-o", "x.gguf"],
        &["convert", &none, "-o", "x.gguf"],
        &["convert", &checkpoint, "-o", evil],
        &["convert", &checkpoint, "-o", &format!("{evil}/x.gguf")],
        &["convert", &checkpoint, "--config", "evil.yaml", "-o", "x.gguf"],
        &["convert", &checkpoint, "--config", "evil.json", "-o", "x.gguf"],
        &["convert", &checkpoint, "--weights", evil, "-o", "x.gguf"],
        &["convert", &checkpoint, "--labels", &none, "-o", "x.gguf"],
        &["noise", "--seed", evil, "--shape", "1", "-o", "x.npy"],
        &["bench", "-m", &none],
        &["bench", "--shape", evil],
        &["encode", "-p", evil, "--text-encoder", &none, "-o", "x.safetensors"],
        &[evil],
    ] {
        let run = silent(folder.path(), args)?;
        ensure!(matches!(run.code, Some(1 | 2)) && run.stderr.lines().count() == 1, "{args:?}: {}", run.stderr);
    }
    Ok(())
}

/// A GGUF of another kind, whose keys, values and tensors have evil names.
#[test]
fn inspect_shows_any_names() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let tensor = EVIL.chars().take(20).collect::<String>();
    let file = [
        b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec(),
        [text("general.architecture"), 8u32.to_le_bytes().to_vec(), text(EVIL)].concat(),
        [text(EVIL), [9u32, 8].map(u32::to_le_bytes).concat(), 1u64.to_le_bytes().to_vec(), text(EVIL)].concat(),
        [text(&tensor), 1u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec(), vec![0; 12]].concat(),
        vec![0; 64],
    ];
    fs::write(folder.path().join("q.gguf"), file.concat())?;
    let run = silent(folder.path(), &["inspect", "q.gguf", "--tensors"])?;
    ensure!(run.code == Some(0) && run.text().contains("\\u{1b}[31m"), "{}{}", run.text(), run.stderr);
    let json = silent(folder.path(), &["inspect", "q.gguf", "--json", "--tensors"])?.json()?;
    ensure!(json["architecture"] == EVIL && json["metadata"][EVIL][0] == EVIL, "{json}");
    ensure!(json["tensors"][0]["name"] == tensor.as_str(), "{json}");
    ensure!(silent(folder.path(), &["generate", "-m", "q.gguf"])?.code == Some(1));
    Ok(())
}

/// An error quotes the beginning of what it found, however long that is.
#[test]
fn messages_are_short() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let header = format!(r#"{{"a":{{"dtype":"{}","shape":[0],"data_offsets":[0,0]}}}}"#, "F".repeat(1 << 20));
    let file = [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes()].concat();
    fs::write(folder.path().join("a.safetensors"), file)?;
    for line in ["convert a.safetensors -o x.gguf", "verify a.safetensors"] {
        let error = refuses(folder.path(), line, "")?;
        ensure!(error.len() < 3000, "{line}: {} bytes", error.len());
    }
    Ok(())
}

// ---- bombs ------------------------------------------------------------------------------------------------------

/// What a bomb of a pickle may take of the system: the limit is on addresses, so it holds for whatever is mapped.
#[cfg(target_os = "linux")]
#[test]
fn a_pickle_that_copies_itself_ends_within_its_memory() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let items = 200_000;
    let mut pickle = [b"\x80\x02}(".as_slice(), &b"K\0N".repeat(items), b"uq\x01"].concat();
    pickle.extend(b"}h\x01b".repeat(50_000));
    pickle.push(b'.');
    fs::write(folder.path().join("p.ckpt"), stored_zip("p/data.pkl", &pickle))?;
    let len = fs::metadata(folder.path().join("p.ckpt"))?.len() as usize;
    // The program itself takes addresses too, and one arena of the allocator for each thread.
    let kib = (64 * len + (64 << 20) + (256 << 20)) / 1024;
    let script = format!("ulimit -v {kib}; exec {} convert p.ckpt -o x.gguf", env!("CARGO_BIN_EXE_denoir"));
    let run = within(Command::new("sh").args(["-c", &script]).current_dir(folder.path()))?;
    ensure!(run.code == Some(1) && run.stderr.contains("too many values for its length"), "{}", run.stderr);
    ensure!(list(folder.path())?.len() == 1, "files were left: {:?}", list(folder.path())?);
    Ok(())
}

/// A zip file of one stored entry.
fn stored_zip(name: &str, data: &[u8]) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(data);
    let (crc, len, name_len) =
        (crc.finalize().to_le_bytes(), (data.len() as u32).to_le_bytes(), (name.len() as u16).to_le_bytes());
    let fields = [&[0; 8][..], &crc, &len, &len, &name_len, &[0; 2]].concat();
    let local = [b"PK\x03\x04\0\0", fields.as_slice(), name.as_bytes(), data].concat();
    let central = [b"PK\x01\x02\0\0\0\0", fields.as_slice(), &[0; 10], &[0; 4], name.as_bytes()].concat();
    let sizes = [(central.len() as u32).to_le_bytes(), (local.len() as u32).to_le_bytes()].concat();
    [local.as_slice(), &central, b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &sizes, &[0; 2]].concat()
}
