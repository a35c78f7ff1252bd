//! A fork-join thread pool. The kernels of a pass are microseconds apart, so idle workers spin for a while before they
//! sleep.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;

use denoir_core::Executor;

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex, UnsafeCell, spin_loop, thread_local};

/// Spins of an idle worker before it sleeps: some hundred microseconds, longer than the gaps between the kernels of a
/// pass and between passes. Waking a worker costs more, and may place it on the CPU of the waking thread.
const SPINS: u32 = 40_000;
/// Spins of a thread that waits for the others before it yields to other processes.
const SPINS_TO_YIELD: u32 = 100;

/// The bit of the gate that lets workers in.
const OPEN: usize = 1 << (usize::BITS - 1);

/// A kernel's tiles.
type Task = *const (dyn Fn(usize) + Sync);

thread_local! {
    /// Whether this thread is computing a tile. A pool that is used by a tile could wait for its own thread.
    #[allow(clippy::missing_const_for_thread_local, reason = "loom's has no such form")]
    static IN_TILE: Cell<bool> = Cell::new(false);
}

/// Worker threads that run the tiles of a kernel together with the calling thread. A tile may use a pool too: its own
/// thread then runs all of what it asks for. Workers block signals, so that a program's handlers run on its own threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a kernel runs, so that threads sharing a pool take turns.
    turn: Mutex<()>,
    /// The process that started the workers: a fork has none of them.
    process: u32,
}

struct Shared {
    /// Grows by one with every kernel: a worker that sees a new number has work.
    epoch: AtomicUsize,
    /// The current kernel; valid while `gate` is open or a worker is inside.
    task: UnsafeCell<Option<Task>>,
    /// Number of tiles of the kernel.
    count: AtomicUsize,
    /// The next tile to hand out.
    next: AtomicUsize,
    /// `OPEN` while the kernel admits workers, plus the number of workers inside. A worker that arrives late, because
    /// it slept or the system ran something else, finds the gate shut; nobody has waited for it.
    gate: AtomicUsize,
    /// Number of workers that have started.
    started: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    /// Spins of an idle worker before it sleeps: none if the pool has more threads than the machine has CPUs.
    spins: u32,
    sleepers: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `task` is written only while the gate is shut and no worker is inside, and published by opening it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `task` is to a `Sync` closure.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts a pool of `threads` threads, including the caller's; 0 counts as 1.
    ///
    /// # Errors
    /// The system's error if it cannot start a thread.
    pub fn new(threads: usize) -> io::Result<Pool> {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            task: UnsafeCell::new(None),
            count: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            gate: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            spins: if threads > crate::system::available_threads() { 0 } else { SPINS },
            sleepers: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut pool = Pool { shared, workers: Vec::new(), turn: Mutex::new(()), process: std::process::id() };
        // Threads start with the signal mask of the one that starts them.
        let signals = Signals::block();
        for i in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = thread::Builder::new().name(format!("denoir-{i}"));
            // On an error, dropping the pool ends the workers that were started.
            crate::system::room_for_thread()?;
            pool.workers.push(builder.spawn(move || shared.work())?);
            // A thread allocates while it starts; from here on it allocates nothing. One after another, so that the
            // room that was seen is there for it.
            while pool.shared.started.load(Ordering::Relaxed) != pool.workers.len() {
                thread::yield_now();
            }
        }
        drop(signals);
        Ok(pool)
    }
}

// SAFETY: `Shared::take_tiles` hands out each number below `tasks` once, to this thread and its workers, and `run`
// waits until nobody is inside, a panic notwithstanding.
unsafe impl Executor for Pool {
    fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || tasks <= 1 || IN_TILE.with(Cell::get) {
            return (0..tasks).for_each(task);
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; the pointer is not used after this function, which waits for all.
        let task: &'static (dyn Fn(usize) + Sync) = unsafe { core::mem::transmute(task) };
        // SAFETY: the gate is shut, nobody is inside, and this thread has the turn, so nobody reads it.
        shared.task.with_mut(|place| unsafe { *place = Some(task) });
        shared.count.store(tasks, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        shared.gate.store(OPEN, Ordering::Release);
        {
            let _asleep = shared.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            shared.epoch.fetch_add(1, Ordering::Release);
        }
        shared.wake.notify_all();
        let mine = shared.take_tiles(task);
        // All tiles are taken: whoever is not inside by now is not needed.
        shared.gate.fetch_and(!OPEN, Ordering::Relaxed);
        let mut spins = 0;
        while shared.gate.load(Ordering::Acquire) != 0 {
            pause(&mut spins);
        }
        let theirs = shared.panicked.swap(false, Ordering::Relaxed);
        drop(turn);
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        assert!(!theirs, "a kernel panicked on a worker thread");
    }
}

impl Shared {
    /// Computes tiles until all are taken, or until one panics.
    fn take_tiles(&self, task: &(dyn Fn(usize) + Sync)) -> std::thread::Result<()> {
        let count = self.count.load(Ordering::Relaxed);
        IN_TILE.with(|inside| inside.set(true));
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return;
                }
                task(i);
            }
        }));
        IN_TILE.with(|inside| inside.set(false));
        result
    }

    fn work(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut seen = 0;
        while let Some(epoch) = self.wait_for_work(seen) {
            seen = epoch;
            if !self.enter() {
                continue;
            }
            // SAFETY: this worker came in by the open gate, so the kernel is published; it stays until the worker
            // leaves.
            if let Some(task) = self.task.with(|place| unsafe { *place }) {
                // SAFETY: the kernel stays published until this worker leaves.
                if self.take_tiles(unsafe { &*task }).is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            self.gate.fetch_sub(1, Ordering::Release);
        }
    }

    /// Enters the gate if it is open; returns whether the worker is now inside.
    fn enter(&self) -> bool {
        let more = |gate: usize| (gate & OPEN != 0).then_some(gate + 1);
        self.gate.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).is_ok()
    }

    /// Waits for the next kernel and returns its number, or `None` when the pool ends.
    fn wait_for_work(&self, seen: usize) -> Option<usize> {
        let news = || {
            let epoch = self.epoch.load(Ordering::Acquire);
            (epoch != seen).then_some(epoch)
        };
        for _ in 0..self.spins {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(epoch) = news() {
                return Some(epoch);
            }
            spin_loop();
        }
        let mut asleep = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(epoch) = news() {
                return Some(epoch);
            }
            asleep = self.wake.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins > SPINS_TO_YIELD { thread::yield_now() } else { spin_loop() }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // The workers are not here, and one may have held the lock at the time of the fork. There is nothing to wait
            // for, and the system would say so.
            self.workers.drain(..).for_each(std::mem::forget);
            return;
        }
        {
            let _asleep = self.shared.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a kernel, so there is none to report here.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

/// The signals that may be delivered to any thread, blocked in this one until this is dropped.
struct Signals {
    #[cfg(unix)]
    before: libc::sigset_t,
}

#[cfg(unix)]
impl Signals {
    /// What a thread's own instructions raise, and what profilers send to the thread that runs.
    const KEPT: [libc::c_int; 7] =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGPROF];

    fn block() -> Signals {
        // SAFETY: a set may be all zeros, and the calls write to sets that are here.
        unsafe {
            let (mut blocked, mut before): (libc::sigset_t, libc::sigset_t) = core::mem::zeroed();
            libc::sigfillset(&mut blocked);
            for signal in Signals::KEPT {
                libc::sigdelset(&mut blocked, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, &mut before);
            Signals { before }
        }
    }
}

#[cfg(unix)]
impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the set that the system wrote.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, core::ptr::null_mut()) };
    }
}

#[cfg(not(unix))]
impl Signals {
    fn block() -> Signals {
        Signals {}
    }
}
