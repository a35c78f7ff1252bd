//! Upstream's sampler settings, and the name of a model, by family and size.

use denoir_core::gguf::keys;
use denoir_core::sampler::{Method, Settings, SettingsError};

use crate::arch::NetworkSpec;
use crate::config::{Config, Family};
use crate::tensor::Hints;

/// Sampler settings of a model file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Preset {
    pub(crate) method: &'static str,
    pub(crate) steps: u32,
    pub(crate) cfg_scale: f32,
    pub(crate) guidance: (f32, f32),
    pub(crate) flow_shift: f32,
    pub(crate) noise_scale: f32,
    pub(crate) order: u32,
    pub(crate) rounding: &'static str,
}

impl Preset {
    /// Upstream's settings for this network, overridden by the checkpoint, then by the configuration.
    pub(crate) fn of(network: &NetworkSpec, family: Family, hints: Hints, config: &Config) -> Self {
        let mut preset = Self::upstream(network, family);
        if let Some(scale) = hints.noise_scale {
            preset.noise_scale = scale;
        }
        let said = &config.sampler;
        preset.method = said.method.unwrap_or(preset.method);
        preset.steps = said.steps.unwrap_or(preset.steps);
        preset.cfg_scale = said.cfg_scale.unwrap_or(preset.cfg_scale);
        preset.guidance = said.guidance_interval.unwrap_or(preset.guidance);
        preset.flow_shift = said.flow_shift.unwrap_or(preset.flow_shift);
        preset.noise_scale = said.noise_scale.unwrap_or(preset.noise_scale);
        preset.order = said.order.unwrap_or(preset.order);
        preset.rounding = config.rounding.unwrap_or(preset.rounding);
        // heun-jit has no shift, so upstream's does not follow the configuration there.
        if preset.method == Method::HeunJit.name() && said.flow_shift.is_none() {
            preset.flow_shift = 1.0;
        }
        preset
    }

    /// Refuses settings with which the engine would not open the file.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let settings = Settings {
            method: Method::from_name(self.method).ok_or(SettingsError::Method)?,
            steps: self.steps,
            cfg_scale: self.cfg_scale.into(),
            guidance_interval: (self.guidance.0.into(), self.guidance.1.into()),
            flow_shift: self.flow_shift.into(),
            noise_scale: self.noise_scale.into(),
            order: self.order,
        };
        settings.check()
    }

    fn upstream(network: &NetworkSpec, family: Family) -> Self {
        let pixelgen = Preset {
            method: "heun",
            steps: 50,
            cfg_scale: 2.25,
            guidance: (0.1, 0.9),
            flow_shift: 2.0,
            noise_scale: 1.0,
            order: 2,
            rounding: "pixelgen",
        };
        match (network.architecture, family) {
            (keys::ARCH_T2I, _) => {
                Preset { method: "adams", steps: 25, cfg_scale: 4.0, guidance: (0.0, 1.0), flow_shift: 3.0, ..pixelgen }
            }
            // PixelGen-L has the bottleneck, PixelGen-XL has not.
            (_, Family::PixelGen) if network.bottleneck => {
                Preset { method: "euler", cfg_scale: 1.0, guidance: (0.1, 1.0), flow_shift: 1.0, ..pixelgen }
            }
            (_, Family::PixelGen) => pixelgen,
            (_, Family::Jit) => Preset {
                method: "heun-jit",
                cfg_scale: jit_cfg_scale(network.depth, network.input_size),
                guidance: (0.1, 1.0),
                flow_shift: 1.0,
                noise_scale: jit_noise_scale(network.input_size),
                rounding: "jit",
                ..pixelgen
            },
        }
    }
}

/// 3.0, 2.4, 2.2 for B, L, H at 256 pixels; 3.0, 2.5, 2.3 at 512. A depth between two sizes uses the smaller one's.
fn jit_cfg_scale(depth: u64, input_size: u64) -> f32 {
    match (depth, input_size >= 512) {
        (0..24, _) => 3.0,
        (24..32, false) => 2.4,
        (24..32, true) => 2.5,
        (_, false) => 2.2,
        (_, true) => 2.3,
    }
}

/// 1, 2, 4 at 256, 512, 1024 pixels: the noise per pixel grows with the side of the image.
fn jit_noise_scale(input_size: u64) -> f32 {
    (input_size as f32 / 256.0).max(1.0)
}

/// A name such as `PixelGen-XL/16 256x256`; for an unpublished size, its blocks and width.
pub(crate) fn name(network: &NetworkSpec, family: Family) -> String {
    let size = match (network.depth, network.hidden) {
        (12, 768) => "B".into(),
        (24, 1024) => "L".into(),
        (32, 1280) => "H".into(),
        (28, 1152) => "XL".into(),
        (16, 1536) if network.architecture == keys::ARCH_T2I => "XXL".into(),
        (depth, hidden) => format!("{depth}x{hidden}"),
    };
    let family = match family {
        Family::Jit => "JiT",
        Family::PixelGen => "PixelGen",
    };
    format!("{family}-{size}/{} {side}x{side}", network.patch_size, side = network.input_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(depth: u64, hidden: u64, input_size: u64, bottleneck: bool) -> NetworkSpec {
        let (sizes, specs) = (Vec::new(), Vec::new());
        NetworkSpec {
            architecture: keys::ARCH_JIT,
            sizes,
            specs,
            depth,
            hidden,
            input_size,
            patch_size: input_size / 16,
            classes: 1000,
            bottleneck,
        }
    }

    #[test]
    fn published_models_get_the_settings_of_their_papers() {
        let of = |n: &NetworkSpec, family| Preset::of(n, family, Hints::default(), &Config::default());
        for (depth, hidden, size, cfg, noise) in
            [(12, 768, 256, 3.0, 1.0), (24, 1024, 256, 2.4, 1.0), (32, 1280, 512, 2.3, 2.0), (24, 1024, 1024, 2.5, 4.0)]
        {
            let preset = of(&network(depth, hidden, size, true), Family::Jit);
            assert_eq!((preset.method, preset.steps, preset.flow_shift), ("heun-jit", 50, 1.0));
            assert_eq!((preset.cfg_scale, preset.noise_scale, preset.guidance), (cfg, noise, (0.1, 1.0)));
            assert_eq!(preset.rounding, "jit");
        }
        let xl = of(&network(28, 1152, 256, false), Family::PixelGen);
        assert_eq!((xl.method, xl.cfg_scale, xl.flow_shift, xl.guidance), ("heun", 2.25, 2.0, (0.1, 0.9)));
        let large = of(&network(24, 1024, 256, true), Family::PixelGen);
        assert_eq!((large.method, large.cfg_scale, large.flow_shift), ("euler", 1.0, 1.0));
        assert_eq!(name(&network(28, 1152, 256, false), Family::PixelGen), "PixelGen-XL/16 256x256");
    }

    #[test]
    fn the_configuration_wins_over_the_checkpoint_and_it_over_the_preset() {
        let hints = Hints { noise_scale: Some(2.0) };
        let mut config = Config::default();
        let jit = network(12, 768, 256, true);
        assert_eq!(Preset::of(&jit, Family::Jit, hints, &config).noise_scale, 2.0);
        config.sampler.noise_scale = Some(3.0);
        assert_eq!(Preset::of(&jit, Family::Jit, hints, &config).noise_scale, 3.0);
    }
}
