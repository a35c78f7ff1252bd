//! The `--config` file: JSON as denoir documents it, or upstream's Lightning YAML.
//!
//! A checkpoint does not record everything: it omits where the context tokens enter and upstream's sampler settings.
//! JSON holds the network's arguments at the top (`in_context_start`, ...) and, optionally, `name`, `family` (`jit` or
//! `pixelgen`), `rounding` (`pixelgen` or `jit`) and `sampler` with `method`, `steps`, `cfg_scale`, `guidance_interval`
//! (two numbers), `flow_shift`, `noise_scale`, `order`. Upstream's YAML holds the same under `model.denoiser.init_args`
//! and `model.diffusion_sampler`. An unknown key there is an error, so that a misspelt one does not go unnoticed.

mod error;
mod yaml;

pub use error::ConfigError;

use std::collections::BTreeMap;

use denoir_core::gguf::keys;
use serde_json::{Map, Value};

/// Largest configuration file in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The project whose training code wrote a checkpoint. It determines the sampler preset and the 8-bit rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// JiT.
    Jit,
    /// PixelGen.
    PixelGen,
}

/// Sampler settings; absent ones come from the preset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerConfig {
    /// One of [`keys::SAMPLER_METHODS`].
    pub method: Option<&'static str>,
    /// Number of steps.
    pub steps: Option<u32>,
    /// Guidance scale.
    pub cfg_scale: Option<f32>,
    /// Guidance interval in t.
    pub guidance_interval: Option<(f32, f32)>,
    /// Time shift.
    pub flow_shift: Option<f32>,
    /// Factor on the initial noise.
    pub noise_scale: Option<f32>,
    /// Order of the Adams solver.
    pub order: Option<u32>,
}

/// A parsed configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The network's sizes, by upstream's argument names.
    sizes: BTreeMap<&'static str, u64>,
    /// Whether the patch embedding has two projections.
    pub use_bottleneck: Option<bool>,
    /// Model name.
    pub name: Option<String>,
    /// The project that the checkpoint belongs to.
    pub family: Option<Family>,
    /// One of [`keys::ROUNDINGS`].
    pub rounding: Option<&'static str>,
    /// Sampler settings.
    pub sampler: SamplerConfig,
}

/// Arguments of upstream's networks that are sizes.
const SIZES: [&str; 15] = [
    "input_size",
    "patch_size",
    "in_channels",
    "hidden_size",
    "depth",
    "num_heads",
    "num_classes",
    "bottleneck_dim",
    "in_context_len",
    "in_context_start",
    "num_groups",
    "num_blocks",
    "num_text_blocks",
    "txt_embed_dim",
    "txt_max_length",
];

/// Arguments of upstream's networks that do not affect inference, or that tensor shapes determine.
const IGNORED: [&str; 5] = ["mlp_ratio", "attn_drop", "proj_drop", "weight_path", "load_ema"];

impl Config {
    /// Parses a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() as u64 > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| ConfigError::Syntax("not UTF-8".into()))?;
        let json = text.trim_start().starts_with('{');
        let root: Value = if json {
            serde_json::from_str(text).map_err(|e| ConfigError::Syntax(e.to_string()))?
        } else {
            yaml::parse(text)?
        };
        let root = root.as_object().ok_or(ConfigError::NotAMapping)?;
        let mut config = Config::default();
        match root.get("model") {
            Some(model) => config.read_lightning(model, root)?,
            None => config.read_flat(root)?,
        }
        Ok(config)
    }

    /// A size by upstream's argument name.
    pub fn size(&self, key: &str) -> Option<u64> {
        self.sizes.get(key).copied()
    }

    /// denoir's own layout.
    fn read_flat(&mut self, root: &Map<String, Value>) -> Result<(), ConfigError> {
        for (key, value) in root {
            match key.as_str() {
                "name" => self.name = Some(text(key, value)?.to_owned()),
                "family" => {
                    self.family = Some(match text(key, value)? {
                        "jit" => Family::Jit,
                        "pixelgen" => Family::PixelGen,
                        _ => return bad(key, "\"jit\" or \"pixelgen\""),
                    });
                }
                "rounding" => self.rounding = Some(word(key, value, &keys::ROUNDINGS, "\"pixelgen\" or \"jit\"")?),
                "sampler" => self.read_sampler(value)?,
                _ => self.read_argument(key, value)?,
            }
        }
        Ok(())
    }

    /// Upstream's Lightning configuration. Only the network and the sampler are read.
    fn read_lightning(&mut self, model: &Value, root: &Map<String, Value>) -> Result<(), ConfigError> {
        self.family = Some(Family::PixelGen);
        let exp = root.get("tags").and_then(|tags| tags.get("exp")).filter(|exp| exp.is_string());
        self.name = exp.map(|exp| text("exp", exp).map(str::to_owned)).transpose()?;
        let arguments = model.get("denoiser").and_then(|d| d.get("init_args")).and_then(Value::as_object);
        for (key, value) in arguments.into_iter().flatten() {
            self.read_argument(key, value)?;
        }
        if let Some(sampler) = model.get("diffusion_sampler") {
            self.read_upstream_sampler(sampler)?;
        }
        let noise_scale = root.get("data").and_then(|d| d.get("pred_dataset")?.get("init_args")?.get("noise_scale"));
        if let Some(value) = noise_scale {
            self.sampler.noise_scale = Some(positive("noise_scale", value)?);
        }
        Ok(())
    }

    /// One constructor argument of the network.
    fn read_argument(&mut self, key: &str, value: &Value) -> Result<(), ConfigError> {
        if IGNORED.contains(&key) {
            return Ok(());
        }
        if key == "use_bottleneck" {
            self.use_bottleneck = Some(value.as_bool().ok_or(bad_value(key, "true or false"))?);
            return Ok(());
        }
        let known = SIZES.iter().find(|known| **known == key);
        let known = known.ok_or_else(|| ConfigError::UnknownKey(key.chars().take(120).collect()))?;
        let size = value.as_u64().filter(|size| *size <= u64::from(u32::MAX));
        self.sizes.insert(known, size.ok_or(bad_value(key, "a whole number"))?);
        Ok(())
    }

    fn read_sampler(&mut self, value: &Value) -> Result<(), ConfigError> {
        let sampler = &mut self.sampler;
        for (key, value) in value.as_object().ok_or(bad_value("sampler", "a mapping"))? {
            match key.as_str() {
                "method" => {
                    let wanted = "euler, heun, heun-reuse, heun-jit or adams";
                    sampler.method = Some(word(key, value, &keys::SAMPLER_METHODS, wanted)?);
                }
                "steps" => sampler.steps = Some(steps(key, value)?),
                "cfg_scale" => sampler.cfg_scale = Some(number(key, value)?),
                "guidance_interval" => {
                    let ends = value.as_array().map(Vec::as_slice);
                    let Some([lo, hi]) = ends else { return bad(key, "two numbers") };
                    sampler.guidance_interval = Some(interval(number(key, lo)?, number(key, hi)?)?);
                }
                "flow_shift" => sampler.flow_shift = Some(positive(key, value)?),
                "noise_scale" => sampler.noise_scale = Some(positive(key, value)?),
                "order" => sampler.order = Some(order(key, value)?),
                _ => {
                    return Err(ConfigError::UnknownKey(format!(
                        "sampler.{}",
                        key.chars().take(120).collect::<String>()
                    )));
                }
            }
        }
        Ok(())
    }

    /// `diffusion_sampler` of upstream's YAML, with upstream's own defaults for omitted keys.
    fn read_upstream_sampler(&mut self, value: &Value) -> Result<(), ConfigError> {
        let class = value.get("class_path").and_then(Value::as_str).unwrap_or_default();
        let argument = |key: &str| value.get("init_args").and_then(|args| args.get(key));
        let exact = argument("exact_henu").and_then(Value::as_bool).unwrap_or(false);
        let method = match class.rsplit('.').next() {
            Some("EulerSamplerJiT") => "euler",
            Some("HeunSamplerJiT") if exact => "heun",
            Some("HeunSamplerJiT") => "heun-reuse",
            Some("AdamLMSamplerJiT") => "adams",
            _ => return Err(ConfigError::UnknownSampler(class.chars().take(120).collect())),
        };
        let or = |key: &str, default: f32| argument(key).map_or(Ok(default), |value| number(key, value));
        let (lo, hi) = (or("guidance_interval_min", 0.0)?, or("guidance_interval_max", 1.0)?);
        self.sampler = SamplerConfig {
            method: Some(method),
            steps: Some(argument("num_steps").map_or(Ok(250), |value| steps("num_steps", value))?),
            cfg_scale: Some(or("guidance", 1.0)?),
            guidance_interval: Some(interval(lo, hi)?),
            flow_shift: Some(argument("timeshift").map_or(Ok(1.0), |value| positive("timeshift", value))?),
            noise_scale: None,
            order: argument("order").map(|value| order("order", value)).transpose()?,
        };
        Ok(())
    }
}

fn bad_value(key: &str, wanted: &'static str) -> ConfigError {
    ConfigError::BadValue { key: key.to_owned(), wanted }
}

fn bad<T>(key: &str, wanted: &'static str) -> Result<T, ConfigError> {
    Err(bad_value(key, wanted))
}

fn text<'v>(key: &str, value: &'v Value) -> Result<&'v str, ConfigError> {
    value.as_str().filter(|s| s.len() <= 256).ok_or_else(|| bad_value(key, "a short string"))
}

fn word(key: &str, value: &Value, words: &[&'static str], wanted: &'static str) -> Result<&'static str, ConfigError> {
    let given = value.as_str().unwrap_or_default();
    words.iter().find(|word| **word == given).copied().ok_or_else(|| bad_value(key, wanted))
}

fn number(key: &str, value: &Value) -> Result<f32, ConfigError> {
    let number = value.as_f64().map(|n| n as f32).filter(|n| n.is_finite());
    number.ok_or_else(|| bad_value(key, "a number"))
}

fn positive(key: &str, value: &Value) -> Result<f32, ConfigError> {
    let positive = number(key, value).ok().filter(|n| *n > 0.0);
    positive.ok_or_else(|| bad_value(key, "a number above 0"))
}

fn steps(key: &str, value: &Value) -> Result<u32, ConfigError> {
    let steps = value.as_u64().filter(|n| (1..=10_000).contains(n));
    steps.map(|n| n as u32).ok_or_else(|| bad_value(key, "a whole number from 1 to 10000"))
}

fn order(key: &str, value: &Value) -> Result<u32, ConfigError> {
    let order = value.as_u64().filter(|n| (1..=4).contains(n));
    order.map(|n| n as u32).ok_or_else(|| bad_value(key, "a whole number from 1 to 4"))
}

fn interval(lo: f32, hi: f32) -> Result<(f32, f32), ConfigError> {
    if (0.0..=1.0).contains(&lo) && (lo..=1.0).contains(&hi) {
        Ok((lo, hi))
    } else {
        bad("guidance_interval", "two numbers from 0 to 1 in order")
    }
}

#[cfg(test)]
mod tests;
