//! The thread pool under loom, which runs its threads in every order that matters, with what the memory model allows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use denoir_core::Executor;

#[allow(unreachable_pub, reason = "it is the library's")]
#[path = "../src/pool.rs"]
mod pool;

use pool::Pool;

/// As in the library, but loom's.
mod sync {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, atomic};
    pub(crate) use loom::{thread, thread_local};
}

/// As in the library.
mod system {
    /// Fewer than any pool has, so that workers sleep at once instead of spinning.
    pub(crate) fn available_threads() -> usize {
        1
    }

    pub(crate) fn room_for_thread() -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs `test` in every order in which a thread is interrupted at most `interruptions` times. Returns how many.
fn model(interruptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let orders = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(move || {
        seen.fetch_add(1, Ordering::Relaxed);
        test();
    });
    let orders = orders.load(Ordering::Relaxed);
    println!("{orders} orders");
    assert!(orders > 100, "only {orders} orders");
}

/// Runs one kernel of `tasks` tasks; each must run once, and have ended when it returns.
fn run_once(pool: &Pool, tasks: usize) {
    // What a task writes is plain memory, which loom watches.
    let written: Vec<_> = (0..tasks).map(|_| Written(loom::cell::UnsafeCell::new(0))).collect();
    // SAFETY: what is tested.
    pool.run(tasks, &|i| written[i].0.with_mut(|times| unsafe { *times += 1 }));
    for written in &written {
        // SAFETY: what is tested.
        assert_eq!(written.0.with(|times| unsafe { *times }), 1);
    }
}

struct Written(loom::cell::UnsafeCell<usize>);

// SAFETY: loom reports it where two threads touch it at the same time.
unsafe impl Sync for Written {}

#[test]
fn every_task_runs_once_and_has_ended() {
    model(5, || {
        let pool = Pool::new(2).expect("threads");
        run_once(&pool, 2);
    });
}

#[test]
fn kernels_follow_each_other() {
    model(3, || {
        let pool = Pool::new(2).expect("threads");
        run_once(&pool, 2);
        run_once(&pool, 3);
    });
}

#[test]
fn three_threads() {
    model(2, || {
        let pool = Pool::new(3).expect("threads");
        run_once(&pool, 3);
    });
}

#[test]
fn a_panic_reaches_the_caller() {
    model(3, || {
        let pool = Pool::new(2).expect("threads");
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(2, &|i| assert!(i != 1))));
        assert!(result.is_err());
        run_once(&pool, 2);
    });
}

#[test]
fn a_task_may_use_its_pool() {
    model(3, || {
        let pool = Pool::new(2).expect("threads");
        pool.run(2, &|_| run_once(&pool, 2));
    });
}

#[test]
fn two_threads_share_a_pool() {
    model(2, || {
        let pool = loom::sync::Arc::new(Pool::new(2).expect("threads"));
        let other = loom::sync::Arc::clone(&pool);
        let thread = loom::thread::spawn(move || run_once(&other, 2));
        run_once(&pool, 2);
        thread.join().expect("no panic");
    });
}
