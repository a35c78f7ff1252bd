//! CUDA devices for tests: the machine's own or, without a driver, an emulated one: the kernels compiled for the CPU
//! behind the driver's functions (`cuda/emulator`). `DENOIR_CUDA=emulated` always chooses the emulator.

use std::sync::LazyLock;

use denoir_cuda::{Error, Gpu, Options};
use libloading::Library;

/// Folder of the built emulator; empty if it could not be built.
const EMULATOR: &str = env!("DENOIR_CUDA_EMULATOR");

/// The driver in use.
static EMULATED: LazyLock<Option<Library>> = LazyLock::new(|| {
    let how = std::env::var("DENOIR_CUDA").unwrap_or_default();
    assert!(["", "emulated"].contains(&how.as_str()), "DENOIR_CUDA is {how:?}; it can be `emulated`");
    let asked = !how.is_empty();
    if EMULATOR.is_empty() || !(asked || matches!(denoir_cuda::devices(), Err(Error::NoDriver))) {
        return None;
    }
    // SAFETY: the library's initialisers are C++'s own. It stays loaded: from now on the system finds it by the name of
    // the driver, under which it was built.
    unsafe { Library::new(EMULATOR) }.ok()
});

/// Returns whether the device is emulated.
pub fn is_emulated() -> bool {
    EMULATED.is_some()
}

/// The first device.
///
/// # Errors
/// Why there is none.
pub fn gpu() -> Result<&'static Gpu, &'static Error> {
    static OPEN: LazyLock<Result<Gpu, Error>> = LazyLock::new(|| open(&Options::default()));
    OPEN.as_ref()
}

/// Opens the first device.
///
/// # Errors
/// Why there is none.
pub fn open(options: &Options) -> Result<Gpu, Error> {
    LazyLock::force(&EMULATED);
    Gpu::open(options)
}

/// Sets the order in which the threads of a block take turns, for launches from this thread: last to first, or first to
/// last. Does nothing unless the device is emulated.
pub fn reverse(order: bool) {
    let Some(library) = EMULATED.as_ref() else { return };
    // SAFETY: the emulator's function takes 64 bits.
    if let Ok(reverse) = unsafe { library.get::<unsafe extern "C" fn(u64)>(b"emulator_reverse") } {
        // SAFETY: the emulator's function takes 64 bits.
        unsafe { reverse(order.into()) };
    }
}

/// Sets whether emulated devices that this thread opens next have memory of their own, and not the processor's as Orin.
pub fn discrete(yes: bool) {
    let Some(library) = EMULATED.as_ref() else { return };
    // SAFETY: the emulator's function takes 64 bits.
    if let Ok(discrete) = unsafe { library.get::<unsafe extern "C" fn(u64)>(b"emulator_discrete") } {
        // SAFETY: the emulator's function takes 64 bits.
        unsafe { discrete(yes.into()) };
    }
}

/// Number of live objects in the emulated driver, and peak allocated bytes since the last call.
///
/// # Panics
/// If the device is not emulated.
pub fn emulated_objects() -> (u64, u64) {
    let library = EMULATED.as_ref().expect("an emulated device");
    let ask = |name: &[u8]| {
        // SAFETY: the emulator's functions have no arguments and return 64 bits.
        unsafe { library.get::<unsafe extern "C" fn() -> u64>(name).expect("the emulator's function")() }
    };
    (ask(b"emulator_live"), ask(b"emulator_peak"))
}
