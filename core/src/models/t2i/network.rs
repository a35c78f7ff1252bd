use heapless::Vec;

use super::plan::TEXTS;
use super::{T2iModel, T2iPlan, forward, modulation, refine, text_keys};
use crate::backend::{Backend, OpError, Program, Recorder, run};
use crate::models::network::{Branches, ConditionError, Network};
use crate::models::plan::{MAX_BATCH, PlanError};
use crate::ops::MAX_HEAD_DIM;
use crate::tensor::Precision;

/// The condition of a batch: one prompt for all images.
#[derive(Clone, Copy, Debug)]
pub struct PromptEmbeds<'c> {
    /// `(text length, text width)`: the prompt's embedding, padding included.
    pub prompt: &'c [f32],
    /// `(text length, text width)`: the negative prompt's embedding; read if any evaluation is guided.
    pub negative: &'c [f32],
    /// Number of images.
    pub images: usize,
}

impl<'c> PromptEmbeds<'c> {
    /// The texts to read for these branches.
    fn read(self, branches: Branches) -> impl Iterator<Item = &'c [f32]> {
        let negative = (branches == Branches::Both).then_some(self.negative);
        core::iter::once(self.prompt).chain(negative)
    }
}

/// No state: the texts are on the device.
#[derive(Clone, Copy, Debug)]
pub struct Session(());

impl Network for T2iModel {
    type Plan = T2iPlan;
    type Condition<'c> = PromptEmbeds<'c>;
    type Session = Session;

    const MAX_PERIOD: f64 = 10.0;

    fn pixels(&self) -> usize {
        self.config.pixels()
    }

    fn plan(&self, batch: usize, precision: Precision) -> Result<T2iPlan, PlanError> {
        T2iPlan::new(self, batch, precision)
    }

    fn images(texts: PromptEmbeds<'_>) -> usize {
        texts.images
    }

    /// x and y alternate from pair to pair. The positions run from 0 to the grid's side, both included, and so are not
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

    fn check(&self, texts: PromptEmbeds<'_>, branches: Branches) -> Result<(), ConditionError> {
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
        texts: PromptEmbeds<'_>,
        branches: Branches,
    ) -> Result<Session, OpError<B::Error>> {
        let tokens = self.config.text_length;
        for (i, text) in texts.read(branches).enumerate() {
            let to = plan.texts.rows_from(i * tokens, tokens);
            backend.write(&to, bytemuck::cast_slice(text))?;
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

    /// Refines the texts and computes their keys and values: for the prompt, and for the negative prompt if the pass is
    /// guided. The texts use the modulation rows of the pass, because all rows depend only on the time.
    fn at_time<B: Backend>(&self, plan: &T2iPlan, backend: &mut B, guided: bool) -> Result<(), OpError<B::Error>> {
        let texts = if guided { TEXTS } else { 1 };
        run(backend, Program::replayed("refine", [texts, 0]), |k| refine(k, self, plan, texts))?;
        run(backend, Program::replayed("text_keys", [texts, 0]), |k| text_keys(k, self, plan, texts))
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
