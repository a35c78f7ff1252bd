//! Whatever goes wrong: one line, the right exit code, nothing left behind.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::{Run, denoir, fails, fixture, list, ok, with_model};

#[test]
fn wrong_usage_is_exit_code_2() -> Result<()> {
    let folder = with_model()?;
    let cases = [
        ("generate --stpes 3", "--steps"),
        ("generate --steps 0", "steps must be 1 to 10000"),
        ("generate --steps many", "--steps"),
        ("generate --guidance-interval 3", "two numbers"),
        ("generate -m model.gguf --guidance-interval 0.9,0.1", "lower end"),
        ("generate -m model.gguf --cfg-scale inf", "guidance scale"),
        ("generate -m model.gguf --sampling-method dpm", "heun-reuse"),
        ("generate -m model.gguf --order 3", "adams"),
        ("generate -m model.gguf --sampling-method adams --order 9", "order"),
        ("generate -m model.gguf --sampling-method heun-jit --flow-shift 2", "heun-jit has no flow shift"),
        ("generate -m model.gguf --class lion", "no class is called \"lion\""),
        ("generate -m model.gguf --class moggi", "did you mean \"tabby cat, moggy\"?"),
        ("generate -m model.gguf --class cat", "did you mean \"tabby cat, moggy\"?"),
        ("generate -m model.gguf --class 10", "there is no class 10: this model has 10, from 0"),
        ("generate -m model.gguf --class -1", "'-1'"),
        ("generate -m model.gguf -p cat", "use --class"),
        ("generate -m model.gguf -n cat", "use --class"),
        ("generate -m model.gguf --text-encoder x.gguf", "use --class"),
        ("generate -m model.gguf --prompt-embeds x.safetensors", "use --class"),
        ("generate -o picture.jpg", ".png, .ppm or .npy"),
        ("generate --grid -o a.npy", "--grid"),
        ("generate -i 2 -o -", "standard output takes one picture"),
        ("generate --json -o -", "standard output"),
        ("generate -i 0", "1..=10000"),
        ("generate --trajectory a.mp4", ".gif or .png"),
        ("generate --trajectory out.png", "same file"),
        ("generate --preview a.gif", ".png, .ppm"),
        ("generate --preview term", "terminal"),
        ("generate --isa sse9", "this machine has scalar"),
        ("generate --backend metal", "vulkan"),
        ("generate --threads 0", "1..=1024"),
        ("generate --seed -1", "'-1'"),
        ("generate --rng numpy", "torch or philox"),
        ("generate -q -v", "cannot be used with"),
        ("convert", "required"),
        ("convert x.ckpt -o x.bin", ".gguf"),
        ("convert x.ckpt -o x.gguf --type q4", "f32, f16, bf16 or int8"),
        ("noise --seed 1 --shape 0x3 -o n.npy", "positive numbers"),
        ("noise --seed 1 --shape 99999999999x99999999999 -o n.npy", "too many values"),
        ("noise --seed 1 --shape 3 -o n.txt", ".npy"),
        ("verify", "required"),
        ("bench --shape vae", "jit-b16"),
        ("bench --shape pixelgen-xxxl", "use one of"),
        ("bench --type int8", "--shape"),
        ("bench --save m.gguf", "--shape"),
        ("bench --batch 33", "1..=32"),
        ("paint", "unrecognized subcommand"),
    ];
    wrong(folder.path(), &cases)
}

/// Each number that is out of range is named by its own option.
#[test]
fn wrong_numbers_name_their_option() -> Result<()> {
    let folder = with_model()?;
    let cases = [
        ("generate -m model.gguf --cfg-scale -1e5", "--cfg-scale: the guidance scale is so large"),
        ("generate -m model.gguf --cfg-scale nan", "--cfg-scale: the guidance scale is not a finite number"),
        ("generate -m model.gguf --cfg-scale -inf", "--cfg-scale"),
        ("generate -m model.gguf --noise-scale -1", "--noise-scale: the noise scale must be above 0"),
        ("generate -m model.gguf --noise-scale -0", "--noise-scale: the noise scale must be above 0"),
        ("generate -m model.gguf --noise-scale 3e38", "--noise-scale: the noise scale is so large"),
        ("generate -m model.gguf --noise-scale 1e400", "--noise-scale: the noise scale is not a finite number"),
        ("generate -m model.gguf --flow-shift 1e-38", "--flow-shift: the flow shift is so large or so small"),
        ("generate -m model.gguf --flow-shift 1e-400", "--flow-shift: the flow shift must be above 0"),
        ("generate -m model.gguf --guidance-interval nan,1", "--guidance-interval: the guidance interval is not"),
        ("generate -m model.gguf --guidance-interval -1,1e39", "--guidance-interval: the guidance interval is not"),
        ("generate --steps -1", "'--steps <N>'"),
        ("generate --order -1", "'--order <K>'"),
        ("generate -i -1", "'--images <COUNT>'"),
        ("generate --threads -1", "'--threads <N>'"),
        ("generate --device -1", "'--device <N>'"),
        ("bench --batch -1", "'--batch <N>'"),
        ("noise --seed -1 --shape 1 -o n.npy", "'--seed <S>'"),
    ];
    wrong(folder.path(), &cases)
}

/// Each line is wrong usage, and its error says so.
fn wrong(folder: &Path, cases: &[(&str, &str)]) -> Result<()> {
    for (line, needle) in cases {
        let error = fails(folder, 2, line.split(' ')).map_err(|e| e.context(line.to_string()))?;
        ensure!(error.contains(needle), "{line}: {error}");
    }
    Ok(())
}

/// Settings at both ends of what is allowed draw something: nothing overflows, and no weights are blamed.
#[test]
fn extreme_settings_draw() -> Result<()> {
    let folder = with_model()?;
    for scales in
        ["1e4 --flow-shift 1e4 --noise-scale 1e4", "-1e4 --flow-shift 1e-4 --noise-scale 1e4", "-1 --noise-scale 1e-4"]
    {
        for method in ["euler", "heun", "heun-reuse", "adams"] {
            let line =
                format!("generate -m model.gguf --steps 5 -q -o x.ppm --sampling-method {method} --cfg-scale {scales}");
            ok(folder.path(), line.split(' ')).map_err(|e| e.context(line.clone()))?;
        }
    }
    Ok(())
}

/// The same limits hold for what a file says, when it is made and when it is opened.
#[test]
fn settings_in_files_are_named() -> Result<()> {
    let folder = with_model()?;
    let model = std::fs::read(folder.path().join("model.gguf"))?;
    for (key, value, needle) in [
        ("flow_shift", 1e-38f32, "the flow shift is so large or so small"),
        ("noise_scale", 3e38, "the noise scale is so large or so small"),
        ("noise_scale", f32::NAN, "the noise scale is not a finite number"),
        ("cfg_scale", f32::NEG_INFINITY, "the guidance scale is not a finite number"),
        ("cfg_scale", 1e30, "the guidance scale is so large or so small"),
    ] {
        let mut bytes = model.clone();
        let key = format!("denoir.sampler.{key}");
        let at = bytes.windows(key.len()).position(|w| w == key.as_bytes()).context("no such key")? + key.len() + 4;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        std::fs::write(folder.path().join("bad.gguf"), bytes)?;
        let error = fails(folder.path(), 1, ["generate", "-m", "bad.gguf"])?;
        ensure!(error.contains(needle), "{key}: {error}");
        let text = ok(folder.path(), ["inspect", "bad.gguf"])?.text();
        ensure!(text.contains(&format!("unusable: {needle}")), "{key}: {text}");
    }
    let checkpoint = fixture("checkpoints/pg-ctx.ckpt").to_string_lossy().into_owned();
    let config = std::fs::read_to_string(fixture("checkpoints/pg-ctx.json"))?;
    for (sampler, needle) in [
        (r#"{"flow_shift": 1e-38}"#, "the flow shift is so large or so small"),
        (r#"{"noise_scale": 3e38}"#, "the noise scale is so large or so small"),
        (r#"{"cfg_scale": -1e30}"#, "the guidance scale is so large or so small"),
        (r#"{"method": "heun-jit", "flow_shift": 2}"#, "heun-jit has no flow shift"),
    ] {
        let config = format!("{},\"sampler\":{sampler}}}", config.trim_end().trim_end_matches('}'));
        std::fs::write(folder.path().join("config.json"), config)?;
        let error = fails(folder.path(), 1, ["convert", &checkpoint, "--config", "config.json", "-o", "x.gguf"])?;
        ensure!(error.contains(needle), "{sampler}: {error}");
    }
    Ok(())
}

#[test]
fn failures_are_exit_code_1() -> Result<()> {
    let folder = with_model()?;
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("folder.png"))?;
    std::fs::write(at("empty.gguf"), "")?;
    std::fs::write(at("text.gguf"), "no model at all")?;
    let model = std::fs::read(at("model.gguf"))?;
    std::fs::write(at("short.gguf"), &model[..model.len() / 2])?;
    let cases = [
        ("generate -m none.gguf", "none.gguf: No such file"),
        ("generate -m .", "directory"),
        ("generate -m empty.gguf", "empty.gguf"),
        ("generate -m text.gguf", "not a GGUF"),
        ("generate -m short.gguf", "short.gguf: the data of tensor"),
        ("generate -m /dev/null", "not a regular file"),
        ("generate -m model.gguf -o none/out.png", "none/out.png"),
        ("generate -m model.gguf -o model.gguf/out.png", "model.gguf/out.png"),
        ("generate -m model.gguf -o folder.png", "it is a folder"),
        ("generate -m model.gguf -i 2 -o none/out.npy", "none/out.npy"),
        ("generate -m model.gguf --preview none/p.png", "none/p.png"),
        ("generate -m model.gguf --trajectory none/t.gif", "none/t.gif"),
        ("generate -m model.gguf --backend vulkan", "no Vulkan"),
        ("generate -m model.gguf --backend cuda", "no CUDA"),
        ("generate -m model.gguf --device 3", "device 3"),
        ("inspect none.gguf", "none.gguf"),
        ("inspect text.gguf", "text.gguf"),
        ("convert none.ckpt -o x.gguf", "none.ckpt"),
        ("convert text.gguf -o x.gguf", "text.gguf"),
        ("noise --seed 1 --shape 16 -o none/n.npy", "none/n.npy"),
        ("verify none.safetensors", "none.safetensors"),
        ("verify text.gguf", "text.gguf"),
        ("bench -m none.gguf", "none.gguf"),
    ];
    for (line, needle) in cases {
        let error = fails(folder.path(), 1, line.split(' ')).map_err(|e| e.context(line))?;
        ensure!(error.contains(needle), "{line}: {error}");
        ensure!(!error.contains(".tmp"), "{line} names a temporary file: {error}");
    }
    Ok(())
}

/// A limit on the size of files stands for a full disk: the write fails half-way.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing() -> Result<()> {
    let folder = with_model()?;
    let generate = "generate -m model.gguf --steps 1 --class 1 -q";
    let noise = "noise --seed 1 --shape 1x3x64x64 -o a.npy";
    let convert = format!(
        "convert {} --config {} -q -o a.gguf",
        fixture("checkpoints/pg-ctx.ckpt").display(),
        fixture("checkpoints/pg-ctx.json").display()
    );
    for line in [
        format!("{generate} -o a.ppm"),
        format!("{generate} -o a.npy"),
        format!("{generate} -o a.png"),
        format!("{generate} -i 4 --grid -o a.png"),
        noise.to_owned(),
        convert,
    ] {
        let before = list(folder.path())?;
        // Blocks of 512 bytes or of 1024, as the shell pleases. The signal is ignored so that the write returns.
        let script = format!("trap '' XFSZ; ulimit -f 1; exec {} {line}", env!("CARGO_BIN_EXE_denoir"));
        let run = Run::from(Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output()?);
        ensure!(run.code == Some(1), "{line}: exit code {:?}: {}", run.code, run.stderr);
        ensure!(run.stderr.lines().count() == 1, "{line}: {}", run.stderr);
        ensure!(run.stderr.contains("cannot write a."), "{line}: {}", run.stderr);
        ensure!(list(folder.path())? == before, "{line}: files were left: {:?}", list(folder.path())?);
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error_and_a_closed_one_is_not() -> Result<()> {
    let folder = with_model()?;
    for line in ["generate -m model.gguf --steps 1 --class 1 -q -o -", "inspect model.gguf", "devices --json"] {
        let full = std::fs::File::options().write(true).open("/dev/full")?;
        let run = Run::from(denoir(folder.path()).args(line.split(' ')).stdout(full).output()?);
        ensure!(run.code == Some(1) && run.stderr.lines().count() == 1, "{line}: {:?}: {}", run.code, run.stderr);
        ensure!(run.stderr.contains("standard output"), "{line}: {}", run.stderr);
        let script = format!("{} {line} | true", env!("CARGO_BIN_EXE_denoir"));
        let run = Run::from(Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output()?);
        ensure!(run.stderr.is_empty(), "{line}: {}", run.stderr);
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_cleanly() -> Result<()> {
    let folder = with_model()?;
    let before = list(folder.path())?;
    for signal in ["-INT", "-TERM"] {
        let mut command = denoir(folder.path());
        command.args(["generate", "-m", "model.gguf", "--steps", "10000", "-o", "a.npy", "--class", "1"]);
        let mut child = command.stderr(std::process::Stdio::piped()).spawn()?;
        // Its temporary file says that it draws.
        let start = Instant::now();
        while list(folder.path())? == before && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        ensure!(child.try_wait()?.is_none(), "it ended too early");
        // The handler is there a moment later.
        std::thread::sleep(Duration::from_millis(300));
        ensure!(Command::new("kill").args([signal, &child.id().to_string()]).status()?.success());
        let run = Run::from(child.wait_with_output()?);
        ensure!(run.code == Some(130), "exit code {:?}: {}", run.code, run.stderr);
        ensure!(run.stderr.trim() == "error: interrupted", "{}", run.stderr);
        ensure!(list(folder.path())? == before, "files were left: {:?}", list(folder.path())?);
    }
    Ok(())
}

#[test]
fn help_and_version_go_to_standard_output() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let commands = ["generate", "convert", "inspect", "devices", "verify", "bench", "noise"];
    let help = ok(folder.path(), ["help"])?.text();
    for command in commands {
        ensure!(help.contains(command), "{help}");
        let help = ok(folder.path(), [command, "--help"])?;
        ensure!(help.text().contains("Usage: denoir") && help.stderr.is_empty());
    }
    assert_eq!(ok(folder.path(), ["--version"])?.text(), concat!("denoir ", env!("CARGO_PKG_VERSION"), "\n"));
    Ok(())
}
