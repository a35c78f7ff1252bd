//! Pictures from words: encoders as folder and file, embeddings encoded elsewhere, and what is said where one is
//! missing.

mod common;

use anyhow::{Result, ensure};
use common::{fails, fixture, ok, with_text_models};

const PROMPT: &str = "a photo of the red apple";

#[test]
fn a_prompt_gives_one_picture_whichever_way_it_is_encoded() -> Result<()> {
    let folder = with_text_models()?;
    let draw = |out: &str, text: &[&str]| -> Result<Vec<u8>> {
        let common = ["generate", "-m", "model.gguf", "--steps", "3", "--seed", "5", "-q", "-o", out];
        ok(folder.path(), common.into_iter().chain(text.iter().copied()))?;
        Ok(std::fs::read(folder.path().join(out))?)
    };
    let encoder = fixture("checkpoints/qwen3");
    let words = draw("a.npy", &["-p", PROMPT, "-n", "rain", "--text-encoder", "encoder.gguf"])?;
    ensure!(words == draw("b.npy", &["-p", PROMPT, "-n", "rain", "--text-encoder", &encoder.to_string_lossy()])?);
    let encode = ["encode", "-p", PROMPT, "-n", "rain", "--text-encoder", "encoder.gguf", "-o", "e.safetensors"];
    ok(folder.path(), encode.into_iter().chain(["--length", "12", "-q"]))?;
    ensure!(words == draw("c.npy", &["--prompt-embeds", "e.safetensors"])?);
    ensure!(words != draw("d.npy", &["-p", PROMPT, "--text-encoder", "encoder.gguf"])?, "the negative prompt counts");
    // The encoder beside the model needs no option.
    std::fs::rename(folder.path().join("encoder.gguf"), folder.path().join("text-encoder.gguf"))?;
    ensure!(words == draw("f.npy", &["-p", PROMPT, "-n", "rain"])?);
    Ok(())
}

#[test]
fn many_images_come_from_one_prompt_and_tell_it() -> Result<()> {
    let folder = with_text_models()?;
    let args = ["generate", "-m", "model.gguf", "-p", PROMPT, "-n", "rain", "--text-encoder", "encoder.gguf"];
    let run = ok(folder.path(), args.into_iter().chain(["--steps", "2", "-i", "3", "--json", "-q"]))?;
    let json = run.json()?;
    ensure!(json["images"].as_array().is_some_and(|images| images.len() == 3), "{json}");
    ensure!(json["images"][2]["prompt"] == PROMPT && json["images"][2]["negative_prompt"] == "rain", "{json}");
    ensure!(json["images"][2]["seed"] == 44, "{json}");
    let png = std::fs::read(folder.path().join("out-3.png"))?;
    let text = format!("{PROMPT}\nNegative prompt: rain\nSteps: 2");
    ensure!(png.windows(text.len()).any(|window| window == text.as_bytes()), "no parameters in the PNG");
    Ok(())
}

#[test]
fn what_is_missing_is_named() -> Result<()> {
    let folder = with_text_models()?;
    for (line, code, needle) in [
        ("-p cat", 2, "text-encoder.gguf is not there"),
        ("", 2, "give -p TEXT"),
        ("--class 1", 2, "use -p"),
        ("-p cat --prompt-embeds e.safetensors", 2, "give one"),
        ("-p cat --text-encoder nowhere.gguf", 1, "nowhere.gguf"),
        ("-p cat --text-encoder model.gguf", 1, "a text encoder is"),
        ("--prompt-embeds nowhere.safetensors", 1, "nowhere.safetensors"),
        ("--prompt-embeds model.gguf", 1, "model.gguf: damaged"),
    ] {
        let args = ["generate", "-m", "model.gguf"].into_iter().chain(line.split_whitespace());
        let error = fails(folder.path(), code, args).map_err(|e| e.context(line))?;
        ensure!(error.contains(needle), "{line}: {error}");
    }
    let error = fails(folder.path(), 1, ["generate", "-m", "encoder.gguf"])?;
    ensure!(error.contains("qwen3"), "{error}");
    Ok(())
}
