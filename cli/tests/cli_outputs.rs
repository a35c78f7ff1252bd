//! Files that the program writes: what is there already keeps its permissions and links, and nothing is written twice.
#![cfg(unix)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use common::{denoir, fails, fixture, list, ok, png, with_model, within};

const DRAW: [&str; 8] = ["generate", "-m", "model.gguf", "--steps", "2", "--class", "1", "-q"];

fn draw<'a>(more: &[&'a str]) -> Vec<&'a str> {
    DRAW.iter().chain(more).copied().collect()
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.mode() & 0o7777)
}

/// Every command that writes, with `@` for its file.
fn writers() -> [String; 6] {
    let convert = format!(
        "convert {} --config {} -q -o @.gguf",
        fixture("checkpoints/pg-ctx.ckpt").display(),
        fixture("checkpoints/pg-ctx.json").display()
    );
    let draw = DRAW.join(" ");
    [
        format!("{draw} -o @.png"),
        format!("{draw} -o @.npy"),
        format!("{draw} -o x.ppm --trajectory @.gif"),
        format!("{draw} -o x.ppm --preview @.ppm"),
        "noise --seed 1 --shape 16 -o @.npy".into(),
        convert,
    ]
}

#[test]
fn a_replaced_file_keeps_its_permissions() -> Result<()> {
    let folder = with_model()?;
    for line in writers() {
        for kept in [0o600, 0o640, 0o400, 0o666] {
            let line = line.replace('@', "kept");
            let name = line.split(' ').find(|word| word.starts_with("kept.")).unwrap_or_default();
            let path = folder.path().join(name);
            fs::write(&path, "old")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(kept))?;
            ok(folder.path(), line.split(' ')).map_err(|e| e.context(line.clone()))?;
            ensure!(mode(&path)? == kept && fs::metadata(&path)?.len() > 3, "{line}: {:o}", mode(&path)?);
            fs::remove_file(&path)?;
        }
    }
    // A new one gets what any other program's gets, and one that runs as its owner does so no more.
    let out = folder.path().join("new.png");
    let script = format!("umask 027; exec {} {} -o new.png", env!("CARGO_BIN_EXE_denoir"), DRAW.join(" "));
    ensure!(Command::new("sh").args(["-c", &script]).current_dir(folder.path()).status()?.success());
    ensure!(mode(&out)? == 0o640, "{:o}", mode(&out)?);
    fs::set_permissions(&out, fs::Permissions::from_mode(0o6755))?;
    ok(folder.path(), draw(&["-o", "new.png"]))?;
    ensure!(mode(&out)? == 0o755, "{:o}", mode(&out)?);
    Ok(())
}

#[test]
fn links_are_followed() -> Result<()> {
    let folder = with_model()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("elsewhere"))?;
    for line in writers() {
        let line = line.replace('@', "link");
        let name = line.split(' ').find(|word| word.starts_with("link.")).unwrap_or_default();
        fs::write(at("elsewhere/real"), "old")?;
        symlink("elsewhere/real", at("middle"))?;
        symlink("middle", at(name))?;
        ok(folder.path(), line.split(' ')).map_err(|e| e.context(line.clone()))?;
        ensure!(at(name).is_symlink() && at("middle").is_symlink(), "{line}: the link was replaced");
        ensure!(fs::metadata(at("elsewhere/real"))?.len() > 3, "{line}: the file was not");
        ensure!(list(&at("elsewhere"))?.len() == 1, "{line}: files were left");
        [name, "middle", "elsewhere/real"].iter().try_for_each(|name| fs::remove_file(at(name)))?;
    }
    // Another name of the same file keeps the old contents.
    fs::write(at("one.png"), "old")?;
    fs::hard_link(at("one.png"), at("other.png"))?;
    ok(folder.path(), draw(&["-o", "one.png"]))?;
    ensure!(fs::read(at("other.png"))? == b"old");
    png(&fs::read(at("one.png"))?)?;
    Ok(())
}

#[test]
fn what_cannot_be_replaced_is_refused_by_its_own_name() -> Result<()> {
    let folder = with_model()?;
    let at = |name: &str| folder.path().join(name);
    symlink("nowhere", at("dangling.png"))?;
    symlink("loop.png", at("loop.png"))?;
    symlink("/dev/null", at("null.png"))?;
    symlink("/dev/full", at("full.npy"))?;
    symlink("/dev/stdout", at("stdout.png"))?;
    symlink("/proc/version", at("proc.png"))?;
    ensure!(Command::new("mkfifo").arg(at("pipe.png")).status()?.success());
    fs::create_dir(at("folder.gif"))?;
    for (option, name, needle) in [
        ("-o", "dangling.png", "a symbolic link to nothing"),
        ("-o", "loop.png", "loop.png"),
        ("-o", "null.png", "not a regular file"),
        ("-o", "full.npy", "not a regular file"),
        ("-o", "stdout.png", "stdout.png"),
        ("-o", "pipe.png", "not a regular file"),
        ("--trajectory", "folder.gif", "it is a folder"),
        ("--preview", "pipe.png", "not a regular file"),
        ("--preview", "none/p.png", "No such file"),
    ] {
        let error = fails(folder.path(), 1, draw(&[option, name]))?;
        ensure!(error.starts_with(&format!("error: cannot write {name}: ")), "{name}: {error}");
        ensure!(error.contains(needle) && !error.contains(".tmp"), "{name}: {error}");
    }
    let error = fails(folder.path(), 1, draw(&["-o", "proc.png"]))?;
    ensure!(error.contains("cannot write proc.png: "), "{error}");
    Ok(())
}

#[test]
fn no_file_is_written_twice_or_read_and_written() -> Result<()> {
    let folder = with_model()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub"))?;
    symlink("sub", at("link"))?;
    symlink("a.png", at("b.png"))?;
    fs::write(at("a.png"), "old")?;
    fs::copy(at("model.gguf"), at("model.png"))?;
    for (line, needle) in [
        ("-o a.png --trajectory ./a.png", "-o and --trajectory name the same file"),
        ("-o a.png --trajectory b.png", "-o and --trajectory name the same file"),
        ("-o a.png --preview sub/../a.png", "-o and --preview name the same file"),
        ("-o x.png -i 3 --preview x-2.png", "-o and --preview name the same file"),
        ("-o sub/x.png --preview link/x.png", "-o and --preview name the same file"),
        ("-o x.ppm --trajectory y.png --preview y.png", "--trajectory and --preview name the same file"),
        ("-o x.npy --trajectory y.png -i 2 --preview y-1.png", "--trajectory and --preview name the same file"),
        ("-m model.png -o model.png", "-m and -o name the same file"),
        ("-m model.png -o x.ppm --preview ./model.png", "-m and --preview name the same file"),
    ] {
        let args = draw(&[]).into_iter().filter(|arg| !line.contains("-m ") || (*arg != "-m" && *arg != "model.gguf"));
        let error = fails(folder.path(), 2, args.chain(line.split(' '))).map_err(|e| e.context(line))?;
        ensure!(error.contains(needle), "{line}: {error}");
    }
    // Two images whose files are links to one.
    symlink("a.png", at("c-1.png"))?;
    symlink("a.png", at("c-2.png"))?;
    let error = fails(folder.path(), 2, draw(&["-i", "2", "-o", "c.png"]))?;
    ensure!(error.contains("two files of -o lead to c-2.png"), "{error}");

    let (checkpoint, config) = (fixture("checkpoints/pg-ctx.ckpt"), fixture("checkpoints/pg-ctx.json"));
    fs::copy(checkpoint, at("x.gguf"))?;
    fs::copy(config, at("config.gguf"))?;
    fs::write(at("labels.gguf"), ["n"; 10].join("\n"))?;
    for line in [
        "convert x.gguf --config config.gguf -o ./x.gguf",
        "convert x.gguf --config config.gguf -o config.gguf",
        "convert x.gguf --config config.gguf --labels labels.gguf -o labels.gguf",
    ] {
        let error = fails(folder.path(), 1, line.split(' '))?;
        ensure!(error.contains("it is an input file"), "{line}: {error}");
    }
    fs::copy(fixture("checkpoints/jit.safetensors"), at("shard.gguf"))?;
    fs::write(at("i.json"), r#"{"weight_map":{"a":"shard.gguf"}}"#)?;
    ensure!(fails(folder.path(), 1, "convert i.json -o shard.gguf".split(' '))?.contains("it is an input file"));
    Ok(())
}

/// A shell's redirection is not the program's to judge.
#[test]
fn standard_output_may_be_anything() -> Result<()> {
    let folder = with_model()?;
    let picture = ok(folder.path(), draw(&["-o", "-"]))?.stdout;
    png(&picture)?;
    let null = fs::File::options().write(true).open("/dev/null")?;
    ensure!(within(denoir(folder.path()).args(draw(&["-o", "-"])))?.stdout == picture);
    ensure!(denoir(folder.path()).args(draw(&["-o", "-"])).stdout(null).status()?.success());
    Ok(())
}
