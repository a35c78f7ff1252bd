use std::ptr;

use denoir::{Condition, Method, PromptEmbeds, Request, Rng, Settings};

use crate::model::denoir_model;
use crate::params::{self, Params};
use crate::pointers::{copy, reference, room};
use crate::status::{Failure, Result, denoir_status};

/// The solver for the trajectory from noise to image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum denoir_method {
    /// Euler (PixelGen).
    DENOIR_METHOD_EULER = 0,
    /// Heun, with guidance decided once per step (PixelGen).
    DENOIR_METHOD_HEUN = 1,
    /// Heun with one evaluation per step (PixelGen).
    DENOIR_METHOD_HEUN_REUSE = 2,
    /// Heun, with guidance decided at each evaluation (JiT); has no flow shift.
    DENOIR_METHOD_HEUN_JIT = 3,
    /// Adams-Bashforth of `order` (PixelGen, text to image).
    DENOIR_METHOD_ADAMS = 4,
}

const METHODS: [Method; 5] = [Method::Euler, Method::Heun, Method::HeunReuse, Method::HeunJit, Method::Adams];

/// The noise generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum denoir_rng {
    /// `torch.randn` of an x86-64 CPU, bit for bit: a seed gives the upstream picture.
    DENOIR_RNG_TORCH = 0,
    /// A counter-based generator.
    DENOIR_RNG_PHILOX = 1,
}

/// A request for images. `denoir_request_init` sets one image of class 0, seed 42, and the model's own settings.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct denoir_request {
    /// Bytes of this structure, set by `denoir_request_init`.
    pub struct_size: usize,
    /// Number of images.
    pub images: usize,
    /// Noise seed of the first image; each further image adds one.
    pub seed: u64,
    /// A `denoir_rng`.
    pub rng: i32,
    /// A `denoir_method`.
    pub method: i32,
    /// One class per image; NULL for class 0. Models that draw from a prompt have no classes.
    pub classes: *const u32,
    /// Embedding of the prompt, (text_tokens, text_width), for models that draw from a prompt.
    pub prompt_embeds: *const f32,
    /// Embedding of the negative prompt, (text_tokens, text_width).
    pub negative_prompt_embeds: *const f32,
    /// Solver steps.
    pub steps: u32,
    /// Order of DENOIR_METHOD_ADAMS, 1 to 4.
    pub order: u32,
    /// Classifier-free guidance scale; 1 disables guidance.
    pub cfg_scale: f64,
    /// Guidance applies at times above this, from 0 (noise) to 1 (image).
    pub guidance_lo: f64,
    /// Guidance applies at times up to this.
    pub guidance_hi: f64,
    /// Time shift s in t / (t + (1 - t) s).
    pub flow_shift: f64,
    /// Factor on the starting noise.
    pub noise_scale: f64,
}

// SAFETY: `repr(C)` of numbers and pointers, with its size first.
unsafe impl Params for denoir_request {
    const NAME: &'static str = "the request";

    fn defaults() -> Self {
        denoir_request::of(&Settings {
            method: Method::Euler,
            steps: 50,
            cfg_scale: 1.0,
            guidance_interval: (0.0, 1.0),
            flow_shift: 1.0,
            noise_scale: 1.0,
            order: 2,
        })
    }
}

impl denoir_request {
    fn of(settings: &Settings) -> denoir_request {
        denoir_request {
            struct_size: size_of::<Self>(),
            images: 1,
            seed: 42,
            rng: denoir_rng::DENOIR_RNG_TORCH as i32,
            method: METHODS.iter().position(|m| *m == settings.method).map_or(0, |i| i as i32),
            classes: ptr::null(),
            prompt_embeds: ptr::null(),
            negative_prompt_embeds: ptr::null(),
            steps: settings.steps,
            order: settings.order,
            cfg_scale: settings.cfg_scale,
            guidance_lo: settings.guidance_interval.0,
            guidance_hi: settings.guidance_interval.1,
            flow_shift: settings.flow_shift,
            noise_scale: settings.noise_scale,
        }
    }

    /// Converts the request for the runtime, with its condition from [`denoir_request::condition`].
    pub(crate) fn request<'r>(&self, condition: &'r OwnCondition) -> Result<Request<'r>> {
        let method = usize::try_from(self.method).ok().and_then(|i| METHODS.get(i).copied());
        let settings = Settings {
            method: method.ok_or_else(|| Failure::argument(format!("there is no method {}", self.method)))?,
            steps: self.steps,
            cfg_scale: self.cfg_scale,
            guidance_interval: (self.guidance_lo, self.guidance_hi),
            flow_shift: self.flow_shift,
            noise_scale: self.noise_scale,
            order: self.order,
        };
        settings.check().map_err(|e| Failure::argument(e.to_string()))?;
        let condition = match condition {
            OwnCondition::Labels(labels) => Condition::Labels(labels),
            OwnCondition::Prompt(prompt, negative) => {
                Condition::Prompt(PromptEmbeds { prompt, negative, images: self.images })
            }
        };
        Ok(Request { condition, seed: self.seed, rng: rng(self.rng)?, settings })
    }

    /// Copies what the images are drawn from, because callbacks may change it, and because the caller's memory for it and
    /// for the pixels may be one.
    ///
    /// # Safety
    /// The request's pointers are NULL, or valid for what the images and the model need.
    pub(crate) unsafe fn condition(&self, model: &denoir::Model) -> Result<OwnCondition> {
        // SAFETY: the caller promises that the request's pointers are valid for the lengths beside them.
        unsafe {
            if let Some((tokens, width)) = model.network().text_size() {
                let prompt = copy(self.prompt_embeds, tokens * width, "prompt_embeds")?;
                let negative = copy(self.negative_prompt_embeds, tokens * width, "negative_prompt_embeds")?;
                return Ok(OwnCondition::Prompt(prompt, negative));
            }
            if !self.classes.is_null() {
                return Ok(OwnCondition::Labels(copy(self.classes, self.images, "the classes")?));
            }
        }
        let mut labels = room(self.images)?;
        labels.resize(self.images, 0);
        Ok(OwnCondition::Labels(labels))
    }
}

/// The condition of a request.
pub(crate) enum OwnCondition {
    /// One class per image.
    Labels(Vec<u32>),
    /// The embeddings of the prompt and of the negative prompt.
    Prompt(Vec<f32>, Vec<f32>),
}

/// The generator for a `denoir_rng`.
pub(crate) fn rng(number: i32) -> Result<Rng> {
    match number {
        0 => Ok(Rng::Torch),
        1 => Ok(Rng::Philox),
        other => Err(Failure::argument(format!("there is no noise {other}"))),
    }
}

/// Fills `request`, a structure of `size` bytes: one image of class 0 with seed 42 and the model's own settings.
///
/// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`, without a message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_request_init(
    request: *mut denoir_request,
    size: usize,
    model: *const denoir_model,
) -> denoir_status {
    // SAFETY: the caller's promise.
    let written = unsafe {
        reference(model, "the model")
            .and_then(|model| params::write(denoir_request::of(model.0.preset()), request, size))
    };
    written.map_or_else(|failure| failure.status, |()| denoir_status::DENOIR_OK)
}
