//! Memory of a case in which every view touches a page that nobody may. Assembly and AMX that read or write a byte too
//! far end the process there; no sanitizer sees what they do.

mod pages;

use core::ops::Range;

use denoir_core::ops::{Epilogue, Linear, Op};
use denoir_core::{Region, View, Weight};

use super::parts::views;
pub(super) use pages::Block;
use pages::Pages;

/// Fills the bytes between views and forbidden pages, which nobody may change.
const UNUSED: u8 = 0xA5;

/// The side of a view at which the forbidden page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The page follows the last element.
    End,
    /// The page precedes the first element.
    Start,
}

/// A case's views, moved apart. Views that share bytes, or lie inside one another's padding, move together.
pub(super) struct Guarded {
    /// The descriptor of the moved views.
    op: Op,
    weights: Pages,
    arena: Pages,
    pieces: Vec<Piece>,
}

/// Bytes that move together.
struct Piece {
    region: Region,
    from: Range<usize>,
    /// What the new place is a multiple of, like the old one.
    align: usize,
    /// The new first byte.
    at: usize,
    /// The bytes between its two forbidden pages.
    area: Range<usize>,
}

impl Guarded {
    /// Room for the views of a descriptor, filled with these weights. Where rows start at multiples of 64 bytes and
    /// the kernel may count on that, they still do.
    pub(super) fn new(mut op: Op, file: &[u8], aligned: bool, edge: Edge) -> Guarded {
        let mut views: Vec<View> = views(&mut op).into_iter().map(|(_, view)| *view).collect();
        views.extend(weights(&mut op).filter_map(|weight| weight.residual()));
        let mut pieces = apart(&views, aligned);
        let mut place = |region| {
            let here = || pieces.iter().filter(move |piece| piece.region == region);
            let (pages, areas) = Pages::new(&here().map(|piece| piece.from.len() + piece.align).collect::<Vec<_>>());
            for (piece, area) in pieces.iter_mut().filter(|piece| piece.region == region).zip(areas) {
                piece.place(area, edge);
            }
            pages
        };
        let (mut weights, arena) = (place(Region::Weights), place(Region::Arena));
        for piece in pieces.iter().filter(|piece| piece.region == Region::Weights) {
            weights.bytes(piece.to()).copy_from_slice(&file[piece.from.clone()]);
        }
        weights.forbid_writes();
        move_views(&mut op, &pieces);
        let mut guarded = Guarded { op, weights, arena, pieces };
        for piece in guarded.pieces.iter().filter(|piece| piece.region == Region::Arena) {
            guarded.arena.bytes(piece.area.clone()).fill(UNUSED);
        }
        guarded
    }

    /// Says what is printed if a forbidden page is touched.
    pub(super) fn label(&self, text: &str) {
        self.weights.label(text);
        self.arena.label(text);
    }

    /// Runs a kernel on weights and arena. Returns the arena as it is then, with everything where `before` has it.
    pub(super) fn run(
        &mut self,
        before: &[u8],
        kernel: impl FnOnce(&[u8], &mut [u8], &Op) -> Result<(), String>,
    ) -> Result<Vec<u8>, String> {
        let pieces = || self.pieces.iter().filter(|piece| piece.region == Region::Arena);
        for piece in pieces() {
            self.arena.bytes(piece.to()).copy_from_slice(&before[piece.from.clone()]);
        }
        kernel(self.weights.all(), self.arena.all_mut(), &self.op)?;
        let mut after = before.to_vec();
        for piece in pieces() {
            after[piece.from.clone()].copy_from_slice(self.arena.bytes(piece.to()));
            for unused in [piece.area.start..piece.at, piece.to().end..piece.area.end] {
                let unused = self.arena.bytes(unused);
                if unused.iter().any(|byte| *byte != UNUSED) {
                    unused.fill(UNUSED);
                    return Err(format!(
                        "bytes beside {:?} of the arena are not the kernel's, and changed",
                        piece.from
                    ));
                }
            }
        }
        Ok(after)
    }
}

impl Piece {
    fn place(&mut self, area: Range<usize>, edge: Edge) {
        let odd = self.from.start % self.align;
        self.at = match edge {
            Edge::Start => area.start + odd,
            Edge::End => {
                let last = area.end - self.from.len();
                last - (last + self.align - odd) % self.align
            }
        };
        self.area = area;
    }

    fn to(&self) -> Range<usize> {
        self.at..self.at + self.from.len()
    }
}

/// The bytes that views cover, in pieces that share none.
fn apart(views: &[View], aligned: bool) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = views.iter().map(|view| piece(view, aligned)).collect();
    pieces.sort_by_key(|piece| (piece.region == Region::Arena, piece.from.start));
    pieces.dedup_by(|next, piece| {
        let shared = next.region == piece.region && next.from.start < piece.from.end;
        if shared {
            piece.from.end = piece.from.end.max(next.from.end);
            piece.align = piece.align.max(next.align);
        }
        shared
    });
    pieces
}

fn piece(view: &View, aligned: bool) -> Piece {
    let View { region, dtype, offset, stride, .. } = *view;
    let from = offset..offset + view.len_bytes().expect("a view in memory");
    let lines = aligned && offset.is_multiple_of(64) && (stride * dtype.size()).is_multiple_of(64);
    Piece { region, from, align: if lines { 64 } else { dtype.size() }, at: 0, area: 0..0 }
}

/// The weight matrices of a linear layer.
fn weights(op: &mut Op) -> impl Iterator<Item = &mut Weight> {
    let weights = match op {
        Op::Linear(Linear { w, epilogue: Epilogue::Swiglu { gate, .. }, .. }) => [Some(w), Some(gate)],
        Op::Linear(Linear { w, .. }) => [Some(w), None],
        _ => [None, None],
    };
    weights.into_iter().flatten()
}

fn move_views(op: &mut Op, pieces: &[Piece]) {
    let moved = |region, offset: usize| {
        let piece = pieces.iter().find(|piece| piece.region == region && piece.from.contains(&offset));
        let piece = piece.expect("every view is in a piece");
        piece.at + (offset - piece.from.start)
    };
    for (_, view) in views(op) {
        view.offset = moved(view.region, view.offset);
    }
    for residual in weights(op).filter_map(|weight| weight.residual.as_mut()) {
        *residual = moved(Region::Weights, *residual);
    }
}

impl core::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Guarded").field("op", &self.op).finish_non_exhaustive()
    }
}
