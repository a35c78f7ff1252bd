//! The launches of a network, as the CUDA backend plans them.

use std::collections::HashMap;
use std::ops::ControlFlow;

use anyhow::anyhow;
use denoir::{AlignedBytes, AnyNetwork, Model, Rng, Settings};
use denoir_convert::random::{RandomModel, Shape};
use denoir_core::backend::{Backend, Program};
use denoir_core::network::{Network, Plan};
use denoir_core::ops::Bounds;
use denoir_core::t2i::PromptEmbeds;
use denoir_core::{DType, Denoiser, Job};
use denoir_cuda::{DeviceInfo, PlannedProgram, Planner};

/// Programs with their launches.
pub(crate) type Programs = HashMap<Program, PlannedProgram>;

/// A network whose weights are all zero.
pub(crate) struct Planned {
    model: Model,
    info: DeviceInfo,
}

impl Planned {
    /// The network for a device.
    pub(crate) fn new(shape: Shape, dtype: DType, info: DeviceInfo) -> anyhow::Result<Planned> {
        let random = RandomModel::new(shape, dtype)?;
        let header = random.header();
        let mut bytes = AlignedBytes::zeroed(usize::try_from(random.len_bytes())?)?;
        bytes.as_mut_slice()[..header.len()].copy_from_slice(&header);
        Ok(Planned { model: Model::from_bytes(bytes)?, info })
    }

    /// The programs of one evaluation of so many images.
    pub(crate) fn evaluation(&self, batch: usize) -> anyhow::Result<Programs> {
        match self.model.network() {
            AnyNetwork::Jit(network) => self.predict(&**network, &vec![0; batch][..], batch),
            AnyNetwork::T2i(network) => {
                let text = vec![0.0; network.config.text_length * network.config.text_width];
                self.predict(&**network, PromptEmbeds { prompt: &text, negative: &text, images: batch }, batch)
            }
        }
    }

    /// The programs of a picture by the model's preset, with how often each runs.
    pub(crate) fn picture(&self) -> anyhow::Result<(Settings, Programs)> {
        let settings = *self.model.preset();
        let programs = match self.model.network() {
            AnyNetwork::Jit(network) => self.generate(&**network, &[0][..], &settings),
            AnyNetwork::T2i(network) => {
                let text = vec![0.0; network.config.text_length * network.config.text_width];
                self.generate(&**network, PromptEmbeds { prompt: &text, negative: &text, images: 1 }, &settings)
            }
        };
        Ok((settings, programs?))
    }

    /// Blocks of the network.
    pub(crate) fn depth(&self) -> usize {
        match self.model.network() {
            AnyNetwork::Jit(network) => network.config.depth,
            AnyNetwork::T2i(network) => network.config.depth,
        }
    }

    /// Bytes of the model file.
    pub(crate) fn file_bytes(&self) -> usize {
        self.model.bytes().len()
    }

    fn predict<N: Network>(&self, network: &N, of: N::Condition<'_>, batch: usize) -> anyhow::Result<Programs> {
        let mut denoiser = self.denoiser(network, batch)?;
        let x = vec![0.0; batch * network.pixels()];
        let mut prepared = denoiser.prepare(0.5, of).map_err(|e| anyhow!("{e}"))?;
        prepared.predict(&x, &mut x.clone()).map_err(|e| anyhow!("{e}"))?;
        Ok(denoiser.backend_mut().programs().clone())
    }

    fn generate<N: Network>(&self, network: &N, of: N::Condition<'_>, settings: &Settings) -> anyhow::Result<Programs> {
        let mut denoiser = self.denoiser(network, 1)?;
        let job = Job { settings, condition: of, seeds: &[0], rng: Rng::Philox };
        let mut image = vec![0.0; network.pixels()];
        let done = denoiser.generate(&job, &mut image, &mut |_| ControlFlow::Continue(()));
        done.map_err(|e| anyhow!("{e}"))?;
        Ok(denoiser.backend_mut().programs().clone())
    }

    fn denoiser<'n, N: Network>(&self, network: &'n N, batch: usize) -> anyhow::Result<Denoiser<'n, Planner, N>> {
        let none = Bounds { weights: 0, arena: 0 };
        let precision = Planner::new(self.info.clone(), None, none).precision();
        let plan = network.plan(batch, precision)?;
        let bounds = Bounds { weights: self.file_bytes(), arena: plan.arena_bytes() };
        Denoiser::new(network, plan, Planner::new(self.info.clone(), None, bounds)).map_err(|e| anyhow!("{e}"))
    }
}
