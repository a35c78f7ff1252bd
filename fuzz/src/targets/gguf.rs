//! A model file, or its header alone: read, planned, and evaluated twice, from activations of zeros and of NaN. No
//! result may depend on what memory held before.

use std::mem::MaybeUninit;
use std::ops::ControlFlow;

use denoir::core::gguf::{Gguf, Value};
use denoir::core::qwen3::{Encoder, Qwen3Model, Qwen3Plan};
use denoir::core::{Job, Precision, Serial};
use denoir::{AnyNetwork, Condition, Isa, PromptEmbeds, Rng, Settings};
use denoir_core::cpu::{Cpu, pack, packed_bytes};

use crate::exact::ExactBytes;

/// Bytes added to an input, so that a header needs no data.
pub(crate) const FILLER: usize = 48 << 10;
/// Largest arena and packed weights in bytes, and most operations of an evaluation, for which a network is run.
const ARENA: usize = 4 << 20;
const FLOP: u64 = 4_000_000;
/// Tokens that a text encoder encodes.
const TOKENS: usize = 5;

pub(crate) fn run(input: &[u8]) {
    let file = with_filler(input);
    let Ok(gguf) = Gguf::parse(&file) else { return };
    read_all(&gguf);
    let isas: Vec<Isa> = Isa::available().collect();
    // The data's first byte is as good a choice as any.
    let isa = isas[input.len() % isas.len()];
    if let Ok(network) = AnyNetwork::from_gguf(&gguf) {
        let Ok(settings) = Settings::from_gguf(&gguf) else { return };
        assert!(settings.check().is_ok(), "settings of a file are checked");
        draw(&file, &network, &settings, isa);
    } else {
        encode(&file, &gguf, isa);
    }
}

/// The input with data after it.
fn with_filler(input: &[u8]) -> ExactBytes {
    let mut file = ExactBytes::zeroed(input.len() + FILLER);
    fill(&mut file, input);
    file
}

/// Writes a file's header, and after it f32 of 0.01, which are small numbers in other types too.
pub(crate) fn fill(file: &mut [u8], header: &[u8]) {
    let (start, data) = file.split_at_mut(header.len());
    start.copy_from_slice(header);
    let bytes = 0.01f32.to_le_bytes();
    data.iter_mut().zip(bytes.iter().cycle().skip(header.len() % 4)).for_each(|(to, from)| *to = *from);
}

/// Touches everything that a parsed file gives access to.
fn read_all(gguf: &Gguf<'_>) {
    for (key, value) in gguf.metadata() {
        let elements = match value {
            Value::Array(array) => array.iter().count(),
            _ => 0,
        };
        let strings = gguf.strings(key).map_or(0, Iterator::count);
        assert!(strings == 0 || strings == elements, "an array of strings has its length");
        let _ = (gguf.string(key), gguf.u32(key), gguf.f32(key), gguf.bool(key));
    }
    for tensor in gguf.tensors() {
        std::hint::black_box((tensor.data.first(), tensor.data.last(), tensor.dims.elements()));
    }
}

/// Two evaluations of the network, packed and not, from both kinds of memory.
fn draw(file: &ExactBytes, network: &AnyNetwork, settings: &Settings, isa: Isa) {
    let Ok(arena_bytes) = network.arena_bytes(1, isa.precision()) else { return };
    let packed = pack_all(file, network, isa);
    let (Some(packed), true) = (packed, arena_bytes <= ARENA && network.flop() <= FLOP) else { return };
    let (tokens, width) = network.text_size().unwrap_or_default();
    let embeds = vec![0.25; tokens * width];
    let labels = [network.classes().saturating_sub(1) as u32];
    let condition = match network {
        AnyNetwork::Jit(_) => Condition::Labels(&labels),
        AnyNetwork::T2i(_) => Condition::Prompt(PromptEmbeds { prompt: &embeds, negative: &embeds, images: 1 }),
    };
    let job = Job { settings, condition, seeds: &[7], rng: Rng::Philox };
    let mut arena = ExactBytes::zeroed(arena_bytes);
    let mut run = |poison: u8, packed: &[u8]| {
        arena.fill(poison);
        let cpu = Cpu::new(file, &mut arena, &Serial, isa).expect("aligned");
        let (mut seen, mut image) = (Vec::new(), vec![f32::NAN; network.pixels()]);
        let ended = network.with_denoiser(1, cpu.with_packed(packed), |denoiser| {
            denoiser.generate(&job, &mut image, &mut |progress| {
                if let ControlFlow::Continue(x_hat) = progress.x_hat() {
                    seen.extend(bits(x_hat));
                }
                if progress.evaluation < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        });
        (ended.map_err(|e| e.to_string()), seen)
    };
    let (first, seen) = run(0, &[]);
    for (poison, packed) in [(0xff, &[][..]), (0xff, &packed[..])] {
        let (again, same) = run(poison, packed);
        assert_eq!(first, again, "another outcome from other memory");
        assert!(seen == same, "another picture from other memory, or from packed weights");
    }
}

/// The weights packed, unless they are too many.
fn pack_all(file: &[u8], network: &AnyNetwork, isa: Isa) -> Option<ExactBytes> {
    let matrices: Vec<_> = match network {
        AnyNetwork::Jit(network) => network.matrices().collect(),
        AnyNetwork::T2i(network) => network.matrices().collect(),
    };
    let len = packed_bytes(matrices.iter().copied(), isa).filter(|&len| len <= ARENA)?;
    let mut packed = ExactBytes::zeroed(len);
    pack(file, matrices.iter().copied(), isa, &mut packed, &Serial, &mut |_| {});
    Some(packed)
}

/// A prompt of some tokens through a text encoder, from both kinds of memory.
fn encode(file: &ExactBytes, gguf: &Gguf<'_>, isa: Isa) {
    let mut slot = Box::new(MaybeUninit::uninit());
    let Ok(model) = Qwen3Model::read_into(gguf, &mut slot) else { return };
    let Ok(plan) = Qwen3Plan::new(model, 1, TOKENS, Precision::WIDE) else { return };
    if plan.arena_bytes > ARENA {
        return;
    }
    let ids = [0, model.config.vocabulary as u32 - 1, 0];
    let mut arena = ExactBytes::zeroed(plan.arena_bytes);
    let mut run = |poison: u8| {
        arena.fill(poison);
        let cpu = Cpu::new(file, &mut arena, &Serial, isa).expect("aligned");
        let mut hidden = vec![f32::NAN; plan.rows() * model.config.hidden];
        let mut encoder = Encoder::new(model, plan, cpu).map_err(|e| e.to_string())?;
        encoder.encode(&[&ids], 0, &mut hidden, &|| false).map_err(|e| e.to_string())?;
        Ok::<_, String>(bits(&hidden))
    };
    assert_eq!(run(0), run(0xff), "another embedding from other memory");
}

/// The bits of numbers, all NaN alike.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}
