//! `text`: compares prompts' tokens and every layer of the text encoder.

use std::collections::HashMap;

use denoir::core::backend::Tap;
use denoir::core::qwen3::prompt_embeds;
use denoir::core::{DType, View};

use crate::check::{Check, Verdict};
use crate::error::Error;
use crate::fixture::{Fixture, floats};
use crate::models::Models;

/// If an f32 error crosses the midpoint between two bfloat16 values, the result is off by a whole step of 2^-8.
const ROUNDED: f64 = 1e-3;

pub(crate) fn verify(fixture: &Fixture, models: &mut Models) -> Result<Verdict, Error> {
    let limit = models.forward_limit(fixture)?;
    let encoder = models.text_encoder(fixture)?;
    let mut checks = Vec::new();
    for i in 0.. {
        let Ok(prompt) = fixture.parameter(&format!("{i}.prompt")) else { break };
        let want = |name: &str| Ok::<_, Error>(fixture.typed(&format!("{i}.{name}"), DType::F32)?.f32());
        let integers = |name: &str| Ok::<_, Error>(fixture.typed(&format!("{i}.{name}"), DType::U32)?.u32());
        let tokens = encoder.tokenizer().encode(prompt);
        checks.push(Check::equal(format!("{i}.tokens"), &tokens, &integers("tokens")?));
        let length = integers("ids")?.len();
        let mut taps = HashMap::new();
        let mut tap = |name: Tap, _: &View, bytes: &[u8]| {
            taps.insert(name.to_string(), floats(bytes));
        };
        let hidden = encoder.encode_with(&[prompt], length, &models.options, Some(&mut tap))?;
        for name in fixture.parameter("taps")?.split(',') {
            let got = taps.get(name).ok_or_else(|| fixture.error(&format!("the engine has no tensor {name:?}")))?;
            checks.push(Check::relative(format!("{i}.{name}"), got, &want(name)?, limit));
        }
        let want = want("prompt_embeds")?;
        let mut embeds = vec![0.0; want.len()];
        prompt_embeds(&hidden.values, hidden.width, &mut embeds, want.len() / length);
        checks.push(Check::relative(format!("{i}.prompt_embeds"), &embeds, &want, limit.max(ROUNDED)));
    }
    Ok(Verdict::Checked(checks))
}
