//! CUDA devices for tests: the machine's own or, without a driver, an emulated one: the kernels compiled for the CPU
//! behind the driver's functions (`cuda/emulator`). `DENOIR_CUDA=emulated` always chooses the emulator.

use std::sync::LazyLock;

use anyhow::{Result, ensure};
use cudarc::driver::sys;
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

/// A program that uses CUDA itself: it has a stream in the device's primary context, and memory.
#[derive(Debug)]
pub struct Program {
    /// Its stream.
    pub stream: sys::CUstream,
    /// Its memory's address on the device.
    pub at: u64,
    bytes: usize,
}

impl Program {
    /// A program with so many bytes on the first device.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(bytes: usize) -> Result<Program> {
        LazyLock::force(&EMULATED);
        let (mut context, mut program) = (std::ptr::null_mut(), Program { stream: std::ptr::null_mut(), at: 0, bytes });
        // SAFETY: the pointers are to locals; the context that is current stays so for this thread's life.
        unsafe {
            done(sys::cuInit(0))?;
            done(sys::cuDevicePrimaryCtxRetain(&mut context, 0))?;
            done(sys::cuCtxPushCurrent_v2(context))?;
            done(sys::cuStreamCreate(&mut program.stream, 0))?;
            done(sys::cuMemAlloc_v2(&mut program.at, bytes))?;
        }
        Ok(program)
    }

    /// Fills the memory with a byte, in the stream's order; returns at once.
    ///
    /// # Errors
    /// What the driver says.
    pub fn fill(&self, byte: u8) -> Result<()> {
        // SAFETY: the memory is the program's.
        done(unsafe { sys::cuMemsetD8Async(self.at, byte, self.bytes, self.stream) })
    }

    /// Waits for the stream.
    ///
    /// # Errors
    /// What the driver says.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the stream is the program's.
        done(unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// What is in the memory, without waiting for anything.
    ///
    /// # Errors
    /// What the driver says.
    pub fn memory(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        // SAFETY: both have so many bytes.
        done(unsafe { sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), self.at, bytes.len()) })?;
        Ok(bytes)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let mut context = std::ptr::null_mut();
        // SAFETY: nothing uses them any more.
        unsafe {
            let _ = sys::cuMemFree_v2(self.at);
            let _ = sys::cuStreamDestroy_v2(self.stream);
            let _ = sys::cuCtxPopCurrent_v2(&mut context);
            let _ = sys::cuDevicePrimaryCtxRelease_v2(0);
        }
    }
}

fn done(result: sys::CUresult) -> Result<()> {
    ensure!(result == sys::CUresult::CUDA_SUCCESS, "{result:?}");
    Ok(())
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

/// Sets the compute capability of the emulated device, times ten: 87, as Orin, to begin with.
pub fn capability(tenfold: u64) {
    let Some(library) = EMULATED.as_ref() else { return };
    // SAFETY: the emulator's function takes 64 bits.
    if let Ok(capability) = unsafe { library.get::<unsafe extern "C" fn(u64)>(b"emulator_capability") } {
        // SAFETY: the emulator's function takes 64 bits.
        unsafe { capability(tenfold) };
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
