//! `denoir convert`, `inspect`, `verify`, `bench` and `devices`.

mod common;

use anyhow::{Result, ensure};
use common::{Run, denoir, fails, fixture, ok, with_model};
use serde_json::json;

#[test]
fn every_checkpoint_layout_converts_and_draws() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cases = [
        ("pg-ctx.ckpt", "pg-ctx.json", "ema"),
        ("pg-ctx.ckpt", "pg-ctx.json", "raw"),
        ("pg-xl.ckpt", "pg-xl.json", "ema"),
        ("jit.pth", "jit.json", "model_ema2"),
        ("jit.safetensors", "jit.json", ""),
        ("jit-sharded", "jit.json", ""),
        ("jit-sharded/model.safetensors.index.json", "jit.json", ""),
    ];
    for (checkpoint, config, weights) in cases {
        for dtype in ["f32", "f16", "bf16", "int8"] {
            let mut convert = denoir(folder.path());
            convert.arg("convert").arg(fixture("checkpoints").join(checkpoint)).args(["-o", "m.gguf", "--type", dtype]);
            convert.arg("--config").arg(fixture("checkpoints").join(config));
            if !weights.is_empty() {
                convert.args(["--weights", weights]);
            }
            let run = Run::from(convert.output()?);
            ensure!(run.code == Some(0), "{checkpoint} {dtype}: {}", run.stderr);
            ensure!(run.stderr.starts_with("m.gguf: ") && run.stderr.lines().count() == 1, "{}", run.stderr);
            let inspected = ok(folder.path(), ["inspect", "m.gguf", "--json"])?.json()?;
            assert_eq!(inspected["weight_type"], dtype);
            assert_eq!(inspected["runs"], true);
            ok(folder.path(), ["generate", "-m", "m.gguf", "--steps", "1", "-q", "--class", "1"])?;
        }
    }
    Ok(())
}

#[test]
fn inspect_shows_what_generate_takes() -> Result<()> {
    let folder = with_model()?;
    let text = ok(folder.path(), ["inspect", "model.gguf"])?.text();
    for needle in
        ["jit, class-conditional", "32 × 32", "4 blocks × 32", "euler, 50 steps", "1 border collie", "pg-ctx.ckpt"]
    {
        ensure!(text.contains(needle), "{needle}: {text}");
    }
    let text = ok(folder.path(), ["inspect", "model.gguf", "--tensors"])?.text();
    ensure!(text.contains("blocks.3.mlp.w3.weight") && text.contains("F32   32 × 85"), "{text}");
    let json = ok(folder.path(), ["inspect", "model.gguf", "--tensors", "--json"])?.json()?;
    assert_eq!(json["class_names"][9], "jay");
    assert_eq!(json["network"]["context_start"], 2);
    assert_eq!(json["metadata"]["denoir.sampler.method"], "euler");
    assert_eq!(json["tensors"].as_array().map(Vec::len), json["tensor_count"].as_u64().map(|n| n as usize));
    ok(folder.path(), ["inspect"])?;
    Ok(())
}

/// A GGUF of another kind: one string, one array of numbers, one tensor.
#[test]
fn inspect_lists_any_gguf() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut file = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
    let string = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    string(&mut file, "general.architecture");
    file.extend(8u32.to_le_bytes());
    string(&mut file, "llama");
    string(&mut file, "some.list");
    file.extend([9u32, 4].iter().flat_map(|v| v.to_le_bytes()));
    file.extend(6u64.to_le_bytes());
    file.extend((1u32..=6).flat_map(u32::to_le_bytes));
    string(&mut file, "token_embd.weight");
    file.extend(2u32.to_le_bytes());
    file.extend([2u64, 4].iter().flat_map(|v| v.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    file.resize(file.len() + 32, 0);
    std::fs::write(folder.path().join("q.gguf"), file)?;
    let text = ok(folder.path(), ["inspect", "q.gguf", "--tensors"])?.text();
    for needle in ["llama, which this version does not run", "some.list = 6 values [1, 2, 3, 4, ...]", "F32   4 × 2"] {
        ensure!(text.contains(needle), "{needle}: {text}");
    }
    let json = ok(folder.path(), ["inspect", "q.gguf", "--json"])?.json()?;
    assert_eq!(json["metadata"]["some.list"], json!([1, 2, 3, 4, 5, 6]));
    assert_eq!(json["runs"], false);
    ensure!(fails(folder.path(), 1, ["generate", "-m", "q.gguf"])?.contains("llama"));
    Ok(())
}

#[test]
fn verify_passes_on_every_instruction_set() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let levels = ok(folder.path(), ["devices", "--json"])?.json()?["devices"][0]["levels"].clone();
    for isa in levels.as_array().into_iter().flatten().filter_map(|isa| isa.as_str()) {
        let mut verify = denoir(folder.path());
        verify
            .args(["verify", "--json", "--isa", isa])
            .args(["forward", "sample", "noise", "ops", "text"].map(fixture));
        let run = Run::from(verify.output()?);
        let json = run.json()?;
        ensure!(run.code == Some(0), "{isa}: {}", run.stderr);
        // Eight forward passes, eleven samples, the noise, sixteen kernels, beside one that is none; of texts
        // the encoder, a forward pass and three samples.
        assert_eq!(json["summary"], json!({ "type": "f32", "passed": 41, "failed": 0, "skipped": 1 }), "{isa}");
    }
    Ok(())
}

#[test]
fn verify_passes_for_every_type_of_weights() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for dtype in ["f16", "bf16", "int8"] {
        for isa in [&["--isa", "scalar"][..], &[]] {
            let mut verify = denoir(folder.path());
            verify.args(["verify", "--type", dtype]).args(isa).args(["forward", "text"].map(fixture));
            let run = Run::from(verify.output()?);
            ensure!(run.code == Some(0), "{dtype} {isa:?}: {}{}", run.text(), run.stderr);
            ensure!(run.text().contains("10 passed, 0 failed, 3 skipped"), "{}", run.text());
        }
    }
    Ok(())
}

#[test]
fn verify_names_the_first_tensor_that_departs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = fixture("forward/pg-ctx.safetensors");
    let mut bytes = std::fs::read(&path)?;
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes)?;
    let start = 8 + header;
    for name in ["block.2", "final"] {
        let at = start + metadata.info(name).map_or(0, |info| info.data_offsets.0);
        bytes[at..at + 4].copy_from_slice(&9f32.to_le_bytes());
    }
    // Paths in the fixture start from its folder.
    let text = String::from_utf8_lossy(&bytes[8..start]).into_owned();
    let moved = text.replace("../checkpoints", &fixture("checkpoints").to_string_lossy());
    let mut file = (moved.len() as u64).to_le_bytes().to_vec();
    file.extend(moved.as_bytes());
    file.extend(&bytes[start..]);
    std::fs::write(folder.path().join("bad.safetensors"), file)?;
    let run = Run::from(denoir(folder.path()).args(["verify", "bad.safetensors"]).output()?);
    assert_eq!(run.code, Some(1));
    ensure!(run.stderr.starts_with("error: bad.safetensors departs first at block.2: error "), "{}", run.stderr);
    ensure!(run.stderr.lines().count() == 1 && run.text().contains("FAILED, first at block.2"), "{}", run.text());
    Ok(())
}

#[test]
fn verify_fails_where_nothing_ran() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = Run::from(denoir(folder.path()).arg("verify").arg(fixture("ops/timestep_embed.safetensors")).output()?);
    assert_eq!(run.code, Some(1));
    ensure!(run.text().contains("SKIPPED: ") && run.stderr.contains("nothing was verified"), "{}", run.stderr);
    Ok(())
}

#[test]
fn bench_times_models_and_shapes() -> Result<()> {
    let folder = with_model()?;
    let json =
        ok(folder.path(), ["bench", "-m", "model.gguf", "--runs", "1", "--batch", "2", "--json", "-q"])?.json()?;
    for key in ["forward_ms", "gflop", "gflops", "threads", "predict_ms"] {
        ensure!(json[key].as_f64().is_some_and(|v| v > 0.0), "{key}: {json}");
    }
    for key in ["backend", "device", "isa", "type"] {
        ensure!(json[key].is_string(), "{key}: {json}");
    }
    let args = "bench --shape jit-b16 --type int8 --runs 1 --threads 1 --json -q";
    let json = ok(folder.path(), args.split(' '))?.json()?;
    ensure!((json["gflop"].as_f64().unwrap_or(0.0) - 50.0).abs() < 1.0, "{json}");
    assert_eq!(json["type"], "int8");
    if let Some(peak) = json["peak_rss_bytes"].as_u64() {
        let file = json["model_bytes"].as_u64().unwrap_or(0);
        ensure!(peak <= file + 128_000_000, "{peak} bytes for a model of {file}");
    }
    Ok(())
}

#[test]
fn bench_saves_what_it_would_measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    ok(folder.path(), "bench --shape jit-b16 --type int8 --save model.gguf".split(' '))?;
    let text = ok(folder.path(), ["inspect", "model.gguf"])?.text();
    ensure!(text.contains("random JiT-B/16") && text.contains("int8"), "{text}");
    fails(folder.path(), 1, "bench --shape jit-b16 --save none/model.gguf".split(' '))?;
    ensure!(folder.path().read_dir()?.count() == 1, "more than the model was written");
    Ok(())
}

#[test]
fn devices_lists_the_processor() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let json = ok(folder.path(), ["devices", "--json"])?.json()?;
    assert_eq!(json["devices"][0]["backend"], "cpu");
    assert_eq!(json["devices"][0]["levels"][0], "scalar");
    ensure!(ok(folder.path(), ["devices"])?.text().starts_with("cpu 0: "));
    Ok(())
}
