use std::ffi::c_char;

use denoir::{Loading, Options, TextEncoder};

use crate::context::{denoir_context, guard};
use crate::model::denoir_model;
use crate::pointers::{Buffer, hand_out, reference, string, take_back};
use crate::status::denoir_status::DENOIR_ERROR_BUFFER;
use crate::status::{Failure, denoir_status};

/// A text encoder. Free it before drawing, so that the two models need not fit in memory together.
#[derive(Debug)]
pub struct denoir_text_encoder(TextEncoder);

/// Reads a text encoder's file: Qwen3 as published for llama.cpp, or as written by `denoir convert`. All of it stays in
/// memory until the encoder is freed; `denoir_text_encoder_map` needs less. On failure `*encoder` is NULL.
///
/// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_text_encoder_open(
    context: *mut denoir_context,
    path: *const c_char,
    encoder: *mut *mut denoir_text_encoder,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |_| hand_out(encoder, || Ok(denoir_text_encoder(TextEncoder::open(string(path, "the path")?)?))))
    }
}

/// Opens a text encoder's file by mapping it into memory: only what is needed at a time is there.
///
/// DANGER: the file must not change until the encoder is freed, as for `denoir_model_map`. On failure `*encoder` is NULL.
///
/// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_text_encoder_map(
    context: *mut denoir_context,
    path: *const c_char,
    encoder: *mut *mut denoir_text_encoder,
) -> denoir_status {
    let open = || {
        // SAFETY: the caller's promise.
        let path = unsafe { string(path, "the path")? };
        Ok(denoir_text_encoder(TextEncoder::load(path, Loading::Map)?))
    };
    // SAFETY: the caller's promise.
    unsafe { guard(context, |_| hand_out(encoder, open)) }
}

/// Encodes a prompt and a negative prompt (NULL: the empty prompt) for a model. Each embedding has `count` values, the
/// model's `text_tokens` times `text_width`. `threads` may be 0 for as many as the machine supports.
///
/// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_BUFFER` or `DENOIR_ERROR_MEMORY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_text_encoder_encode(
    context: *mut denoir_context,
    encoder: *const denoir_text_encoder,
    model: *const denoir_model,
    prompt: *const c_char,
    negative_prompt: *const c_char,
    threads: u32,
    prompt_embeds: *mut f32,
    negative_prompt_embeds: *mut f32,
    count: usize,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |_| {
            let encoder = &reference(encoder, "the text encoder")?.0;
            let size = reference(model, "the model")?.0.network().text_size();
            let size = size.ok_or_else(|| Failure::argument("this model draws classes, not prompts"))?;
            if count < size.0 * size.1 {
                let message = format!("the buffers have {count} values, embeddings take {}", size.0 * size.1);
                return Err(Failure::new(DENOIR_ERROR_BUFFER, message));
            }
            let prompt = string(prompt, "the prompt")?;
            let negative = if negative_prompt.is_null() { "" } else { string(negative_prompt, "the negative prompt")? };
            let mut out = Buffer::new(prompt_embeds, count, "prompt_embeds")?;
            let mut negative_out = Buffer::new(negative_prompt_embeds, count, "negative_prompt_embeds")?;
            let options = Options { threads: (threads > 0).then_some(threads as usize), ..Options::default() };
            let embeds = encoder.encode_prompt(prompt, negative, size, &options)?;
            out.part(0, embeds.prompt.len()).copy_from_slice(&embeds.prompt);
            negative_out.part(0, embeds.negative.len()).copy_from_slice(&embeds.negative);
            Ok(())
        })
    }
}

/// Frees a text encoder; NULL does nothing. No call may use the encoder at the same time or afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_text_encoder_free(encoder: *mut denoir_text_encoder) {
    // SAFETY: the caller's promise.
    unsafe { take_back(encoder) }
}
