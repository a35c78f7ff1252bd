use super::*;

#[test]
fn reads_upstream_yaml() {
    let text = "
tags:
  exp: &exp PixelGen_XL
trainer:
  logger: {class_path: x.WandbLogger, init_args: {name: *exp}}
model:
  denoiser:
    class_path: src.models.transformer.JiT.JiT
    init_args:
      input_size: 256
      hidden_size: &hidden_dim 1152
      mlp_ratio: 4.0
      num_classes: &num_classes 1000
      use_bottleneck: false
      in_context_start: 8
  conditioner:
    init_args: {num_classes: *num_classes}
  diffusion_sampler:
    class_path: src.diffusion.flow_matching.sampling.HeunSamplerJiT
    init_args:
      exact_henu: true
      num_steps: 50
      guidance: 2.25 # a comment
      timeshift: 2.0
      guidance_interval_min: 0.1
      guidance_interval_max: 0.9
  optimizer: {init_args: {lr: 1e-4}}
";
    let config = Config::parse(text.as_bytes()).unwrap();
    assert_eq!(config.size("hidden_size"), Some(1152));
    assert_eq!(config.size("in_context_start"), Some(8));
    assert_eq!((config.use_bottleneck, config.family), (Some(false), Some(Family::PixelGen)));
    assert_eq!(config.name.as_deref(), Some("PixelGen_XL"));
    let sampler = &config.sampler;
    assert_eq!((sampler.method, sampler.steps, sampler.cfg_scale), (Some("heun"), Some(50), Some(2.25)));
    assert_eq!((sampler.guidance_interval, sampler.flow_shift), (Some((0.1, 0.9)), Some(2.0)));
}

#[test]
fn reads_json_and_refuses_misspellings() {
    let text = br#"{"depth": 4, "in_context_start": 2, "family": "jit", "rounding": "pixelgen",
        "sampler": {"method": "adams", "steps": 25, "guidance_interval": [0, 1], "order": 2}}"#;
    let config = Config::parse(text).unwrap();
    assert_eq!((config.size("depth"), config.family, config.rounding), (Some(4), Some(Family::Jit), Some("pixelgen")));
    assert_eq!((config.sampler.method, config.sampler.order), (Some("adams"), Some(2)));

    let refused = |text: &str| Config::parse(text.as_bytes()).expect_err(text).to_string();
    assert_eq!(refused(r#"{"in_context_strat": 2}"#), "unknown configuration key \"in_context_strat\"");
    assert_eq!(refused(r#"{"depth": -1}"#), "configuration key \"depth\" must be a whole number");
    assert!(refused(r#"{"sampler": {"order": 5}}"#).contains("1 to 4"));
    assert!(refused(r#"{"sampler": {"guidance_interval": [0.9, 0.1]}}"#).contains("in order"));
    assert!(refused(r#"{"sampler": {"method": "dpm"}}"#).contains("heun-jit"));
    assert!(refused("- 1\n- 2\n").contains("not a mapping"));
    assert!(refused("a: [1, 2").contains("neither JSON nor YAML"));
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x]\n");
    for i in 1..20 {
        let previous = format!("*a{}", i - 1);
        text += &format!("a{i}: &a{i} [{}]\n", [previous.as_str(); 8].join(", "));
    }
    assert!(Config::parse(text.as_bytes()).unwrap_err().to_string().contains("too many values"));
}
