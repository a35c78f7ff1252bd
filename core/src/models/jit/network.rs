use heapless::Vec;

use super::{JitModel, JitPlan, forward, modulation};
use crate::backend::{Backend, OpError, Recorder};
use crate::models::network::{Branches, ConditionError, Network};
use crate::models::plan::{MAX_BATCH, PlanError};
use crate::ops::MAX_HEAD_DIM;
use crate::tensor::Precision;

/// Labels of a pass, with the null class for the second branch.
type PassLabels = Vec<u32, { 2 * MAX_BATCH }>;

/// The labels of a job.
#[derive(Clone, Debug)]
pub struct Session {
    /// Label of each image of a pass over both branches.
    labels: PassLabels,
    /// The variants of the modulation table: at most one per image, and the null class.
    distinct: Vec<u32, { MAX_BATCH + 1 }>,
}

impl Session {
    /// `labels` has at most [`MAX_BATCH`] entries.
    fn new(labels: &[u32], null: u32, both: bool) -> Session {
        let mut session = Session { labels: labels.iter().copied().collect(), distinct: Vec::new() };
        session.labels.extend(labels.iter().map(|_| null));
        let null = both.then_some(null);
        for label in labels.iter().copied().chain(null) {
            if !session.distinct.contains(&label) {
                // There is room for every image's label and the null class.
                let _ = session.distinct.push(label);
            }
        }
        session
    }
}

impl Network for JitModel {
    type Plan = JitPlan;
    /// One class per image.
    type Condition<'c> = &'c [u32];
    type Session = Session;

    const MAX_PERIOD: f64 = 10_000.0;

    fn pixels(&self) -> usize {
        self.config.pixels()
    }

    fn plan(&self, batch: usize, precision: Precision) -> Result<JitPlan, PlanError> {
        JitPlan::new(self, batch, precision)
    }

    fn images(labels: &[u32]) -> usize {
        labels.len()
    }

    /// The first half of a head's pairs is rotated by the patch's row, the second by its column.
    fn write_constants<B: Backend>(&self, plan: &JitPlan, backend: &mut B) -> Result<(), OpError<B::Error>> {
        let (grid, head_dim) = (self.config.grid(), self.config.head_dim());
        let half = head_dim / 2;
        for token in 0..self.config.image_tokens() {
            let mut waves = [0f32; MAX_HEAD_DIM];
            for (pair, wave) in waves[..head_dim].chunks_exact_mut(2).enumerate() {
                let place = if 2 * pair < half { token / grid } else { token % grid };
                let exponent = (2 * pair % half) as f64 / half as f64;
                let angle = place as f64 / libm::pow(10_000.0, exponent);
                wave.copy_from_slice(&[libm::cos(angle) as f32, libm::sin(angle) as f32]);
            }
            backend.write(&plan.rope.rows_from(token, 1), bytemuck::cast_slice(&waves[..head_dim]))?;
        }
        Ok(())
    }

    fn check(&self, labels: &[u32], branches: Branches) -> Result<(), ConditionError> {
        let classes = self.config.classes + usize::from(branches == Branches::Either);
        match labels.iter().find(|&&label| label as usize >= classes) {
            Some(&label) => Err(ConditionError::Label { label, classes }),
            None => Ok(()),
        }
    }

    fn begin<B: Backend>(
        &self,
        plan: &JitPlan,
        backend: &mut B,
        labels: &[u32],
        branches: Branches,
    ) -> Result<Session, OpError<B::Error>> {
        let session = Session::new(labels, self.config.null_label() as u32, branches == Branches::Both);
        let mut write = |view: &crate::View, labels: &[u32]| {
            backend.write(&view.cols_from(0, labels.len()), bytemuck::cast_slice(labels))
        };
        write(&plan.labels, &session.labels)?;
        write(&plan.chunk_labels, &session.distinct)?;
        Ok(session)
    }

    fn variants(session: &Session) -> usize {
        session.distinct.len()
    }

    fn variant(session: &Session, image: usize) -> usize {
        let label = session.labels.get(image);
        session.distinct.iter().position(|l| Some(l) == label).unwrap_or(0)
    }

    fn modulate<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        plan: &JitPlan,
        times: usize,
        variants: usize,
    ) -> Result<(), OpError<B::Error>> {
        modulation(k, self, plan, times, variants)
    }

    fn forward<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        plan: &JitPlan,
        images: usize,
    ) -> Result<(), OpError<B::Error>> {
        forward(k, self, plan, images)
    }
}
