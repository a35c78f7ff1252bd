//! A kernel with its arguments and tolerances.

use std::sync::{Mutex, OnceLock, PoisonError};

use denoir::AlignedBytes;
use denoir_core::backend::{Program, run};
use denoir_core::ops::{Bounds, Linear, Memory, Op};
use denoir_core::{DType, View};

use super::guarded::{Edge, Guarded};

/// Tolerance of an element: `abs + rel · |reference|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Absolute part.
    pub abs: f64,
    /// Addition to the absolute part for tensor cores, which truncate sums that other devices round.
    pub truncation: f64,
    /// Addition to the absolute part for devices that multiply bf16 factors in f16.
    pub packed: f64,
    /// Relative part.
    pub rel: f64,
    /// int8: share of the elements that may be off by one; one element may be in any case unless this is 0.
    pub off_by_one: f64,
    /// Where these numbers come from.
    pub why: &'static str,
}

impl Tolerance {
    /// No difference.
    pub const fn exact(why: &'static str) -> Tolerance {
        Tolerance { abs: 0.0, truncation: 0.0, packed: 0.0, rel: 0.0, off_by_one: 0.0, why }
    }

    /// An f32 result.
    pub const fn close(abs: f64, rel: f64, why: &'static str) -> Tolerance {
        Tolerance { abs, truncation: 0.0, packed: 0.0, rel, off_by_one: 0.0, why }
    }

    /// The same for tensor cores that add up `k` 16-bit products with partial sums near 1. They truncate each sum of
    /// eight products to an f32: by half a unit in the last place on average and always towards zero, whereas rounding
    /// goes either way (`add_block` in cuda/emulator/device.cpp).
    pub fn truncated_sums(self, k: usize) -> Tolerance {
        Tolerance { truncation: k.div_ceil(8) as f64 * (-24f64).exp2(), ..self }
    }

    /// The same for devices that add up eight products of bf16 factors in f16, where `k` of them make sums near 1. With fused
    /// products that is off by 4.4e-4 on average and by 2e-3 in one of ten thousand results; rounding `x` to bf16 makes
    /// 1.6e-3 on average. Products that are rounded by themselves add as much, and fewer than eight are larger.
    pub fn packed_sums(self, k: usize) -> Tolerance {
        Tolerance { packed: if k < 8 { 1e-2 } else { 4e-3 }, ..self }
    }

    /// The addition to the absolute part on a device.
    pub fn addition(&self, sums: Sums) -> f64 {
        match sums {
            Sums::Rounded => 0.0,
            Sums::Truncated => self.truncation,
            Sums::Packed => self.packed,
        }
    }

    /// The same result in the type in which a kernel passes it on.
    pub fn rounded_to(self, dtype: DType) -> Tolerance {
        match dtype {
            DType::F16 => {
                Tolerance { abs: self.abs.max(6e-8), rel: 1.0 / 1024.0, why: "rounds to the other f16", ..self }
            }
            DType::BF16 => Tolerance { rel: 1.0 / 128.0, why: "rounds to the other bf16", ..self },
            DType::I8 => {
                Tolerance { off_by_one: 1e-3, why: "f32 values near a tie round to the other integer", ..self }
            }
            DType::F32 | DType::U32 => self,
        }
    }

    /// The same result's maximum over 127: an int8 row's scale.
    pub fn of_scale(self) -> Tolerance {
        Tolerance { abs: self.abs / 127.0, ..self }
    }
}

/// How a device adds up 16-bit products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// In f32.
    Rounded,
    /// In f32, truncated: tensor cores.
    Truncated,
    /// A few in f16, if they are of bf16 factors.
    Packed,
}

/// A view that the kernel writes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Where.
    pub view: View,
    /// Its tolerance.
    pub tolerance: Tolerance,
}

/// A kernel with its arguments.
#[derive(Debug)]
pub struct Case {
    /// Its name; empty if it was not drawn from a table.
    pub name: String,
    /// The descriptor.
    pub op: Op,
    /// The region of weights.
    pub weights: AlignedBytes,
    /// The arena before the kernel runs.
    pub arena: Vec<u8>,
    /// The outputs of the kernel.
    pub outputs: Vec<Output>,
    /// Views that the kernel may overwrite with anything.
    pub scratch: Option<View>,
    /// Its views beside forbidden pages, from when a row first asks for them.
    pub(super) guarded: [OnceLock<Mutex<Guarded>>; 2],
}

impl Case {
    /// Runs a kernel on weights and arena whose views lie beside forbidden pages, and returns the arena as it is then.
    /// `label` is printed if such a page is touched.
    ///
    /// # Errors
    /// The kernel's, or that bytes beside a view changed.
    pub fn run_guarded(
        &self,
        edge: Edge,
        label: &str,
        kernel: impl FnOnce(&[u8], &mut [u8], &Op) -> Result<(), String>,
    ) -> Result<Vec<u8>, String> {
        let guarded = self.guarded[edge as usize]
            .get_or_init(|| Mutex::new(Guarded::new(self.op, self.weights.as_slice(), self.aligned(), edge)));
        let mut guarded = guarded.lock().unwrap_or_else(PoisonError::into_inner);
        guarded.label(label);
        guarded.run(&self.arena, kernel)
    }

    /// The sizes of both regions.
    pub fn bounds(&self) -> Bounds {
        Bounds { weights: self.weights.as_slice().len(), arena: self.arena.len() }
    }

    /// Returns whether this is a linear layer whose activations have rows that start at multiples of 16 bytes, as plans
    /// have them.
    pub fn aligned(&self) -> bool {
        match self.op {
            Op::Linear(Linear { x, .. }) => {
                x.offset.is_multiple_of(16) && (x.stride * x.dtype.size()).is_multiple_of(16)
            }
            _ => false,
        }
    }

    /// The arena after the reference ran.
    ///
    /// # Errors
    /// The descriptor's check, in words.
    pub fn reference(&self) -> Result<Vec<u8>, String> {
        let mut arena = self.arena.clone();
        let mut memory = Memory { weights: self.weights.as_slice(), arena: &mut arena };
        run(&mut memory, Program::once("op", [0; 2]), |k| k.op(&self.op)).map_err(|e| e.to_string())?;
        Ok(arena)
    }

    /// The first byte outside the outputs that changed.
    pub(super) fn untouched(&self, after: &[u8]) -> Result<(), String> {
        let mut after = after.to_vec();
        for view in self.outputs.iter().map(|o| &o.view).chain(&self.scratch) {
            for at in elements(view) {
                let bytes = at..at + view.dtype.size();
                after[bytes.clone()].copy_from_slice(&self.arena[bytes]);
            }
        }
        match after.iter().zip(&self.arena).position(|(a, b)| a != b) {
            Some(at) => Err(format!("byte {at} of the arena is not the kernel's, and changed")),
            None => Ok(()),
        }
    }

    /// Compares the outputs with the reference's, within the tolerances for a device's sums. Returns the largest difference
    /// of f32 results as a share of the tolerance.
    pub(super) fn compare(&self, mut got: Vec<u8>, mut want: Vec<u8>, sums: Sums) -> Result<f64, String> {
        self.untouched(&got)?;
        let mut worst = 0f64;
        for Output { view, tolerance } in &self.outputs {
            let got = Memory { weights: &[], arena: &mut got };
            let want = Memory { weights: &[], arena: &mut want };
            let (mut off_by_one, integers) = (0usize, view.dtype == DType::I8);
            let abs = tolerance.abs + tolerance.addition(sums);
            for r in 0..view.rows {
                for c in 0..view.cols {
                    let (got, want) = (got.load(view, r, c), want.load(view, r, c));
                    let difference = (got - want).abs();
                    let allowed = abs + tolerance.rel * want.abs();
                    if integers && difference == 1.0 && tolerance.off_by_one > 0.0 {
                        off_by_one += 1;
                    } else if !got.is_finite() || !want.is_finite() || difference > if integers { 0.0 } else { allowed }
                    {
                        let why = tolerance.why;
                        return Err(format!("({r}, {c}) is {got:e}, not {want:e} ± {allowed:.1e} ({why})"));
                    } else if view.dtype == DType::F32 && difference > 0.0 {
                        worst = worst.max(difference / allowed);
                    }
                }
            }
            let elements = (view.rows * view.cols) as f64;
            if off_by_one > 0 && off_by_one as f64 > 1.0 + tolerance.off_by_one * elements {
                return Err(format!("{off_by_one} of {elements} integers are off by one"));
            }
        }
        Ok(worst)
    }
}

/// The first byte of every element.
pub fn elements(view: &View) -> impl Iterator<Item = usize> + use<> {
    let View { dtype, offset, rows, cols, stride, .. } = *view;
    (0..rows).flat_map(move |r| (0..cols).map(move |c| offset + (r * stride + c) * dtype.size()))
}
