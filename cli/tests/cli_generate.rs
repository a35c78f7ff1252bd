//! `denoir generate`: what it writes.

mod common;

use std::io::Write;

use anyhow::{Context, Result, ensure};
use common::{denoir, fixture, list, npy, ok, png, ppm, with_model};

/// A short run with both kinds of evaluation.
const SHORT: [&str; 6] = ["generate", "-m", "model.gguf", "--steps", "4", "-q"];

fn short<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SHORT.iter().chain(more).copied().collect()
}

#[test]
fn formats_agree() -> Result<()> {
    let folder = with_model()?;
    let at = |name: &str| folder.path().join(name);
    for name in ["a.png", "a.ppm", "a.npy"] {
        ok(folder.path(), short(&["--class", "3", "-o", name]))?;
    }
    let (shape, values) = npy(&at("a.npy"))?;
    assert_eq!(shape, [1, 3, 32, 32]);
    let rgb = ppm(&at("a.ppm"))?;
    // PixelGen's rounding.
    let byte = |v: f32| ((v + 1.0) * 127.5 + 0.5).clamp(0.0, 255.0) as u8;
    let want: Vec<u8> = (0..1024).flat_map(|p| [0, 1, 2].map(|c| byte(values[c * 1024 + p]))).collect();
    assert!(rgb == want, "PPM and NumPy differ");
    let picture = png(&std::fs::read(at("a.png"))?)?;
    assert_eq!((picture.width, picture.height), (32, 32));
    assert!(picture.rgb == rgb, "PNG and PPM differ");
    Ok(())
}

#[test]
fn png_carries_the_settings_unless_told_not_to() -> Result<()> {
    let folder = with_model()?;
    let args = ["--class", "border collie", "--seed", "7", "--guidance-interval", "0.2,0.8", "--cfg-scale", "3"];
    ok(folder.path(), short(&[&args[..], &["-o", "a.png"]].concat()))?;
    ok(folder.path(), short(&[&args[..], &["-o", "b.png", "--no-metadata"]].concat()))?;
    let a = png(&std::fs::read(folder.path().join("a.png"))?)?;
    let b = png(&std::fs::read(folder.path().join("b.png"))?)?;
    assert!(a.rgb == b.rgb && b.texts.is_empty());
    let text = |keyword: &str| a.texts.iter().find(|(k, _)| k == keyword).map(|(_, text)| text.as_str());
    let parameters = text("parameters").context("no parameters")?;
    let start = "class 1 (border collie)\nSteps: 4, Sampler: euler, CFG scale: 3, Seed: 7, Size: 32x32, Model hash: ";
    assert!(parameters.starts_with(start), "{parameters}");
    assert!(parameters.ends_with(concat!("Version: denoir ", env!("CARGO_PKG_VERSION"))), "{parameters}");
    let json: serde_json::Value = serde_json::from_str(text("denoir").context("no JSON")?)?;
    assert_eq!(json["images"][0]["class"], 1);
    assert_eq!(json["settings"]["guidance_interval"], serde_json::json!([0.2, 0.8]));
    Ok(())
}

#[test]
fn threads_and_batches_change_no_byte() -> Result<()> {
    let folder = with_model()?;
    let at = |name: &str| std::fs::read(folder.path().join(name));
    let classes = ["--class", "3", "--class", "5", "--seed", "18446744073709551615"];
    ok(folder.path(), short(&[&classes[..], &["-i", "3", "--threads", "1", "-o", "a.png"]].concat()))?;
    ok(folder.path(), short(&[&classes[..], &["-i", "3", "--threads", "2", "-o", "b.png"]].concat()))?;
    for i in 1..=3 {
        assert!(at(&format!("a-{i}.png"))? == at(&format!("b-{i}.png"))?, "image {i} on two threads");
    }
    // Classes take turns, and seeds follow one another around 2^64.
    ok(folder.path(), short(&["--class", "5", "--seed", "0", "-o", "second.png"]))?;
    ok(folder.path(), short(&["--class", "3", "--seed", "1", "-o", "third.png"]))?;
    assert!(at("a-2.png")? == at("second.png")?, "an image alone");
    assert!(at("a-3.png")? == at("third.png")?, "an image alone");
    ok(folder.path(), short(&[&classes[..], &["-i", "3", "-o", "all.npy"]].concat()))?;
    ok(folder.path(), short(&["--class", "3", "--seed", "1", "-o", "third.npy"]))?;
    let ((shape, all), (_, third)) = (npy(&folder.path().join("all.npy"))?, npy(&folder.path().join("third.npy"))?);
    assert_eq!(shape, [3, 3, 32, 32]);
    assert!(all[2 * third.len()..] == third, "an array of one image");
    Ok(())
}

#[test]
fn a_grid_is_one_file() -> Result<()> {
    let folder = with_model()?;
    let classes = ["--class", "0", "--class", "1", "--class", "2", "--class", "3", "--class", "4", "--class", "5"];
    ok(folder.path(), short(&[&classes[..], &["--grid", "-o", "sheet.png"]].concat()))?;
    ok(folder.path(), short(&["--class", "3", "--seed", "45", "-o", "one.png"]))?;
    let sheet = png(&std::fs::read(folder.path().join("sheet.png"))?)?;
    assert_eq!((sheet.width, sheet.height), (96, 64));
    let one = png(&std::fs::read(folder.path().join("one.png"))?)?.rgb;
    // The fourth picture starts the second line.
    let found: Vec<u8> = (32..64).flat_map(|y| sheet.rgb[y * 96 * 3..][..96].to_vec()).collect();
    assert!(found == one, "the fourth picture");
    let parameters = &sheet.texts[0].1;
    assert!(parameters.starts_with("classes 0 (tabby cat, moggy), 1 (border collie), 2 (c),"), "{parameters}");
    assert_eq!(list(folder.path())?.len(), 3);
    Ok(())
}

#[test]
fn animations_and_previews_decode() -> Result<()> {
    let folder = with_model()?;
    let at = |name: &str| folder.path().join(name);
    let run = |name: &str, more: &[&str]| {
        ok(folder.path(), short(&[&["--class", "2", "--trajectory", name, "--preview", "p.ppm"], more].concat()))
    };
    run("t.gif", &[])?;
    assert_eq!(gif_frames(&at("t.gif"))?, [(32, 32); 4]);
    run("t.png", &[])?;
    let mut reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(at("t.png"))?)).read_info()?;
    assert_eq!(reader.info().animation_control().context("not animated")?.num_frames, 4);
    let mut frame = vec![0; reader.output_buffer_size().context("too large")?];
    reader.next_frame(&mut frame)?;
    let finished = png(&std::fs::read(at("out.png"))?)?.rgb;
    assert!(frame == finished, "a still viewer sees the finished picture");
    (0..4).try_for_each(|_| reader.next_frame(&mut frame).map(drop))?;
    assert!(frame == finished, "the animation ends with the finished picture");
    assert!(ppm(&at("p.ppm"))? == finished, "so does the preview");
    run("sheet.gif", &["-i", "2", "--grid"])?;
    assert_eq!(gif_frames(&at("sheet.gif"))?, [(64, 32); 4]);
    run("each.gif", &["-i", "2"])?;
    assert_eq!(gif_frames(&at("each-2.gif"))?, [(32, 32); 4]);
    Ok(())
}

fn gif_frames(path: &std::path::Path) -> Result<Vec<(u16, u16)>> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(std::fs::File::open(path)?)?;
    let mut sizes = Vec::new();
    while let Some(frame) = decoder.read_next_frame()? {
        sizes.push((frame.width, frame.height));
    }
    Ok(sizes)
}

#[test]
fn json_says_what_was_drawn() -> Result<()> {
    let folder = with_model()?;
    let run =
        ok(folder.path(), short(&["--class", "moggy", "--class", "9", "--json", "--isa", "scalar", "-o", "x.png"]))?;
    assert_eq!(run.stderr, "");
    let json = run.json()?;
    assert_eq!(json["outputs"], serde_json::json!(["x-1.png", "x-2.png"]));
    assert_eq!(json["images"][0]["class_name"], "tabby cat, moggy");
    assert_eq!(json["images"][1]["seed"], 43);
    assert_eq!(json["isa"], "scalar");
    assert_eq!(json["settings"]["steps"], 4);
    ensure!(json["timing"]["sample_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{json}");
    Ok(())
}

#[test]
fn standard_output_takes_a_picture() -> Result<()> {
    let folder = with_model()?;
    let run = ok(folder.path(), short(&["--class", "3", "-o", "-"]))?;
    ok(folder.path(), short(&["--class", "3", "-o", "a.png"]))?;
    assert!(run.stdout == std::fs::read(folder.path().join("a.png"))?);
    Ok(())
}

#[test]
fn an_existing_file_is_replaced() -> Result<()> {
    let folder = with_model()?;
    let out = folder.path().join("a.png");
    std::fs::write(&out, "old")?;
    ok(folder.path(), short(&["--class", "3", "-o", "a.png"]))?;
    assert_eq!(png(&std::fs::read(out)?)?.width, 32);
    Ok(())
}

#[test]
fn the_built_in_model_draws() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = ok(folder.path(), ["generate", "--steps", "2"])?;
    assert!(run.stderr.starts_with("out.png: class "), "{}", run.stderr);
    assert!(run.stderr.lines().count() <= 3, "plain lines are few: {}", run.stderr);
    png(&std::fs::read(folder.path().join("out.png"))?)?;
    Ok(())
}

#[test]
fn every_solver_can_be_asked_for() -> Result<()> {
    let folder = with_model()?;
    for method in ["euler", "heun", "heun-reuse", "heun-jit", "adams"] {
        ok(folder.path(), short(&["--sampling-method", method, "-o", &format!("{method}.ppm")]))?;
    }
    ok(folder.path(), short(&["--sampling-method", "adams", "--order", "4", "--flow-shift", "3", "-o", "o4.ppm"]))?;
    ok(folder.path(), short(&["--rng", "philox", "--noise-scale", "0.9", "-o", "p.ppm"]))?;
    Ok(())
}

/// A pseudo-terminal shows the bar and the picture.
#[test]
fn a_terminal_shows_a_bar_and_the_picture() -> Result<()> {
    let folder = with_model()?;
    let program = env!("CARGO_BIN_EXE_denoir");
    let line = format!("{program} generate -m model.gguf --class 1 --steps 3 --preview term");
    let script =
        std::process::Command::new("script").args(["-qec", &line, "/dev/null"]).current_dir(folder.path()).output();
    let Ok(output) = script else {
        // Past the test runner's capture.
        writeln!(std::io::stderr(), "skipped: there is no `script` to make a terminal with")?;
        return Ok(());
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.contains('▀') && text.contains("\x1b[48;2;"), "no picture: {text}");
    ensure!(text.contains("step "), "no progress: {text}");
    ensure!(text.contains("out.png: class 1"), "no summary: {text}");
    Ok(())
}

#[test]
fn a_golden_comes_out_of_the_command_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut convert = denoir(folder.path());
    convert.arg("convert").arg(fixture("checkpoints/pg-xl.ckpt")).args(["--type", "f32", "-q", "-o", "m.gguf"]);
    convert.arg("--config").arg(fixture("checkpoints/pg-xl.json"));
    ensure!(convert.status()?.success());
    let args = "generate -m m.gguf --class 2 --seed 311 --steps 6 --sampling-method heun --cfg-scale 2.25 \
        --guidance-interval 0.1,0.9 --flow-shift 2 -q -o a.npy";
    ok(folder.path(), args.split_whitespace())?;
    let bytes = std::fs::read(fixture("sample/pg-xl.heun.safetensors"))?;
    let want = safetensors::SafeTensors::deserialize(&bytes)?;
    let want = want.tensor("sample")?.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect::<Vec<_>>();
    let (_, got) = npy(&folder.path().join("a.npy"))?;
    let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
    ensure!(got.len() == want.len() && worst <= 1e-4, "off by {worst}");
    Ok(())
}
