//! Guided passes on several threads. Small enough for Miri, which `cargo xtask sanitize` asks about data races and
//! about pointers that reach further than what they were made from.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use denoir_bare::VALUES;
use denoir_core::cpu::{Cpu, Isa, pack, packed_bytes};
use denoir_core::gguf::Gguf;
use denoir_core::jit::{JitModel, JitPlan};
use denoir_core::network::Plan;
use denoir_core::noise::Rng;
use denoir_core::sampler::{Method, Settings};
use denoir_core::{Aligned, Denoiser, Executor, Job, Serial};

static TINY: &Aligned<[u8]> = &Aligned(*include_bytes!("../tiny.gguf"));
static INT8: &Aligned<[u8]> = &Aligned(*include_bytes!("../int8.gguf"));

/// Threads that take the tasks from last to first.
struct Threads(usize);

// SAFETY: the count goes down by one for each task, and the scope ends when all threads have.
unsafe impl Executor for Threads {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let left = AtomicUsize::new(tasks);
        let next = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok();
        let work = || {
            while let Some(n) = next() {
                task(n - 1);
            }
        };
        std::thread::scope(|scope| {
            (1..self.0.min(tasks)).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }
}

/// Two images in one step of guided Euler: every kernel runs on both images and both branches.
fn draw(file: &[u8], executor: &dyn Executor, isa: Isa, packed: bool) -> Vec<f32> {
    let gguf = Gguf::parse(file).expect("a model");
    let mut place = Box::new_uninit();
    let model = &*JitModel::read_into(&gguf, &mut place).expect("a model");
    let plan = JitPlan::new(model, 2, isa.precision()).expect("a plan");
    let mut arena = lines(plan.arena_bytes);
    let mut scratch = lines(isa.scratch_bytes(plan.head_dim(), plan.int8(), executor.threads()));
    let weights = || model.matrices().filter(|_| packed);
    let mut panels = lines(packed_bytes(weights(), isa).expect("an address"));
    pack(file, weights(), isa, bytes(&mut panels), executor, &mut |_| ());
    let cpu = Cpu::new(file, bytes(&mut arena), executor, isa).expect("aligned").with_scratch(bytes(&mut scratch));
    let cpu = cpu.with_packed(bytes(&mut panels));
    let settings = Settings {
        method: Method::Euler,
        steps: 1,
        cfg_scale: 2.0,
        guidance_interval: (0.0, 1.0),
        ..Settings::from_gguf(&gguf).expect("settings")
    };
    let job = Job { settings: &settings, condition: &[1, 0][..], seeds: &[42, 43], rng: Rng::Torch };
    let mut images = vec![0.0; 2 * VALUES];
    let mut denoiser = Denoiser::new(model, plan, cpu).expect("a denoiser");
    denoiser.generate(&job, &mut images, &mut |_| ControlFlow::Continue(())).expect("images");
    images
}

fn lines(len: usize) -> Vec<Aligned<[u8; 64]>> {
    (0..len.div_ceil(64)).map(|_| Aligned([0; 64])).collect()
}

fn bytes(lines: &mut [Aligned<[u8; 64]>]) -> &mut [u8] {
    let len = size_of_val(lines);
    // SAFETY: aligned arrays of bytes, without padding between them.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) }
}

#[test]
fn threads_and_packing_do_not_change_a_guided_pass() {
    for (name, file) in [("tiny", TINY), ("int8", INT8)] {
        for isa in Isa::available() {
            let one = draw(&file.0, &Serial, isa, false);
            assert!(one.iter().any(|x| *x != 0.0));
            for (threads, packed) in [(2, false), (2, true), (3, true)] {
                let more = draw(&file.0, &Threads(threads), isa, packed);
                assert!(one == more, "{name}, {}, {threads} threads, packed: {packed}", isa.name());
            }
        }
    }
}
