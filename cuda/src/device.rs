//! The driver, its devices, and a context on one of them.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};

use crate::Error;
use crate::calls::{Calls, Make};

/// The CUDA version that the kernels' format needs: any 12.x.
const DRIVER: c_int = 12000;
/// Functions for which cudarc would panic if the driver lacked them.
const FUNCTIONS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetDevice",
    "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuStreamCreate",
    "cuStreamGetCtx",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuLaunchKernelEx",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
    "cuEventCreate",
    "cuEventRecordWithFlags",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuEventDestroy_v2",
    "cuProfilerStart",
    "cuProfilerStop",
];

/// A device, which may be too old to run denoir.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// The device's number for [`Options::device`](crate::Options::device).
    pub index: usize,
    /// The driver's name for the device.
    pub name: String,
    /// Compute capability.
    pub compute: (u32, u32),
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Multiprocessors.
    pub multiprocessors: usize,
    /// Maximum bytes of shared memory per block.
    pub shared_bytes: usize,
    /// Bytes of shared memory of a multiprocessor, for all of its blocks.
    pub multiprocessor_shared_bytes: usize,
    /// Bytes of the second-level cache.
    pub l2_bytes: usize,
    /// Whether the processor and the device share one memory.
    pub unified: bool,
}

impl DeviceInfo {
    /// Whether the device multiplies int8 much more slowly than 16-bit numbers: Blackwell Ultra (10.3), at 0.15 of 2.25
    /// thousand TOPS by NVIDIA's technical brief of the architecture.
    pub fn multiplies_int8_slowly(&self) -> bool {
        self.compute == (10, 3)
    }
}

/// Lists the devices of this machine.
///
/// # Errors
/// [`Error::NoDriver`] without CUDA, or an error of the driver.
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    match Driver::open(Calls::default()) {
        Err(Error::NoDevice) => Ok(Vec::new()),
        driver => {
            let driver = driver?;
            (0..driver.count()?).map(|index| driver.info(index)).collect()
        }
    }
}

/// Loads the driver, checks its version and initialises it.
pub(crate) struct Driver {
    calls: Calls,
    /// The CUDA version that it supports, as 1000 · major + 10 · minor.
    version: c_int,
}

impl Driver {
    pub(crate) fn open(calls: Calls) -> Result<Driver, Error> {
        // SAFETY: loading a driver runs its initialisers, which every program that uses CUDA lets it do.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::NoDriver);
        }
        // SAFETY: the library is there, so this does not panic; its initialisers have run.
        let library = unsafe { sys::culib() };
        for &name in FUNCTIONS {
            // SAFETY: the symbol is only looked for.
            if unsafe { library.get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_err() {
                return Err(Error::DriverTooOld { found: "less".into(), needed: name });
            }
        }
        // SAFETY: no preconditions.
        calls.make("cuInit", || unsafe { sys::cuInit(0) })?;
        let mut version = 0;
        // SAFETY: the pointer is to a local.
        calls.make("cuDriverGetVersion", || unsafe { sys::cuDriverGetVersion(&mut version) })?;
        if version < DRIVER {
            let found = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
            return Err(Error::DriverTooOld { found, needed: "CUDA 12.0 (on a Jetson, JetPack 6)" });
        }
        Ok(Driver { calls, version })
    }

    pub(crate) fn count(&self) -> Result<usize, Error> {
        let mut count = 0;
        // SAFETY: the driver is initialised; the pointer is to a local, here and below.
        self.calls.make("cuDeviceGetCount", || unsafe { sys::cuDeviceGetCount(&mut count) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn device(&self, index: usize) -> Result<sys::CUdevice, Error> {
        let (mut device, ordinal) = (0, c_int::try_from(index).unwrap_or(c_int::MAX));
        // SAFETY: the driver is initialised; the pointer is to a local.
        self.calls.make("cuDeviceGet", || unsafe { sys::cuDeviceGet(&mut device, ordinal) })?;
        Ok(device)
    }

    pub(crate) fn info(&self, index: usize) -> Result<DeviceInfo, Error> {
        let device = self.device(index)?;
        let attribute = |attribute| {
            let mut value = 0;
            // SAFETY: the driver is initialised; the pointer is to a local.
            let call = || unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, device) };
            self.calls.make("cuDeviceGetAttribute", call)?;
            Ok(u32::try_from(value).unwrap_or(0))
        };
        let (mut name, mut memory_bytes): ([c_char; 256], usize) = ([0; 256], 0);
        // SAFETY: the driver is initialised; the buffer is one byte longer than the length.
        self.calls.make("cuDeviceGetName", || unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), 255, device) })?;
        // SAFETY: the driver is initialised; the pointer is to a local.
        self.calls.make("cuDeviceTotalMem", || unsafe { sys::cuDeviceTotalMem_v2(&mut memory_bytes, device) })?;
        let name = CStr::from_bytes_until_nul(bytemuck::cast_slice(&name)).unwrap_or_default();
        Ok(DeviceInfo {
            index,
            name: name.to_string_lossy().into_owned(),
            compute: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            memory_bytes: memory_bytes as u64,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
            shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
            multiprocessor_shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?
                as usize,
            l2_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
            unified: attribute(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0,
        })
    }

    /// The primary context of a device, the first by default: the rest of the process uses it too, and its memory.
    pub(crate) fn context(self, index: Option<usize>) -> Result<Arc<Context>, Error> {
        let info = self.usable(index.unwrap_or(0))?;
        let (device, mut raw) = (self.device(info.index)?, std::ptr::null_mut());
        // SAFETY: the device is the driver's; the pointer is to a local.
        let retain = || unsafe { sys::cuDevicePrimaryCtxRetain(&mut raw, device) };
        self.calls.make("cuDevicePrimaryCtxRetain", retain)?;
        Ok(self.context_of(raw, Some(device), info, None))
    }

    /// The context of a stream that the program made; `index` is the number that its device must have, if any.
    ///
    /// # Safety
    /// The stream outlives the context.
    pub(crate) unsafe fn context_of_stream(
        self,
        stream: sys::CUstream,
        index: Option<usize>,
    ) -> Result<Arc<Context>, Error> {
        let (mut raw, mut device) = (std::ptr::null_mut(), 0);
        // SAFETY: the stream is alive; the pointer is to a local, here and below.
        self.calls.make("cuStreamGetCtx", || unsafe { sys::cuStreamGetCtx(stream, &mut raw) })?;
        {
            let _entered = Entered::new(&self.calls, raw)?;
            // SAFETY: a context is current.
            self.calls.make("cuCtxGetDevice", || unsafe { sys::cuCtxGetDevice(&mut device) })?;
        }
        let mut found = None;
        for index in 0..self.count()? {
            found = found.or((self.device(index)? == device).then_some(index));
        }
        let stream_of = found.ok_or(Error::NoDevice)?;
        if let Some(asked) = index.filter(|asked| *asked != stream_of) {
            return Err(Error::StreamOfOtherDevice { asked, stream_of });
        }
        let info = self.usable(stream_of)?;
        Ok(self.context_of(raw, None, info, Some(stream)))
    }

    /// A device that runs the kernels.
    fn usable(&self, index: usize) -> Result<DeviceInfo, Error> {
        let count = self.count()?;
        if count == 0 {
            return Err(Error::NoDevice);
        }
        if index >= count {
            return Err(Error::NoSuchDevice { index, count });
        }
        let info = self.info(index)?;
        if info.compute < (8, 0) {
            return Err(Error::ComputeCapability { device: info.name, found: info.compute });
        }
        Ok(info)
    }

    fn context_of(
        self,
        raw: sys::CUcontext,
        retained: Option<sys::CUdevice>,
        info: DeviceInfo,
        stream: Option<sys::CUstream>,
    ) -> Arc<Context> {
        let Driver { calls, version: driver } = self;
        Arc::new(Context { raw, retained, stream, info, driver, calls, allocated: AtomicU64::new(0) })
    }
}

/// A context, shared with the rest of the process. Everything created in it keeps it alive.
pub(crate) struct Context {
    raw: sys::CUcontext,
    /// The device whose primary context it is, which this holds.
    retained: Option<sys::CUdevice>,
    /// The program's stream, which all work goes to.
    pub(crate) stream: Option<sys::CUstream>,
    pub(crate) info: DeviceInfo,
    /// The CUDA version that the driver supports, as 1000 · major + 10 · minor.
    pub(crate) driver: c_int,
    pub(crate) calls: Calls,
    /// Bytes of the device's memory in use.
    pub(crate) allocated: AtomicU64,
}

// SAFETY: the driver allows a context on any thread, and on several at once.
unsafe impl Send for Context {}
// SAFETY: the driver allows a context on several threads at once.
unsafe impl Sync for Context {}

impl Context {
    /// Makes the context current on this thread, as most calls require, until the result is dropped.
    pub(crate) fn enter(&self) -> Result<Entered, Error> {
        Entered::new(&self.calls, self.raw)
    }

    /// The same for destructors, which cannot report errors.
    pub(crate) fn enter_to_drop(&self) -> Option<Entered> {
        // SAFETY: the context is alive.
        (unsafe { sys::cuCtxPushCurrent_v2(self.raw) } == sys::CUresult::CUDA_SUCCESS).then_some(Entered)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Some(device) = self.retained {
            // SAFETY: everything made in the context holds it alive, so all of it is gone. What a crashed one says has
            // no listener.
            let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(device) };
        }
    }
}

/// A context is current.
pub(crate) struct Entered;

impl Entered {
    /// The context is alive.
    fn new(calls: &Calls, context: sys::CUcontext) -> Result<Entered, Error> {
        // SAFETY: the context is alive.
        calls.make("cuCtxPushCurrent", || unsafe { sys::cuCtxPushCurrent_v2(context) })?;
        Ok(Entered)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut context = std::ptr::null_mut();
        // SAFETY: the pointer is to a local.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut context) };
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({})", self.info.name)
    }
}
