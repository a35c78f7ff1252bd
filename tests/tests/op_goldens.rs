//! The references and every backend against what PyTorch computes: `fixtures/ops`.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use denoir_core::ops::{
    Attention, CausalAttention, ClassCondition, ContextTokens, DequantizeBlocks, Epilogue, GatherRows, HISTORY,
    LayerNorm, Linear, Memory, NormModulate, Op, Patchify, PixelOrder, QkNormRope, QuantizeRows, RmsNorm, Rope,
    RopePairs, SolverStep, StepValues, Swiglu, Unpatchify,
};
use denoir_core::{DType, Modulation, Region, TokenLayout, View, Weight};
use denoir_tests::golden::of_limit;
use denoir_tests::op_matrix::draw::Draw;
use denoir_tests::op_matrix::{Case, Tolerance, backends, base_seed};
use safetensors::{Dtype, SafeTensors};

/// The host writes the sinusoids of the time points; the goldens of whole networks hold them.
const NO_KERNEL: &str = "timestep_embed";

#[test]
fn every_golden_is_met() -> Result<()> {
    let rows = backends::rows();
    let mut cases = 0usize;
    for path in files()? {
        let bytes = std::fs::read(&path)?;
        let fixture = Fixture::new(&bytes)?;
        let kernel = fixture.parameter("op")?;
        if kernel == NO_KERNEL {
            continue;
        }
        for name in fixture.parameter("cases")?.split(',') {
            let at = format!("{kernel}: {name}");
            let (case, wanted) = golden(&Golden { fixture: &fixture, name }, kernel).context(at.clone())?;
            let limit = fixture.parameter("limit")?.parse()?;
            let reference = case.reference().map_err(anyhow::Error::msg)?;
            meets(&fixture, name, reference, &wanted, limit).context(at.clone())?;
            for (row, run) in rows.iter().filter_map(|row| Some((row, row.runs(kernel)?))) {
                let after = run(&case).map_err(anyhow::Error::msg)?;
                let error = meets(&fixture, name, after, &wanted, limit);
                let error = error.with_context(|| format!("{at} on {}", row.name))?;
                println!("{at} on {}: {}", row.name, of_limit(error, limit));
            }
            cases += 1;
        }
    }
    ensure!(cases >= 30, "only {cases} goldens");
    Ok(())
}

fn files() -> Result<Vec<PathBuf>> {
    let folder = denoir_tests::fixtures().join("ops");
    let mut paths = Vec::new();
    for entry in folder.read_dir()? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The largest ‖difference‖ / ‖wanted‖ of the f32 outputs; integers are equal.
fn meets(fixture: &Fixture<'_>, name: &str, mut after: Vec<u8>, wanted: &[(&str, View)], limit: f64) -> Result<f64> {
    let mut worst = 0f64;
    let got = Memory { weights: &[], arena: &mut after };
    for (field, view) in wanted {
        let tensor = fixture.tensors.tensor(&format!("{name}.want.{field}"))?;
        let mut bytes = tensor.data().to_vec();
        let dense = View::dense(Region::Arena, view.dtype, 0, view.rows, view.cols);
        ensure!(dense.len_bytes() == Some(bytes.len()), "{field} has another size");
        let want = Memory { weights: &[], arena: &mut bytes };
        let (mut difference, mut size) = (0f64, 0f64);
        for r in 0..view.rows {
            for c in 0..view.cols {
                let (got, want) = (got.load(view, r, c), want.load(&dense, r, c));
                difference += (got - want).powi(2);
                size += want.powi(2);
            }
        }
        let error = (difference / size).sqrt();
        let limit = if view.dtype == DType::F32 { limit } else { 0.0 };
        ensure!(error <= limit, "{field} is off by {error:.1e}, more than {limit:.1e}");
        worst = worst.max(error);
    }
    Ok(worst)
}

/// A file.
struct Fixture<'a> {
    tensors: SafeTensors<'a>,
    parameters: HashMap<String, String>,
}

impl<'a> Fixture<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let parameters = metadata.metadata().clone().context("no metadata")?;
        Ok(Fixture { tensors: SafeTensors::deserialize(bytes)?, parameters })
    }

    fn parameter(&self, name: &str) -> Result<&str> {
        self.parameters.get(name).map(String::as_str).with_context(|| format!("no parameter {name}"))
    }
}

/// A case of a file.
struct Golden<'a> {
    fixture: &'a Fixture<'a>,
    name: &'a str,
}

impl Golden<'_> {
    fn text(&self, parameter: &str) -> Result<&str> {
        self.fixture.parameter(&format!("{}.{parameter}", self.name))
    }

    fn number<T: std::str::FromStr>(&self, parameter: &str) -> Result<T>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        Ok(self.text(parameter)?.parse()?)
    }

    fn layout(&self, of: &str) -> Result<TokenLayout> {
        Ok(TokenLayout {
            images: self.number(&format!("{of}images"))?,
            image_tokens: self.number(&format!("{of}image_tokens"))?,
            context_tokens: self.number(&format!("{of}context_tokens"))?,
        })
    }

    fn weights(&self, step: &str) -> Result<[f32; HISTORY]> {
        let mut weights = [0.0; HISTORY];
        for (weight, text) in weights.iter_mut().zip(self.text(step)?.split(',')) {
            *weight = text.parse()?;
        }
        Ok(weights)
    }

    /// A tensor as a matrix; a vector is one row.
    fn view(&self, d: &mut Draw, region: Region, field: &str) -> Result<View> {
        let tensor = self.fixture.tensors.tensor(&format!("{}.{field}", self.name))?;
        let dtype = match tensor.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I8 => DType::I8,
            Dtype::I32 => DType::U32,
            other => bail!("{field} is of type {other:?}"),
        };
        let shape = match tensor.shape() {
            &[cols] => (1, cols),
            &[rows, cols] => (rows, cols),
            other => bail!("{field} has shape {other:?}"),
        };
        Ok(d.tensor(region, dtype, shape, tensor.data()))
    }

    fn x(&self, d: &mut Draw, field: &str) -> Result<View> {
        self.view(d, Region::Arena, field)
    }

    fn w(&self, d: &mut Draw, field: &str) -> Result<View> {
        self.view(d, Region::Weights, field)
    }

    fn optional(&self, d: &mut Draw, region: Region, field: &str) -> Result<Option<View>> {
        let there = self.fixture.tensors.tensor(&format!("{}.{field}", self.name)).is_ok();
        there.then(|| self.view(d, region, field)).transpose()
    }

    /// A poisoned output with the shape of the wanted one.
    fn out(&self, d: &mut Draw, field: &str) -> Result<View> {
        let like = self.view(&mut Draw::new(0), Region::Arena, &format!("want.{field}"))?;
        Ok(d.output(like.dtype, like.rows, like.cols))
    }

    fn modulation(&self, d: &mut Draw) -> Result<Modulation> {
        Ok(Modulation { table: self.x(d, "modulation")?, rows: self.x(d, "modulation_rows")? })
    }
}

/// The kernel's case, and the outputs that are wanted.
fn golden(g: &Golden<'_>, kernel: &str) -> Result<(Case, Vec<(&'static str, View)>)> {
    let read = match kernel {
        "linear" => linear,
        "class_condition" => class_condition,
        "context_tokens" => context_tokens,
        "patchify" => patchify,
        "unpatchify" => unpatchify,
        "norm_modulate" => norm_modulate,
        "qk_norm_rope" => qk_norm_rope,
        "attention" => attention,
        "causal_attention" => causal_attention,
        "rms_norm" => rms_norm,
        "layer_norm" => layer_norm,
        "gather_rows" => gather_rows,
        "dequantize_blocks" => dequantize_blocks,
        "swiglu" => swiglu,
        "quantize_rows" => quantize_rows,
        "solver_step" => solver_step,
        other => bail!("no golden of {other} can be read"),
    };
    let mut draw = Draw::new(base_seed());
    let (op, wanted) = read(g, &mut draw)?;
    let exact = Tolerance::exact("compared here");
    let outputs: Vec<_> = wanted.iter().map(|(_, view)| (*view, exact)).collect();
    Ok((draw.finish(op, outputs), wanted))
}

/// A kernel, and what it writes.
type Read = (Op, Vec<(&'static str, View)>);

fn linear(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (x, x_scale) = (g.x(d, "x")?, g.optional(d, Region::Arena, "x_scale")?);
    let w = Weight { data: g.w(d, "w")?, scale: g.optional(d, Region::Weights, "w_scale")?, residual: None };
    let bias = g.optional(d, Region::Weights, "bias")?;
    let (epilogue, out) = epilogue(g, d)?;
    Ok((Op::Linear(Linear { x, x_scale, centre: None, w, bias, out, epilogue }), vec![("out", out)]))
}

fn class_condition(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (t_emb, table, labels) = (g.x(d, "t_emb")?, g.w(d, "table")?, g.x(d, "labels")?);
    let out = g.out(d, "out")?;
    Ok((Op::ClassCondition(ClassCondition { t_emb, table, labels, out }), vec![("out", out)]))
}

fn context_tokens(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (table, position, labels) = (g.w(d, "table")?, g.w(d, "position")?, g.x(d, "labels")?);
    let out = g.out(d, "out")?;
    Ok((Op::ContextTokens(ContextTokens { table, position, labels, out }), vec![("out", out)]))
}

fn patchify(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (image, out) = (g.x(d, "image")?, g.out(d, "out")?);
    let (grid, patch) = (g.number("grid")?, g.number("patch")?);
    Ok((Op::Patchify(Patchify { image, grid, patch, out }), vec![("out", out)]))
}

fn unpatchify(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (x, out) = (g.x(d, "x")?, g.out(d, "out")?);
    let order = match g.text("order")? {
        "channel_last" => PixelOrder::ChannelLast,
        "channel_first" => PixelOrder::ChannelFirst,
        other => bail!("order {other}"),
    };
    let (grid, patch) = (g.number("grid")?, g.number("patch")?);
    Ok((Op::Unpatchify(Unpatchify { x, grid, patch, order, out }), vec![("out", out)]))
}

fn norm_modulate(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let op = NormModulate {
        x: g.x(d, "x")?,
        weight: g.w(d, "weight")?,
        eps: g.number("eps")?,
        modulation: g.modulation(d)?,
        shift: g.number("shift")?,
        scale: g.number("scale")?,
        layout: g.layout("")?,
        out: g.out(d, "out")?,
        out_scale: None,
        centre: None,
    };
    Ok((Op::NormModulate(op), vec![("out", op.out)]))
}

fn qk_norm_rope(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let heads = g.number("heads")?;
    let halves = g.text("pairs").is_ok_and(|pairs| pairs == "halves");
    let pairs = if halves { RopePairs::Halves } else { RopePairs::Adjacent };
    let rope = Rope { table: g.x(d, "rope")?, rows: g.number("rotated_rows")?, pairs };
    let op = QkNormRope {
        qkv: g.x(d, "qkv")?,
        q_weight: g.w(d, "q_weight")?,
        k_weight: g.w(d, "k_weight")?,
        eps: g.number("eps")?,
        heads,
        kv_heads: if g.text("kv_heads").is_ok() { g.number("kv_heads")? } else { heads },
        rope: Some(rope),
    };
    Ok((Op::QkNormRope(op), vec![("qkv", op.qkv)]))
}

fn attention(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let op = Attention {
        q: g.x(d, "q")?,
        k: g.x(d, "k")?,
        v: g.x(d, "v")?,
        heads: g.number("heads")?,
        queries: g.layout("queries.")?,
        keys: g.layout("keys.")?,
        products: DType::F32,
        out: g.out(d, "out")?,
    };
    Ok((Op::Attention(op), vec![("out", op.out)]))
}

fn causal_attention(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let op = CausalAttention {
        q: g.x(d, "q")?,
        k: g.x(d, "k")?,
        v: g.x(d, "v")?,
        heads: g.number("heads")?,
        kv_heads: g.number("kv_heads")?,
        lengths: g.x(d, "lengths")?,
        out: g.out(d, "out")?,
    };
    Ok((Op::CausalAttention(op), vec![("out", op.out)]))
}

fn rms_norm(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (x, weight, eps) = (g.x(d, "x")?, g.w(d, "weight")?, g.number("eps")?);
    let (position, out) = (g.optional(d, Region::Weights, "position")?, g.out(d, "out")?);
    Ok((Op::RmsNorm(RmsNorm { x, weight, eps, position, out, out_scale: None }), vec![("out", out)]))
}

fn layer_norm(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (x, eps, out) = (g.x(d, "x")?, g.number("eps")?, g.out(d, "out")?);
    Ok((Op::LayerNorm(LayerNorm { x, eps, out, out_scale: None }), vec![("out", out)]))
}

fn gather_rows(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (x, index, count, out) = (g.w(d, "x")?, g.x(d, "index")?, g.number("count")?, g.out(d, "out")?);
    Ok((Op::GatherRows(GatherRows { x, index, count, out }), vec![("out", out)]))
}

fn dequantize_blocks(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (x, out) = (g.w(d, "x")?, g.out(d, "out")?);
    Ok((Op::DequantizeBlocks(DequantizeBlocks { x, out }), vec![("out", out)]))
}

fn swiglu(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (x, out) = (g.x(d, "x")?, g.out(d, "out")?);
    Ok((Op::Swiglu(Swiglu { x, out, out_scale: None, rotated: false }), vec![("out", out)]))
}

fn quantize_rows(g: &Golden<'_>, d: &mut Draw) -> Result<Read> {
    let (x, out, out_scale) = (g.x(d, "x")?, g.out(d, "out")?, g.out(d, "out_scale")?);
    Ok((
        Op::QuantizeRows(QuantizeRows { x, out, out_scale, centre: None, rotated: false }),
        vec![("out", out), ("out_scale", out_scale)],
    ))
}

fn epilogue(g: &Golden<'_>, d: &mut Draw) -> Result<(Epilogue, View)> {
    Ok(match g.text("epilogue")? {
        "store" => (Epilogue::Store, g.out(d, "out")?),
        "silu" => (Epilogue::Silu, g.out(d, "out")?),
        "residual" => (Epilogue::Residual, g.x(d, "out")?),
        "add_periodic" => (Epilogue::AddPeriodic(g.w(d, "table")?), g.out(d, "out")?),
        "gated_residual" => {
            let (modulation, gate, layout) = (g.modulation(d)?, g.number("gate")?, g.layout("")?);
            (Epilogue::GatedResidual { modulation, gate, layout }, g.x(d, "out")?)
        }
        other => bail!("epilogue {other}"),
    })
}

fn solver_step(g: &Golden<'_>, d: &mut Draw) -> Result<(Op, Vec<(&'static str, View)>)> {
    let values = StepValues {
        advance: g.weights("advance")?,
        look_ahead: g.weights("look_ahead")?,
        remaining: g.number("remaining")?,
        guidance: g.number("guidance")?,
        slot: g.number("slot")?,
    };
    let (x, x_eval, x_hat) = (g.x(d, "x")?, g.x(d, "x_eval")?, g.x(d, "x_hat")?);
    let (velocity, step) =
        (g.x(d, "velocity")?, d.tensor(Region::Arena, DType::U32, (1, 11), bytemuck::bytes_of(&values)));
    let wanted = vec![("x", x), ("x_eval", x_eval), ("x_hat", x_hat.rows_from(0, x.rows)), ("velocity", velocity)];
    Ok((Op::SolverStep(SolverStep { x, x_eval, x_hat, velocity, step }), wanted))
}
