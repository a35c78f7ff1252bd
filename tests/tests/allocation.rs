//! Sampling allocates nothing. The only test of this file: the counter is the process's, and other tests allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use denoir::{Condition, Isa, Model, Options, Pipeline};
use denoir_core::{DType, Job};
use denoir_tests::golden::model;
use denoir_tests::settings;

/// The system's allocator, counting while it is told to.
struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does all; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.load(Ordering::Relaxed) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller promises that `layout` is not empty.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that `ptr` came from here with `layout`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn sampling_allocates_nothing() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
        let model = model("forward/pg-ctx", dtype)?;
        for isa in Isa::available() {
            no_allocation(&model, isa)?;
        }
    }
    Ok(())
}

fn no_allocation(model: &Arc<Model>, isa: Isa) -> Result<()> {
    let options = Options { isa: Some(isa), threads: Some(2), batch: Some(2), ..Options::default() };
    let mut pipeline = Pipeline::new(Arc::clone(model), &options)?;
    let settings = settings();
    let job =
        Job { settings: &settings, condition: Condition::Labels(&[1, 2]), seeds: &[7, 8], rng: denoir::Rng::Torch };
    let mut images = vec![0.0; 2 * model.network().pixels()];
    let (mut evaluations, mut steps) = (0, 0);
    pipeline.with_denoiser(|denoiser| {
        // Worker threads allocate as they start: see them at work before counting.
        denoiser.prepare(0.5, Condition::Labels(&[0]))?;
        ALLOCATIONS.store(0, Ordering::Relaxed);
        COUNTING.store(true, Ordering::Relaxed);
        let result = denoiser.generate(&job, &mut images, &mut |p| {
            evaluations += 1;
            steps = p.step;
            ControlFlow::Continue(())
        });
        COUNTING.store(false, Ordering::Relaxed);
        result
    })?;
    assert_eq!((evaluations, steps), (7, 4), "Heun of 4 steps evaluates 7 times");
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), 0, "{}", isa.name());
    assert!(images.iter().any(|&x| x != 0.0));
    Ok(())
}
