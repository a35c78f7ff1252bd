//! Descriptions of the images for PNG files, for JSON and for people.

use std::time::Duration;

use denoir::core::sampler::Method;
use denoir::{Isa, Pipeline, Rng, Settings};
use serde_json::{Value, json};

use crate::encode::TextChunk;
use crate::prompt::Source;

/// Maximum number of classes named in the description of a contact sheet.
const NAMED: usize = 32;
/// Number of hash digits that tell models apart.
const HASH_DIGITS: usize = 10;

/// Everything that determines the images.
pub(super) struct Job {
    pub(super) images: Vec<ImageJob>,
    /// The text of all images, for a text-to-image model.
    pub(super) source: Option<Source>,
    pub(super) settings: Settings,
    pub(super) rng: Rng,
    /// Height and width in pixels.
    pub(super) side: usize,
    pub(super) channels: usize,
    pub(super) model_name: String,
    /// SHA-256 of the checkpoint.
    pub(super) model_hash: Option<String>,
}

/// One image.
pub(super) struct ImageJob {
    /// The class, for a class-conditional model.
    pub(super) class: Option<u32>,
    pub(super) name: Option<String>,
    pub(super) seed: u64,
}

impl ImageJob {
    /// `3 (cat)`, or `3` if the class has no name.
    fn class_text(&self) -> String {
        match (self.class, &self.name) {
            (Some(class), Some(name)) => format!("{class} ({name})"),
            (Some(class), None) => class.to_string(),
            (None, _) => String::new(),
        }
    }
}

impl Job {
    /// `class 3 (cat)`, or the classes of all images; for a text-to-image model the prompts, in the web UI's form.
    fn subject(&self, images: &[ImageJob]) -> String {
        match &self.source {
            Some(Source::Words { prompt, negative, .. }) if negative.is_empty() => return prompt.clone(),
            Some(Source::Words { prompt, negative, .. }) => return format!("{prompt}\nNegative prompt: {negative}"),
            Some(Source::Embeds(path)) => return format!("embeddings {}", path.display()),
            None => {}
        }
        let mut classes: Vec<String> = Vec::new();
        for text in images.iter().map(ImageJob::class_text) {
            if !classes.contains(&text) {
                classes.push(text);
            }
        }
        if let [class] = classes.as_slice() {
            return format!("class {class}");
        }
        let rest = classes.len().saturating_sub(NAMED);
        classes.truncate(NAMED);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        format!("classes {}{more}", classes.join(", "))
    }

    /// `Steps: 50, Sampler: heun, ...`, with the keys and order of the web UI that made this form common.
    pub(super) fn settings_text(&self) -> String {
        let s = &self.settings;
        let seed = self.images.first().map_or(0, |image| image.seed);
        let mut text = format!("Steps: {}, Sampler: {}, CFG scale: {}", s.steps, s.method.name(), s.cfg_scale);
        text += &format!(", Seed: {seed}, Size: {0}x{0}", self.side);
        if let Some(hash) = &self.model_hash {
            text += &format!(", Model hash: {}", hash.get(..HASH_DIGITS).unwrap_or(hash));
        }
        text += &format!(", Model: {}", self.model_name.replace(',', ";"));
        if self.images.len() > 1 {
            text += &format!(", Batch size: {}", self.images.len());
        }
        if s.cfg_scale != 1.0 {
            text += &format!(", Guidance interval: {}-{}", s.guidance_interval.0, s.guidance_interval.1);
        }
        if s.method == Method::Adams {
            text += &format!(", Order: {}", s.order);
        }
        if s.flow_shift != 1.0 {
            text += &format!(", Flow shift: {}", s.flow_shift);
        }
        if s.noise_scale != 1.0 {
            text += &format!(", Noise scale: {}", s.noise_scale);
        }
        if self.rng != Rng::Torch {
            text += &format!(", RNG: {}", self.rng.name());
        }
        text + concat!(", Version: denoir ", env!("CARGO_PKG_VERSION"))
    }

    /// The job for one of the images.
    fn single(&self, number: usize) -> Job {
        let image = &self.images[number];
        let image = ImageJob { class: image.class, name: image.name.clone(), seed: image.seed };
        let (model_name, model_hash) = (self.model_name.clone(), self.model_hash.clone());
        Job { images: vec![image], source: self.source.clone(), model_name, model_hash, ..*self }
    }

    /// The texts for the file of one image (or of all images, without a number).
    pub(super) fn chunks(&self, number: Option<usize>) -> Vec<TextChunk> {
        let single = number.filter(|_| self.images.len() > 1).map(|number| self.single(number));
        let job = single.as_ref().unwrap_or(self);
        vec![
            ("parameters", parameters(&job.settings_text(), job)),
            (
                "denoir",
                json!({ "images": images(job, &[]), "settings": settings(job), "model": model(job) }).to_string(),
            ),
        ]
    }

    /// One line about an output file.
    pub(super) fn summary(&self, number: Option<usize>) -> String {
        let images = number.map_or(self.images.as_slice(), |number| &self.images[number..=number]);
        match images {
            [image] if self.source.is_some() => format!("seed {}", image.seed),
            [image] => format!("class {}, seed {}", image.class_text(), image.seed),
            [first, .., last] => format!("{} images, seeds {} to {}", images.len(), first.seed, last.seed),
            [] => String::new(),
        }
    }
}

/// The web UI's text: the prompt, then the settings.
pub(super) fn parameters(settings: &str, job: &Job) -> String {
    format!("{}\n{settings}", job.subject(&job.images))
}

fn settings(job: &Job) -> Value {
    let s = &job.settings;
    json!({
        "sampling_method": s.method.name(),
        "steps": s.steps,
        "cfg_scale": s.cfg_scale,
        "guidance_interval": [s.guidance_interval.0, s.guidance_interval.1],
        "flow_shift": s.flow_shift,
        "noise_scale": s.noise_scale,
        "order": s.order,
        "rng": job.rng.name(),
    })
}

fn model(job: &Job) -> Value {
    json!({ "name": job.model_name, "source_sha256": job.model_hash })
}

/// The images, with the time of each if known.
fn images(job: &Job, times: &[Duration]) -> Value {
    let one = |(i, image): (usize, &ImageJob)| {
        let mut value = json!({
            "class": image.class,
            "class_name": image.name,
            "seed": image.seed,
            "width": job.side,
            "height": job.side,
        });
        match &job.source {
            Some(Source::Words { prompt, negative, .. }) => {
                value["prompt"] = json!(prompt);
                value["negative_prompt"] = json!(negative);
            }
            Some(Source::Embeds(path)) => value["prompt_embeds"] = json!(path.to_string_lossy()),
            None => {}
        }
        if let Some(time) = times.get(i) {
            value["ms"] = json!(milliseconds(*time));
        }
        value
    };
    job.images.iter().enumerate().map(one).collect()
}

/// The object that `--json` prints.
pub(super) fn report(job: &Job, pipeline: &Pipeline, outputs: Value, timing: &Timing<'_>) -> Value {
    let device = pipeline.device();
    let mut model = model(job);
    model["type"] = json!(pipeline.model().network().weight_type().name());
    model["bytes"] = json!(pipeline.model().bytes().len());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "outputs": outputs,
        "images": images(job, timing.images),
        "settings": settings(job),
        "model": model,
        "backend": device.backend.name(),
        "device": device.name,
        "isa": pipeline.isa().map(Isa::name),
        "levels": device.levels,
        "threads": pipeline.threads(),
        "timing": {
            "load_ms": milliseconds(timing.load),
            "sample_ms": milliseconds(timing.sample),
            "evaluations_per_image": job.settings.evaluations(),
        },
    })
}

/// Durations.
pub(super) struct Timing<'t> {
    /// From the start to the first evaluation.
    pub(super) load: Duration,
    /// All images.
    pub(super) sample: Duration,
    /// Each image.
    pub(super) images: &'t [Duration],
}

/// Rounds to a hundredth.
fn milliseconds(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e5).round() / 100.0
}
