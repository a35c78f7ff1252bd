//! Fork-join: the caller's threads, behind one small trait.

/// Runs the tasks of one kernel. Kernels give the same result for any number of threads and any order of tasks.
///
/// # Safety
/// [`Executor::run`] calls `task` once with each number below `tasks` and with no other (where a call panics, the rest
/// may be left out), and neither returns nor unwinds before all of these calls have ended. At most
/// [`Executor::threads`] of them are under way at once. Tasks write to memory that is theirs by their number, without a
/// lock.
pub unsafe trait Executor: Sync {
    /// How many tasks can run at once, at least 1, and always the same.
    fn threads(&self) -> usize;

    /// Calls `task(0)` to `task(tasks - 1)`, each once, in any order, and returns when all have returned.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// Everything on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

// SAFETY: a loop over the numbers, on the calling thread.
unsafe impl Executor for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        for i in 0..tasks {
            task(i);
        }
    }
}

// SAFETY: the executor referred to keeps the promise.
unsafe impl<E: Executor + ?Sized> Executor for &E {
    fn threads(&self) -> usize {
        (**self).threads()
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (**self).run(tasks, task);
    }
}
