//! The model files that denoir writes, read by the `gguf` package of the ggml project: the same metadata, tensors, and
//! bytes. Python is `DENOIR_PYTHON`, or `python3`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use denoir_core::DType;
use denoir_core::gguf::{Gguf, Value};
use serde_json::{Value as Json, json};

fn python() -> Command {
    Command::new(std::env::var_os("DENOIR_PYTHON").unwrap_or_else(|| "python3".into()))
}

/// Whether the package is here; says so where it is not.
fn has_package() -> Result<bool> {
    if python().args(["-c", "import gguf"]).output().is_ok_and(|run| run.status.success()) {
        return Ok(true);
    }
    ensure!(std::env::var_os("DENOIR_PYTHON").is_none(), "DENOIR_PYTHON names a Python without the package gguf");
    // Past the test runner's capture.
    writeln!(
        std::io::stderr(),
        "skipped: model files by Python's gguf package: pip install gguf, or set DENOIR_PYTHON"
    )?;
    Ok(false)
}

/// Every checkpoint of the fixtures that differs in what it is converted to, in every type.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let checkpoints = denoir_tests::fixtures().join("checkpoints");
    let mut files = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
        for (checkpoint, config) in [
            ("pg-xl.ckpt", Some("pg-xl.json")),
            ("jit.pth", Some("jit.json")),
            ("t2i.ckpt", Some("t2i.json")),
            ("qwen3/model.safetensors", None),
        ] {
            let config = config.map(|name| checkpoints.join(name));
            let options = denoir_convert::Options { dtype: Some(dtype), config, ..Default::default() };
            let file = folder.join(format!("{}.gguf", files.len()));
            denoir_convert::convert(&checkpoints.join(checkpoint), &file, &options, &mut |_| {})?;
            files.push(file);
        }
    }
    Ok(files)
}

#[test]
fn the_ggml_projects_own_reader_sees_the_same() -> Result<()> {
    if !has_package()? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let files = files(folder.path())?;
    let script = denoir_tests::fixtures().join("list_gguf.py");
    let run = python().arg(script).args(&files).output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let listings: Vec<Json> =
        serde_json::Deserializer::from_slice(&run.stdout).into_iter().collect::<Result<_, _>>()?;
    assert_eq!(listings.len(), files.len());
    for (file, listing) in files.iter().zip(listings) {
        let bytes = std::fs::read(file)?;
        let gguf = Gguf::parse(&bytes)?;
        let mut fields = 0;
        for (key, value) in gguf.metadata() {
            let theirs = listing["fields"].get(key).with_context(|| format!("no {key}"))?;
            ensure!(same(&value, theirs), "{key} is {theirs}");
            fields += 1;
        }
        assert_eq!(listing["fields"].as_object().map(|fields| fields.len()), Some(fields));
        let tensors: Vec<Json> = gguf
            .tensors()
            .map(|t| {
                let terms = t.data.iter().zip(1u64..).map(|(&byte, place)| u64::from(byte) * place);
                json!([t.name, t.dims.as_slice(), t.ggml_type.code(), terms.fold(0, u64::wrapping_add)])
            })
            .collect();
        assert_eq!(listing["tensors"], Json::from(tensors), "{}", file.display());
    }
    Ok(())
}

/// Whether a metadata value is this JSON.
fn same(value: &Value<'_>, theirs: &Json) -> bool {
    match value {
        Value::Array(array) => {
            let theirs = theirs.as_array().map(Vec::as_slice).unwrap_or_default();
            array.iter().count() == theirs.len() && array.iter().zip(theirs).all(|(value, theirs)| same(&value, theirs))
        }
        Value::F32(_) | Value::F64(_) => value.as_f32().map(f64::from) == theirs.as_f64(),
        Value::String(_) => value.as_str() == theirs.as_str(),
        Value::Bool(_) => value.as_bool() == theirs.as_bool(),
        // What is left are whole numbers, none of which a model file has below 0.
        _ => value.as_u64() == theirs.as_u64(),
    }
}
