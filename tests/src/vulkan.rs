//! Vulkan devices for tests: one for each tier and program, always with the validation layers on.

use std::sync::{LazyLock, OnceLock};

use denoir_vulkan::{Error, Gpu, Messages, Options, Tier, Validation};

static MESSAGES: LazyLock<Messages> = LazyLock::new(Messages::default);

/// The device selected by `DENOIR_VULKAN_DEVICE`, or the first, with the tiers up to this one.
///
/// # Errors
/// Why there is none.
pub fn gpu(tier: Tier) -> Result<&'static Gpu, &'static Error> {
    static OPEN: [OnceLock<Result<Gpu, Error>>; Tier::ALL.len()] = [const { OnceLock::new() }; Tier::ALL.len()];
    OPEN[tier as usize].get_or_init(|| Gpu::open(&options(Some(tier)))).as_ref()
}

/// How tests open a device: synchronisation is validated too.
pub fn options(tier: Option<Tier>) -> Options {
    let device =
        std::env::var("DENOIR_VULKAN_DEVICE").ok().map(|n| n.parse().expect("DENOIR_VULKAN_DEVICE is a number"));
    let validation = Validation::Synchronisation(MESSAGES.clone());
    Options { device, tier, validation, slow: true, ..Options::default() }
}

/// Checks that the validation layers reported no errors or warnings.
///
/// # Errors
/// Their messages.
pub fn quiet() -> Result<(), String> {
    match MESSAGES.all() {
        all if all.is_empty() => Ok(()),
        all => Err(format!("{} validation messages: {}", all.len(), all[0])),
    }
}
