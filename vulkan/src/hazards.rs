//! Dependencies between kernels: a barrier is needed only if two kernels touch the same bytes of the arena.

use std::ops::Range;

/// The bytes that kernels have read and written since the last barrier.
#[derive(Default)]
pub(crate) struct Hazards {
    reads: Vec<Range<usize>>,
    writes: Vec<Range<usize>>,
}

/// The bytes of the arena that one kernel reads and writes.
#[derive(Clone, Default)]
pub(crate) struct Access {
    pub(crate) reads: Vec<Range<usize>>,
    pub(crate) writes: Vec<Range<usize>>,
}

impl Hazards {
    /// Adds a kernel; returns whether it must wait for earlier ones.
    pub(crate) fn wait_for(&mut self, next: &Access) -> bool {
        let meet = |a: &[Range<usize>], b: &[Range<usize>]| {
            a.iter().any(|a| b.iter().any(|b| a.start < b.end && b.start < a.end))
        };
        let wait =
            meet(&next.reads, &self.writes) || meet(&next.writes, &self.writes) || meet(&next.writes, &self.reads);
        if wait {
            self.clear();
        }
        self.reads.extend_from_slice(&next.reads);
        self.writes.extend_from_slice(&next.writes);
        wait
    }

    /// Forgets all accesses after a barrier.
    pub(crate) fn clear(&mut self) {
        self.reads.clear();
        self.writes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(read: Range<usize>, write: Range<usize>) -> Access {
        Access { reads: vec![read], writes: vec![write] }
    }

    #[test]
    fn only_bytes_that_meet_make_a_wait() {
        let mut hazards = Hazards::default();
        assert!(!hazards.wait_for(&access(0..10, 10..20)));
        assert!(!hazards.wait_for(&access(0..10, 20..30)), "two readers and separate writers");
        assert!(hazards.wait_for(&access(15..16, 40..50)), "a read after a write");
        assert!(!hazards.wait_for(&access(0..10, 60..70)), "the barrier covered what was before it");
        assert!(hazards.wait_for(&access(80..90, 5..6)), "a write after a read");
        assert!(hazards.wait_for(&access(80..90, 5..6)), "a write after a write");
    }
}
