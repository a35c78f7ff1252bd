//! Prompts: tokens, the text encoder in every type of weights, and pictures from them.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Result;
use denoir::{Condition, EncodedPrompt, Isa, Model, Options, Pipeline, Request, Rng, TextEncoder};
use denoir_core::backend::Tap;
use denoir_core::{DType, Job, View};
use denoir_golden::Check;
use denoir_tests::convert_checkpoint::Float;
use denoir_tests::golden::{self, model};
use denoir_tests::tiny_encoder;

/// Several languages, marks, spaces, special tokens; long ones and the empty one besides.
const PROMPTS: [&str; 22] = [
    "",
    " ",
    "a photo of a red apple beside the blue bottle",
    "It's raining:  3 cats\n\n in the window, 1.5m² — painting",
    "I'LL we've they'd you're he's can't I'm",
    "Ein kleiner Fuchs überquert die Straße; es ist früh.",
    "L’été, un café crème à l’ombre d’un château",
    "cafe\u{301} A\u{30a} e\u{323}\u{307}",
    "日本の田舎、夕焼け空と赤い鳥居",
    "一只戴着眼镜的猫在图书馆里看书",
    "고양이 세 마리가 비를 맞고 있다",
    "Кот сидит на окне, за окном дождь",
    "قطة تجلس على النافذة تحت المطر",
    "बारिश में तीन बिल्लियाँ",
    "แมวสามตัวนั่งอยู่ริมหน้าต่าง",
    "🎨👩🏽‍🚀🏳️‍🌈 rocket 🚀🚀",
    "sun<|endoftext|>rain",
    "<|im_start|>user\nhello<|im_end|>\n",
    "\t\ttabs\r\nand\r\n\r\nlines   \n  ",
    "12345 67.89 1/2 ½ Ⅳ ١٢٣",
    "\u{0}\u{7f}\u{200b}\u{fffd}",
    "x=f(y)*2; // a sign that says \"héllo wörld\" 你好",
];

/// The text encoder of the fixtures in this type.
fn encoder(dtype: DType) -> Result<Arc<TextEncoder>> {
    Ok(golden::models(dtype)?.text_encoder(&golden::fixture("text/qwen3")?)?)
}

/// What text is made of that tokenizers treat differently.
const PIECES: [&str; 44] = [
    "a",
    "b",
    "S",
    "s",
    "T",
    "t",
    "re",
    "VE",
    "ll",
    "é",
    "e\u{301}",
    "\u{301}",
    "ſ",
    "ß",
    "日本",
    "ǅ",
    "ª",
    "ʰ",
    "한",
    "가",
    "ا",
    "ि",
    "1",
    "½",
    "Ⅳ",
    "١",
    " ",
    "  ",
    "\t",
    "\n",
    "\r",
    "\u{a0}",
    "\u{2028}",
    "\u{3000}",
    "'",
    "’",
    "-",
    "...",
    "🚀",
    "\u{200d}",
    "\u{0}",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im",
];

#[test]
fn tokens_are_those_of_the_published_tokenizer() -> Result<()> {
    let encoder = encoder(DType::BF16)?;
    let json = denoir_tests::fixtures().join("checkpoints/qwen3/tokenizer.json");
    let published = tokenizers::Tokenizer::from_file(json).map_err(anyhow::Error::msg)?;
    let ours = encoder.tokenizer();
    assert_eq!(Some(ours.pad()), published.token_to_id("<|endoftext|>"));
    let long = [PROMPTS.concat().repeat(40), "a".repeat(20_000), " ".repeat(5_000), "日".repeat(5_000)];
    let mut random = denoir_tests::op_matrix::draw::Rng::new(7);
    let mixed: Vec<String> =
        (0..2_000).map(|_| (0..random.below(24)).map(|_| random.pick(&PIECES)).collect()).collect();
    for prompt in PROMPTS.iter().copied().chain(long.iter().chain(&mixed).map(String::as_str)) {
        let tokens = published.encode_fast(prompt, true).map_err(anyhow::Error::msg)?;
        assert_eq!(ours.encode(prompt), tokens.get_ids(), "{prompt:?}");
    }
    Ok(())
}

#[test]
fn every_weight_type_encodes_nearly_the_same() -> Result<()> {
    let prompts = [PROMPTS[2], PROMPTS[0], PROMPTS[9]];
    let exact = encoder(DType::F32)?.encode(&prompts, 12, &Options::default())?;
    for (dtype, limit) in [(DType::F16, 1e-6), (DType::BF16, 1e-6), (DType::I8, 3e-2)] {
        let encoder = encoder(dtype)?;
        for isa in Isa::available() {
            let options = Options { isa: Some(isa), threads: Some(2), ..Options::default() };
            let hidden = encoder.encode(&prompts, 12, &options)?;
            // The checkpoint's weights are bf16, so f16 and bf16 lose nothing of them but what lies below f16's range.
            let error = Check::relative("hidden", &hidden.values, &exact.values, limit).error;
            assert!(error < limit, "{dtype} {}: {error}", isa.name());
        }
    }
    Ok(())
}

#[test]
fn an_encoder_keeps_the_type_that_it_has() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("encoder.gguf");
    for (has, asked, kept) in [
        (Float::F32, None, "f32"),
        (Float::F64, None, "f32"),
        (Float::F16, None, "f16"),
        (Float::BF16, None, "bf16"),
        (Float::F32, Some(DType::F16), "f16"),
    ] {
        tiny_encoder::write(folder.path(), has)?;
        let options = denoir_convert::Options { dtype: asked, ..Default::default() };
        denoir_convert::convert(&folder.path().join("model.safetensors"), &file, &options, &mut |_| {})?;
        let encoder = TextEncoder::open(&file)?;
        assert!(encoder.model().matrices().all(|matrix| matrix.type_name() == kept), "{has:?}, {asked:?}");
    }
    Ok(())
}

#[test]
fn what_another_network_is_meant_by_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    tiny_encoder::write(folder.path(), Float::BF16)?;
    let plain: serde_json::Value = serde_json::from_str(tiny_encoder::CONFIG)?;
    for (key, value) in [
        ("hidden_act", serde_json::json!("gelu")),
        ("rope_scaling", serde_json::json!({"rope_type": "yarn", "factor": 4.0})),
        ("rope_scaling", serde_json::json!({"type": "linear", "factor": 2.0})),
        ("rope_parameters", serde_json::json!({"rope_type": "yarn", "rope_theta": 1e6})),
        ("use_sliding_window", serde_json::json!(true)),
        ("model_type", serde_json::json!("llama")),
        ("rope_theta", serde_json::json!("many")),
    ] {
        let mut config = plain.clone();
        config[key] = value;
        std::fs::write(folder.path().join("config.json"), config.to_string())?;
        let (input, out) = (folder.path().join("model.safetensors"), folder.path().join("out.gguf"));
        let result = denoir_convert::convert(&input, &out, &Default::default(), &mut |_| {});
        let error = result.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.starts_with("config.json") && error.contains(key), "{key}: {error:?}");
    }
    Ok(())
}

#[test]
fn one_encoding_serves_many_images_however_they_are_drawn() -> Result<()> {
    let model = model("text/t2i.forward", DType::F32)?;
    let size = model.network().text_size().unwrap_or_default();
    let texts = encoder(DType::F32)?.encode_prompt(PROMPTS[2], "", size, &Options::default())?;
    for isa in Isa::available() {
        let all = draw(&model, isa, 1, 1, 40, Condition::Prompt(texts.embeds(3)))?;
        for (threads, batch) in [(2, 1), (1, 2), (2, 3)] {
            let again = draw(&model, isa, threads, batch, 40, Condition::Prompt(texts.embeds(3)))?;
            assert!(all == again, "{}: {threads} threads, batch {batch}", isa.name());
        }
        assert!(
            all[2..] == draw(&model, isa, 1, 1, 42, Condition::Prompt(texts.embeds(1)))?,
            "{}: an image alone",
            isa.name()
        );
    }
    Ok(())
}

#[test]
fn a_text_is_refined_once_for_evaluations_at_one_time() -> Result<()> {
    let model = model("text/t2i.forward", DType::F32)?;
    let (tokens, width) = model.network().text_size().unwrap_or_default();
    let texts = encoder(DType::F32)?.encode_prompt(PROMPTS[2], "", (tokens, width), &Options::default())?;
    // A step's second evaluation is at the time of the next step's first.
    let settings = denoir::Settings { method: denoir::Method::Heun, steps: 4, ..*model.preset() };
    let evaluations = (0..settings.evaluations()).map(|i| settings.evaluation(i));
    let mut passes: Vec<_> = evaluations.map(|e| (e.t, e.guidance.is_some())).collect();
    passes.dedup();
    assert!(passes.len() < settings.evaluations());
    let mut pipeline = Pipeline::new(Arc::clone(&model), &Options::default())?;
    let job = Job { settings: &settings, condition: Condition::Prompt(texts.embeds(1)), seeds: &[42], rng: Rng::Torch };
    let mut sample = vec![0.0; model.network().pixels()];
    let mut rows = 0;
    let mut count = |tap: Tap, view: &View, _: &[u8]| rows += if tap == ("text", 0).into() { view.rows } else { 0 };
    pipeline
        .with_tap(&mut count, |denoiser| denoiser.generate(&job, &mut sample, &mut |_| ControlFlow::Continue(())))?;
    let guided = passes.iter().filter(|(_, guided)| *guided).count();
    assert_eq!(rows, (passes.len() + guided) * tokens);
    Ok(())
}

fn draw(
    model: &Arc<Model>,
    isa: Isa,
    threads: usize,
    batch: usize,
    seed: u64,
    condition: Condition<'_>,
) -> Result<Vec<denoir::Image>> {
    let options = Options { isa: Some(isa), threads: Some(threads), batch: Some(batch), ..Options::default() };
    let settings = denoir::Settings { steps: 4, ..*model.preset() };
    let request = Request { seed, settings, ..Request::preset(model, condition) };
    Ok(Pipeline::new(Arc::clone(model), &options)?.generate(&request, &mut |_| ControlFlow::Continue(()))?)
}

#[test]
fn wrong_conditions_are_refused() -> Result<()> {
    let (text, class) = (model("text/t2i.forward", DType::F32)?, model("forward/jit", DType::F32)?);
    let refused = |model: &Arc<Model>, condition: Condition<'_>| -> Result<String> {
        let mut pipeline = Pipeline::new(Arc::clone(model), &Options::default())?;
        let result = pipeline.generate(&Request::preset(model, condition), &mut |_| ControlFlow::Continue(()));
        Ok(result.err().map(|e| e.to_string()).unwrap_or_default())
    };
    let short = EncodedPrompt { prompt: vec![0.0; 3], negative: vec![0.0; 3] };
    assert!(refused(&text, Condition::Labels(&[0]))?.contains("not classes"));
    assert!(refused(&text, Condition::Prompt(short.embeds(1)))?.contains("takes 12 × 40"));
    assert!(refused(&text, Condition::Prompt(short.embeds(0)))?.contains("0 images"));
    assert!(refused(&class, Condition::Prompt(short.embeds(1)))?.contains("not prompts"));
    Ok(())
}
