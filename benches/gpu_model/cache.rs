//! The second-level cache: which bytes of a launch come from memory.

use std::collections::{BTreeMap, HashMap};

use denoir_core::{Region, View};

/// Rows and bytes of each row that are kept or dropped together.
const ROWS: usize = 32;
const BYTES: usize = 512;

/// A piece of a matrix: where it starts.
type Piece = (Region, usize);

/// A cache that drops what was used longest ago, in pieces of 32 rows of 512 bytes.
pub(crate) struct Cache {
    capacity: usize,
    used: usize,
    clock: u64,
    /// When each piece was used last, with its bytes, and the same by time.
    pieces: HashMap<Piece, (u64, usize)>,
    order: BTreeMap<u64, Piece>,
}

impl Cache {
    /// An empty cache of so many bytes.
    pub(crate) fn new(capacity: usize) -> Cache {
        Cache { capacity, used: 0, clock: 0, pieces: HashMap::new(), order: BTreeMap::new() }
    }

    /// Uses the rows `from..to` of a matrix, and of each the bytes of K `part` (in pieces of [`BYTES`]), or all. Returns
    /// the bytes that were used, and those of them that were not there.
    pub(crate) fn touch(&mut self, view: &View, from: usize, to: usize, part: Option<usize>) -> (usize, usize) {
        let (size, to) = (view.dtype.size(), to.min(view.rows));
        let row_bytes = view.cols * size;
        let parts = part.map_or(0..row_bytes.div_ceil(BYTES), |part| part..part + 1);
        let (mut used, mut missed) = (0, 0);
        for row in (from / ROWS * ROWS..to).step_by(ROWS) {
            let rows = (view.rows - row).min(ROWS);
            for part in parts.clone() {
                let bytes = rows * row_bytes.saturating_sub(part * BYTES).min(BYTES);
                let piece = (view.region, view.offset + row * view.stride * size + part * BYTES);
                used += bytes;
                missed += if self.hit(piece, bytes) { 0 } else { bytes };
            }
        }
        (used, missed)
    }

    /// Uses all of a matrix.
    pub(crate) fn touch_all(&mut self, view: &View) -> (usize, usize) {
        self.touch(view, 0, view.rows, None)
    }

    fn hit(&mut self, piece: Piece, bytes: usize) -> bool {
        self.clock += 1;
        let before = self.pieces.insert(piece, (self.clock, bytes));
        self.order.insert(self.clock, piece);
        if let Some((at, old)) = before {
            self.order.remove(&at);
            self.used = self.used - old + bytes;
            return true;
        }
        self.used += bytes;
        while self.used > self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.used -= self.pieces.remove(&oldest).map_or(0, |(_, bytes)| bytes);
        }
        false
    }
}

/// Pieces along K of a row.
pub(crate) fn parts(view: &View) -> usize {
    (view.cols * view.dtype.size()).div_ceil(BYTES)
}
