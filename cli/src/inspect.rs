//! `denoir inspect`: describes a model file. It can list any GGUF, including models that denoir cannot run.

mod lines;
mod text_models;
mod value;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use denoir::core::ModelError;
use denoir::core::Precision;
use denoir::core::gguf::{Gguf, TensorInfo, keys};
use denoir::core::jit::{JitConfig, JitModel};
use denoir::core::qwen3::Qwen3Model;
use denoir::core::sampler::Method;
use denoir::{AnyNetwork, MappedFile, Settings};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value as Json, json};

use crate::error::Error;
use crate::{demo, stdout, text};
use lines::{image_text, line};
use value::Metadata;

#[derive(Debug, clap::Args)]
#[command(after_help = "Lists the classes that `denoir generate --class` takes.")]
pub(crate) struct Args {
    /// Model file, any GGUF [default: the demo model built into the program]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let file = args.model.as_ref().map(MappedFile::open).transpose()?;
    let bytes = file.as_ref().map_or(demo::bytes(), MappedFile::bytes);
    let gguf = Gguf::parse(bytes).map_err(|e| denoir::Error::Model(args.model.clone(), e.into()))?;
    let place = args.model.as_ref().map_or_else(|| "built into denoir".into(), |path| path.display().to_string());
    let report = Report { place, gguf, model: model(&gguf) };
    if args.json {
        return stdout::json(&JsonReport { report: &report, tensors: args.tensors });
    }
    stdout::text(&report.text(args.tensors))
}

/// A model that denoir can run.
enum Model {
    Image(AnyNetwork),
    Text(Box<Qwen3Model>),
}

/// Reads the model; `None` for an architecture that denoir cannot run.
fn model(gguf: &Gguf<'_>) -> Option<Result<Model, ModelError>> {
    if gguf.string(keys::ARCHITECTURE).ok()? == keys::ARCH_QWEN3 {
        return Some(Qwen3Model::from_gguf(gguf).map(|model| Model::Text(Box::new(model))));
    }
    match AnyNetwork::from_gguf(gguf) {
        Err(ModelError::Architecture(_)) => None,
        network => Some(network.map(Model::Image)),
    }
}

struct Report<'g> {
    place: String,
    gguf: Gguf<'g>,
    model: Option<Result<Model, ModelError>>,
}

impl Report<'_> {
    fn string(&self, key: &str) -> Option<&str> {
        self.gguf.string(key).ok()
    }

    /// Number of weights, without the scales of int8 rows.
    fn parameters(&self) -> u64 {
        let weights = self.gguf.tensors().filter(|t| !keys::is_of_matrix(t.name));
        weights.map(|t| t.dims.elements() as u64).sum()
    }

    /// `bf16 93%, f32 7%`: element types with their share of the weights.
    fn types(&self) -> Vec<(String, u64)> {
        let mut types = BTreeMap::new();
        for t in self.gguf.tensors().filter(|t| !keys::is_of_matrix(t.name)) {
            *types.entry(t.ggml_type.to_string()).or_insert(0) += t.dims.elements() as u64;
        }
        let mut types: Vec<_> = types.into_iter().collect();
        types.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        types
    }

    /// Bytes of activations for one guided image.
    fn activations(&self) -> Option<usize> {
        match self.model.as_ref()?.as_ref().ok()? {
            Model::Image(network) => network.arena_bytes(1, Precision::WIDE).ok(),
            Model::Text(_) => None,
        }
    }

    fn class_names(&self) -> Vec<&str> {
        self.gguf.strings(keys::CLASS_NAMES).map(Iterator::collect).unwrap_or_default()
    }

    fn text(&self, tensors: bool) -> String {
        let mut out = String::new();
        line(&mut out, "file", &format!("{}, {}, GGUF v3", self.place, text::bytes(self.gguf.len_bytes() as u64)));
        line(&mut out, "name", self.string(keys::NAME).unwrap_or("none"));
        line(&mut out, "architecture", &self.architecture());
        line(&mut out, "weights", &self.weights());
        match &self.model {
            Some(Ok(Model::Image(AnyNetwork::Jit(model)))) => self.describe(&mut out, model),
            Some(Ok(Model::Image(AnyNetwork::T2i(model)))) => {
                text_models::describe_t2i(&mut out, &model.config);
                self.describe_run(&mut out, model.config.flop());
            }
            Some(Ok(Model::Text(model))) => text_models::describe_encoder(&mut out, model),
            Some(Err(e)) => {
                line(&mut out, "unusable", &e.to_string());
                self.metadata_text(&mut out);
            }
            None => self.metadata_text(&mut out),
        }
        if tensors {
            out.push_str(&self.tensor_table());
        }
        out
    }

    fn architecture(&self) -> String {
        match self.string(keys::ARCHITECTURE) {
            Some(keys::ARCH_JIT) => "jit, class-conditional".into(),
            Some(keys::ARCH_T2I) => "pixelgen-t2i, text to image".into(),
            Some(keys::ARCH_QWEN3) => "qwen3, text encoder".into(),
            Some(other) => format!("{}, which this version does not run", text::one_line(other)),
            None => "not named".into(),
        }
    }

    fn weights(&self) -> String {
        let total = self.parameters().max(1);
        let share = |(name, n): &(String, u64)| format!("{name} {:.1}%", *n as f64 * 100.0 / total as f64);
        let types = self.types().iter().map(share).collect::<Vec<_>>().join(", ");
        let said = self.string(keys::WEIGHT_TYPE).map(|t| format!("{t}; ")).unwrap_or_default();
        let tensors = self.gguf.tensor_count();
        format!("{said}{} parameters in {tensors} tensors ({types})", text::thousands(self.parameters()))
    }

    fn describe(&self, out: &mut String, model: &JitModel) {
        let c = &model.config;
        line(out, "image", &image_text(c.input_size, c.channels, c.patch_size));
        line(out, "network", &network_text(c));
        self.describe_run(out, c.flop());
        let names = self.class_names();
        let unnamed = if names.is_empty() { ", without names" } else { "" };
        line(out, "classes", &format!("{}{unnamed}", c.classes));
        for (i, name) in names.iter().enumerate() {
            let _ = writeln!(out, "  {i:>4} {}", text::one_line(name));
        }
    }

    /// Describes the requirements for drawing and the origin of the model.
    fn describe_run(&self, out: &mut String, flop: u64) {
        let activations = text::bytes(self.activations().unwrap_or(0) as u64);
        let gflop = flop as f64 / 1e9;
        line(out, "cost", &format!("{gflop:.3} GFLOP an evaluation; {activations} of activations for one image"));
        line(out, "sampler", &self.sampler_text());
        line(out, "rounding", self.string(keys::ROUNDING).unwrap_or("pixelgen"));
        if let Some(source) = self.string(keys::SOURCE_FILE) {
            let hash = self.string(keys::SOURCE_SHA256).unwrap_or("unknown");
            line(out, "source", &format!("{source}, SHA-256 {hash}"));
        }
    }

    fn sampler_text(&self) -> String {
        let s = match Settings::from_gguf(&self.gguf) {
            Ok(s) => s,
            Err(e) => return format!("unusable: {e}"),
        };
        let mut text = format!("{}, {} steps, cfg scale {}", s.method.name(), s.steps, s.cfg_scale);
        if s.cfg_scale != 1.0 {
            let _ = write!(text, " for t from {} to {}", s.guidance_interval.0, s.guidance_interval.1);
        }
        if s.method == Method::Adams {
            let _ = write!(text, ", order {}", s.order);
        }
        let _ = write!(text, ", flow shift {}, noise scale {}", s.flow_shift, s.noise_scale);
        text
    }

    fn metadata_text(&self, out: &mut String) {
        out.push_str("metadata\n");
        for (key, value) in self.gguf.metadata() {
            let _ = writeln!(out, "  {} = {}", text::one_line(key), value::short(value));
        }
    }

    fn tensor_table(&self) -> String {
        let mut out = String::from("tensors\n");
        let width = self.gguf.tensors().map(|t| t.name.chars().count()).max().unwrap_or(0);
        for t in self.gguf.tensors() {
            let shape = t.dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
            let name = text::one_line(t.name);
            let _ = writeln!(out, "  {name:width$}  {:<5} {shape}", t.ggml_type.to_string());
        }
        out
    }

    /// Everything but the lists, which may be long.
    fn summary(&self) -> Json {
        let mut report = json!({
            "file": self.place,
            "bytes": self.gguf.len_bytes(),
            "architecture": self.string(keys::ARCHITECTURE),
            "name": self.string(keys::NAME),
            "weight_type": self.string(keys::WEIGHT_TYPE),
            "parameters": self.parameters(),
            "parameters_by_type": self.types().into_iter().collect::<BTreeMap<_, _>>(),
            "tensor_count": self.gguf.tensor_count(),
            "runs": matches!(self.model, Some(Ok(_))),
        });
        match &self.model {
            Some(Ok(model)) => {
                report["network"] = match model {
                    Model::Image(AnyNetwork::Jit(model)) => network_json(&model.config),
                    Model::Image(AnyNetwork::T2i(model)) => text_models::t2i_json(&model.config),
                    Model::Text(model) => text_models::encoder_json(&model.config),
                };
                report["activation_bytes"] = json!(self.activations());
            }
            Some(Err(e)) => report["problem"] = json!(e.to_string()),
            None => {}
        }
        report
    }
}

/// What `--json` prints.
struct JsonReport<'r> {
    report: &'r Report<'r>,
    /// Whether every tensor is listed.
    tensors: bool,
}

impl Serialize for JsonReport<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (mut map, gguf) = (to.serialize_map(None)?, self.report.gguf);
        for (key, value) in self.report.summary().as_object().into_iter().flatten() {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("class_names", &self.report.class_names())?;
        map.serialize_entry("metadata", &Metadata(gguf))?;
        if self.tensors {
            let tensors: Vec<Json> = gguf.tensors().map(|t| tensor_json(&t)).collect();
            map.serialize_entry("tensors", &tensors)?;
        }
        map.end()
    }
}

fn network_text(c: &JitConfig) -> String {
    let heads = text::plural(c.heads, "head", "heads");
    let mut text =
        format!("{} blocks × {}, {} {heads} of {}, FFN {}", c.depth, c.hidden, c.heads, c.head_dim(), c.ffn_hidden);
    if c.bottleneck > 0 {
        let _ = write!(text, ", bottleneck {}", c.bottleneck);
    }
    if c.context_tokens > 0 {
        let _ = write!(text, ", {} context tokens from block {}", c.context_tokens, c.context_start);
    }
    text
}

fn network_json(c: &JitConfig) -> Json {
    json!({
        "input_size": c.input_size,
        "patch_size": c.patch_size,
        "channels": c.channels,
        "hidden": c.hidden,
        "depth": c.depth,
        "heads": c.heads,
        "head_dim": c.head_dim(),
        "ffn_hidden": c.ffn_hidden,
        "classes": c.classes,
        "bottleneck": c.bottleneck,
        "context_tokens": c.context_tokens,
        "context_start": c.context_start,
        "gflop": c.flop() as f64 / 1e9,
    })
}

fn tensor_json(t: &TensorInfo<'_>) -> Json {
    json!({ "name": t.name, "type": t.ggml_type.to_string(), "shape": t.dims.as_slice(), "offset": t.offset })
}
