//! The compiled kernels: a module for each kernel file and architecture, and PTX for later architectures.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::sys;
use miniz_oxide::inflate::decompress_to_vec;

use crate::Error;
use crate::calls::Make;
use crate::device::Context;

/// A kernel: an entry point of its stem's module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    /// Its file in `kernels/`.
    pub(crate) stem: &'static str,
    /// Its name in there.
    pub(crate) name: &'static str,
    /// Threads per block.
    pub(crate) threads: u32,
    /// Bytes of dynamic shared memory per block.
    pub(crate) shared: u32,
    /// Bytes of its argument.
    pub(crate) args: usize,
}

impl Kernel {
    /// The only kernel of a file, without dynamic shared memory.
    pub(crate) const fn of<Args>(stem: &'static str, threads: u32) -> Kernel {
        Kernel { stem, name: stem, threads, shared: 0, args: size_of::<Args>() }
    }
}

/// A kernel file's modules, compressed.
struct Compiled {
    stem: &'static str,
    /// Compute capability and module.
    cubins: [((u32, u32), &'static [u8]); 6],
    ptx: &'static [u8],
}

/// A module as `build.rs` compressed it.
macro_rules! compressed {
    ($stem:literal, $ending:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $stem, $ending, ".z"))
    };
}

macro_rules! compiled {
    ($($stem:literal)*) => {
        static COMPILED: &[Compiled] = &[$(
            Compiled {
                stem: $stem,
                cubins: [
                    ((8, 0), compressed!($stem, ".sm_80.cubin")),
                    ((8, 7), compressed!($stem, ".sm_87.cubin")),
                    ((9, 0), compressed!($stem, ".sm_90.cubin")),
                    ((10, 0), compressed!($stem, ".sm_100.cubin")),
                    ((11, 0), compressed!($stem, ".sm_110.cubin")),
                    ((12, 0), compressed!($stem, ".sm_120.cubin")),
                ],
                ptx: compressed!($stem, ".ptx"),
            },
        )*];
    };
}

compiled! {
    "attention" "causal_attention" "class_condition" "context_tokens" "dequantize_blocks" "gather_rows" "layer_norm"
    "linear" "norm_modulate" "patchify" "pixels" "qk_norm_rope" "quantize_rows" "rms_norm" "solver_step" "swiglu" "unpatchify"
}

/// The modules that a context has loaded so far.
pub(crate) struct Modules {
    loaded: HashMap<&'static str, Module>,
    functions: HashMap<&'static str, Function>,
    context: Arc<Context>,
}

struct Module {
    raw: sys::CUmodule,
    context: Arc<Context>,
}

#[derive(Clone, Copy)]
struct Function {
    raw: sys::CUfunction,
    /// The most shared memory that it may have so far, beyond what needs no asking.
    shared: u32,
}

// SAFETY: the driver allows modules on any thread.
unsafe impl Send for Module {}
// SAFETY: a handle, valid on any thread.
unsafe impl Send for Function {}

impl Modules {
    pub(crate) fn new(context: &Arc<Context>) -> Modules {
        Modules { loaded: HashMap::new(), functions: HashMap::new(), context: context.clone() }
    }

    /// Whether kernels may be launched while those before them run.
    pub(crate) fn overlap(&self) -> bool {
        overlap(self.context.info.compute, self.context.driver)
    }

    /// Returns the kernel's function, which may have as much shared memory as this launch takes. The context is current.
    pub(crate) fn function(&mut self, kernel: &Kernel) -> Result<sys::CUfunction, Error> {
        let mut function = match self.functions.get(kernel.name) {
            Some(function) => *function,
            None => Function { raw: self.find(kernel)?, shared: 0 },
        };
        if kernel.shared > function.shared {
            let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is alive.
            let set = || unsafe { sys::cuFuncSetAttribute(function.raw, most, kernel.shared as i32) };
            self.context.calls.make("cuFuncSetAttribute", set)?;
            function.shared = kernel.shared;
        }
        self.functions.insert(kernel.name, function);
        Ok(function.raw)
    }

    fn find(&mut self, kernel: &Kernel) -> Result<sys::CUfunction, Error> {
        let module = self.module(kernel.stem)?;
        let (mut function, name) = (std::ptr::null_mut(), format!("{}\0", kernel.name));
        // SAFETY: the module is alive, the name ends with a zero.
        let find = || unsafe { sys::cuModuleGetFunction(&mut function, module, name.as_ptr().cast()) };
        self.context.calls.make("cuModuleGetFunction", find)?;
        Ok(function)
    }

    fn module(&mut self, stem: &'static str) -> Result<sys::CUmodule, Error> {
        if let Some(module) = self.loaded.get(stem) {
            return Ok(module.raw);
        }
        // The driver looks for the end of PTX. A module that is damaged is none to the driver.
        let mut image =
            decompress_to_vec(image(stem, self.context.info.compute, self.context.driver)).unwrap_or_default();
        image.push(0);
        let mut raw = std::ptr::null_mut();
        // SAFETY: the image is a whole cubin, or PTX that ends with a zero.
        let load = || unsafe { sys::cuModuleLoadData(&mut raw, image.as_ptr().cast()) };
        self.context.calls.make("cuModuleLoadData", load)?;
        self.loaded.insert(stem, Module { raw, context: self.context.clone() });
        Ok(raw)
    }
}

/// The first generation of devices whose cubins are CUDA 13's, which older drivers do not load.
const GENERATION_13: u32 = 10;
const CUDA_13: i32 = 13000;

/// The first devices whose kernels wait for the kernels before them, and the CUDA version from which graphs may hold
/// kernels that overlap.
const WAITING: (u32, u32) = (9, 0);
const OVERLAP: i32 = 12030;

/// The module for a device of this compute capability, and a driver of this version, compressed.
fn image(stem: &str, compute: (u32, u32), driver: i32) -> &'static [u8] {
    let Some(compiled) = COMPILED.iter().find(|compiled| compiled.stem == stem) else { return &[] };
    cubin(compiled, compute, driver).map_or(compiled.ptx, |(_, cubin)| cubin)
}

/// The cubin for such a device, if there is one, and what it was compiled for.
fn cubin(compiled: &Compiled, (major, minor): (u32, u32), driver: i32) -> Option<((u32, u32), &'static [u8])> {
    if major >= GENERATION_13 && driver < CUDA_13 {
        return None;
    }
    // A cubin also runs on later devices of the same generation, but what is for a Jetson only there.
    let of = |wanted| compiled.cubins.iter().find(|(of, _)| *of == wanted).copied();
    of((major, minor)).or_else(|| of((major, 0)))
}

/// Whether a device's kernels may be launched while those before them run, because they wait for them; those of PTX do not.
fn overlap(compute: (u32, u32), driver: i32) -> bool {
    let cubin = COMPILED.first().and_then(|first| cubin(first, compute, driver));
    driver >= OVERLAP && cubin.is_some_and(|(of, _)| of >= WAITING)
}

impl Drop for Module {
    fn drop(&mut self) {
        let _entered = self.context.enter_to_drop();
        // SAFETY: loaded in this context; backends wait for the device before it goes.
        let _ = unsafe { sys::cuModuleUnload(self.raw) };
    }
}

#[cfg(test)]
mod tests;
