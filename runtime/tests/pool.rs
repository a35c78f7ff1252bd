//! The thread pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use denoir::Pool;
use denoir::core::Executor;

#[test]
fn every_task_runs_once() {
    for threads in [0, 1, 2, 5] {
        let pool = Pool::new(threads).unwrap();
        for tasks in [0, 1, 2, 3, 100, 1000] {
            let hits: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(tasks, &|i| {
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{threads} threads, {tasks} tasks");
        }
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(3).unwrap();
    for _ in 0..20 {
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(64, &|i| assert!(i != 40))));
        assert!(result.is_err());
        pool.run(8, &|_| {});
    }
}

#[test]
fn threads_share_a_pool() {
    let pool = Pool::new(3).unwrap();
    let total = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    pool.run(10, &|_| {
                        total.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 4 * 200 * 10);
}

#[test]
fn a_task_may_use_its_own_pool_and_another() {
    let (pool, other) = (Pool::new(3).unwrap(), Pool::new(3).unwrap());
    let total = AtomicUsize::new(0);
    for _ in 0..50 {
        pool.run(6, &|_| {
            other.run(4, &|_| {
                pool.run(5, &|_| {
                    total.fetch_add(1, Ordering::Relaxed);
                });
            });
        });
        // After a panic no thread may think that it is still in a task.
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(6, &|_| pool.run(2, &|i| assert!(i != 1)))));
        assert!(result.is_err());
        let all_here = Barrier::new(3);
        pool.run(3, &|_| {
            all_here.wait();
        });
    }
    assert_eq!(total.into_inner(), 50 * 6 * 4 * 5);
}

/// Where a signal may be delivered to any thread, a program's handler must not run on a worker.
#[cfg(unix)]
#[test]
fn workers_block_the_signals_of_a_process_and_no_others() {
    let pool = Pool::new(3).unwrap();
    let (caller, all_here) = (std::thread::current().id(), Barrier::new(3));
    pool.run(3, &|_| {
        all_here.wait();
        let worker = std::thread::current().id() != caller;
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD, libc::SIGALRM, libc::SIGUSR1] {
            assert_eq!(is_blocked(signal), worker, "signal {signal}");
        }
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGPROF] {
            assert!(!is_blocked(signal), "signal {signal}");
        }
    });
}

#[cfg(unix)]
fn is_blocked(signal: libc::c_int) -> bool {
    // SAFETY: a set may be all zeros; nothing is changed, and what is blocked now is written to it.
    unsafe {
        let mut now: libc::sigset_t = std::mem::zeroed();
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut now), 0);
        libc::sigismember(&now, signal) == 1
    }
}
