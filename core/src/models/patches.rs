//! The two ends of an image network: the patch embedding, from pixels to tokens, and the final layer, from tokens to
//! x̂.

use crate::backend::{Backend, OpError, Recorder};
use crate::models::error::ModelError;
use crate::models::params::{Dense, Tensors};
use crate::models::plan::{Bump, PlanError};
use crate::ops::{Epilogue, Patchify, PixelOrder, Unpatchify};
use crate::{View, Weight};

/// The division of an image into patches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patches {
    /// Patches per side.
    pub(crate) grid: usize,
    /// Pixels per patch side.
    pub(crate) size: usize,
}

/// The two forms of the patch embedding.
#[derive(Clone, Copy, Debug)]
pub enum PatchEmbedParams {
    /// `(bottleneck, patch values)` without bias, then `(hidden, bottleneck)` with one.
    Bottleneck(Weight, Dense),
    /// PixelGen-XL: `(hidden, patch values)` with bias.
    Direct(Dense),
}

impl PatchEmbedParams {
    /// Reads the weights for a bottleneck of this width, or without a bottleneck if it is 0.
    pub(crate) fn read(
        file: &Tensors<'_>,
        hidden: usize,
        bottleneck: usize,
        values: usize,
    ) -> Result<PatchEmbedParams, ModelError> {
        Ok(match bottleneck {
            0 => PatchEmbedParams::Direct(file.affine(format_args!("x_embedder.proj1"), hidden, values)?),
            width => PatchEmbedParams::Bottleneck(
                file.weight(format_args!("x_embedder.proj1.weight"), width, values)?,
                file.affine(format_args!("x_embedder.proj2"), hidden, width)?,
            ),
        })
    }

    pub(crate) fn matrices(&self) -> impl Iterator<Item = Weight> + Clone + use<> {
        let matrices = match self {
            PatchEmbedParams::Bottleneck(proj1, proj2) => [Some(*proj1), Some(proj2.weight)],
            PatchEmbedParams::Direct(proj1) => [Some(proj1.weight), None],
        };
        matrices.into_iter().flatten()
    }
}

/// Buffers of the patch embedding and the final layer. The first two share bytes with the other two.
#[derive(Clone, Copy, Debug)]
pub struct PatchPlan {
    /// `(image rows, patch values)` f32.
    pub patches: View,
    /// `(image rows, bottleneck)` f32; empty without a bottleneck.
    pub bottleneck: View,
    /// `(image rows, hidden)` f32: input of the final layer, which stays f32.
    pub final_z: View,
    /// `(image rows, patch values)` f32: the final layer's output.
    pub out: View,
}

impl PatchPlan {
    /// Plans these buffers, starting at byte `shared`.
    pub(crate) fn new(
        a: &mut Bump,
        shared: usize,
        rows: usize,
        values: usize,
        bottleneck: usize,
        hidden: usize,
    ) -> Result<PatchPlan, PlanError> {
        a.restart(shared);
        let patches = a.f32(rows, values)?;
        let bottleneck = a.f32(rows, bottleneck)?;
        a.restart(shared);
        let final_z = a.f32(rows, hidden)?;
        let out = a.f32(rows, values)?;
        Ok(PatchPlan { patches, bottleneck, final_z, out })
    }

    /// tokens = proj2(proj1(patches)) + pos_embed
    pub(crate) fn embed<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        params: &PatchEmbedParams,
        cut: Patches,
        image: View,
        position: View,
        tokens: View,
    ) -> Result<(), OpError<B::Error>> {
        let patches = self.patches.rows_from(0, tokens.rows);
        k.patchify(&Patchify { image, grid: cut.grid, patch: cut.size, out: patches })?;
        let position = Epilogue::AddPeriodic(position);
        match params {
            PatchEmbedParams::Bottleneck(proj1, proj2) => {
                let (proj1, out) = (Dense { weight: *proj1, bias: None }, self.bottleneck.rows_from(0, tokens.rows));
                k.linear(&proj1.of(patches, None, out, Epilogue::Store))?;
                k.linear(&proj2.of(out, None, tokens, position))?;
            }
            PatchEmbedParams::Direct(proj1) => k.linear(&proj1.of(patches, None, tokens, position))?,
        }
        k.tap("patch_embed", &tokens)
    }

    /// x̂ = unpatchify(linear(z)), from the first `rows` of `final_z`
    pub(crate) fn unembed<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        linear: &Dense,
        cut: Patches,
        order: PixelOrder,
        rows: usize,
        x_hat: View,
    ) -> Result<(), OpError<B::Error>> {
        let (z, out) = (self.final_z.rows_from(0, rows), self.out.rows_from(0, rows));
        k.linear(&linear.of(z, None, out, Epilogue::Store))?;
        k.tap("final", &out)?;
        k.unpatchify(&Unpatchify { x: out, grid: cut.grid, patch: cut.size, order, out: x_hat })?;
        k.tap("x_hat", &x_hat)
    }
}
