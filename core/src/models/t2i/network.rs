use heapless::Vec;

use super::kept::{self, KeptText};
use super::plan::TEXTS;
use super::{T2iModel, T2iPlan, forward, modulation, refine, text_keys};
use crate::View;
use crate::backend::{Backend, OpError, Program, Recorder, run};
use crate::models::network::{At, Branches, ConditionError, Network};
use crate::models::plan::MAX_BATCH;
use crate::ops::MAX_HEAD_DIM;

/// What the images of a batch show: one text for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'c> {
    /// `(text length, text width)`: the prompt's embedding, padding included.
    pub prompt: &'c [f32],
    /// `(text length, text width)`: the negative prompt's; read where any evaluation is guided.
    pub negative: &'c [f32],
    /// Number of images.
    pub images: usize,
}

impl<'c> Texts<'c> {
    /// The texts that are read for these branches.
    fn read(self, branches: Branches) -> impl Iterator<Item = &'c [f32]> {
        let negative = (branches == Branches::Both).then_some(self.negative);
        core::iter::once(self.prompt).chain(negative)
    }
}

/// Nothing: the texts are on the device.
#[derive(Clone, Copy, Debug)]
pub struct Session(());

impl Network for T2iModel {
    type Plan = T2iPlan;
    type Condition<'c> = Texts<'c>;
    type Session = Session;

    const MAX_PERIOD: f64 = 10.0;

    fn pixels(&self) -> usize {
        self.config.pixels()
    }

    fn images(texts: Texts<'_>) -> usize {
        texts.images
    }

    /// x and y alternate from pair to pair; the positions run from 0 to the grid's side, both included, and so are no
    /// whole numbers.
    fn write_constants<B: Backend>(&self, plan: &T2iPlan, backend: &mut B) -> Result<(), OpError<B::Error>> {
        let (grid, head_dim) = (self.config.grid(), self.config.head_dim());
        let step = grid as f64 / (grid.max(2) - 1) as f64;
        for token in 0..self.config.image_tokens() {
            let mut waves = [0f32; MAX_HEAD_DIM];
            for (pair, wave) in waves[..head_dim].chunks_exact_mut(2).enumerate() {
                let place = if pair % 2 == 0 { token % grid } else { token / grid };
                let exponent = (pair / 2 * 4) as f64 / head_dim as f64;
                let angle = place as f64 * step / libm::pow(10_000.0, exponent);
                wave.copy_from_slice(&[libm::cos(angle) as f32, libm::sin(angle) as f32]);
            }
            backend.write(&plan.rope.rows_from(token, 1), bytemuck::cast_slice(&waves[..head_dim]))?;
        }
        Ok(())
    }

    fn kept_words(&self, times: usize) -> usize {
        kept::words(&self.config, times)
    }

    fn check(&self, texts: Texts<'_>, branches: Branches) -> Result<(), ConditionError> {
        let (tokens, width) = (self.config.text_length, self.config.text_width);
        match texts.read(branches).find(|text| text.len() != self.config.text_values()) {
            Some(text) => Err(ConditionError::Text { len: text.len(), tokens, width }),
            None => Ok(()),
        }
    }

    fn begin<B: Backend>(
        &self,
        plan: &T2iPlan,
        backend: &mut B,
        texts: Texts<'_>,
        branches: Branches,
        kept: &mut [u32],
    ) -> Result<Session, OpError<B::Error>> {
        let tokens = self.config.text_length;
        for (i, text) in texts.read(branches).enumerate() {
            let to = plan.texts.rows_from(i * tokens, tokens);
            backend.write(&to, bytemuck::cast_slice(text))?;
            if let Some(mut kept) = KeptText::of(&self.config, kept, i) {
                kept.begin(text);
            }
        }
        let text_of_image: Vec<u32, { 2 * MAX_BATCH }> =
            (0..2 * texts.images).map(|i| (i / texts.images) as u32).collect();
        let to = plan.text_of_image.cols_from(0, text_of_image.len());
        backend.write(&to, bytemuck::cast_slice(&text_of_image))?;
        Ok(Session(()))
    }

    fn variants(_: &Session) -> usize {
        1
    }

    fn variant(_: &Session, _image: usize) -> usize {
        0
    }

    fn modulate<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        plan: &T2iPlan,
        times: usize,
        _variants: usize,
    ) -> Result<(), OpError<B::Error>> {
        modulation(k, self, plan, times)
    }

    /// The modulation rows of a pass serve its texts too: all are the time's.
    fn at_time<B: Backend>(
        &self,
        plan: &T2iPlan,
        backend: &mut B,
        at: At,
        kept: &mut [u32],
    ) -> Result<(), OpError<B::Error>> {
        let texts = texts(at);
        // They are refined together, up to the last that is not kept.
        let mut refined = texts;
        while let Some(which) = refined.checked_sub(1) {
            let Some(text) = KeptText::of(&self.config, kept, which) else { break };
            let Some(rows) = text.find(at.t) else { break };
            backend.write(&self.text_rows(plan, which), bytemuck::cast_slice(rows))?;
            refined = which;
        }
        if refined > 0 {
            run(backend, Program::replayed("refine", [refined, 0]), |k| refine(k, self, plan, refined))?;
        }
        run(backend, Program::replayed("text_keys", [texts, 0]), |k| text_keys(k, self, plan, texts))
    }

    fn keep<B: Backend>(
        &self,
        plan: &T2iPlan,
        backend: &mut B,
        at: At,
        kept: &mut [u32],
    ) -> Result<(), OpError<B::Error>> {
        for which in 0..texts(at) {
            let Some(mut text) = KeptText::of(&self.config, kept, which) else { break };
            if text.find(at.t).is_none() {
                let rows = self.text_rows(plan, which);
                let read = |to: &mut [f32]| backend.read(&rows, bytemuck::cast_slice_mut(to));
                text.keep(at.t, read)?;
            }
        }
        Ok(())
    }

    fn forward<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        plan: &T2iPlan,
        images: usize,
    ) -> Result<(), OpError<B::Error>> {
        forward(k, self, plan, images)
    }
}

/// Texts of a pass: the prompt, and the negative prompt where it is guided.
const fn texts(at: At) -> usize {
    if at.guided { TEXTS } else { 1 }
}

impl T2iModel {
    /// Where text `which` is refined: `(text length, hidden)`.
    const fn text_rows(&self, plan: &T2iPlan, which: usize) -> View {
        plan.text.rows_from(which * self.config.text_length, self.config.text_length)
    }
}
