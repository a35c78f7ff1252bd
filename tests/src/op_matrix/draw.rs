//! Random regions for one case: views that start at any element boundary, padded rows, and guard bytes that nobody may
//! touch.

use denoir::AlignedBytes;
use denoir_core::QuantResidual;
use denoir_core::ops::{Memory, Op, SharedMean};
use denoir_core::{DType, Modulation, Region, TokenLayout, View, Weight};
use denoir_golden::op::CaseMemory;

use super::case::{Case, Output, Tolerance, elements};

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Mean 0 and deviation 1, in ±6: the sum of twelve uniform numbers.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// Builds a case.
#[derive(Debug)]
pub struct Draw {
    /// The case's numbers.
    pub rng: Rng,
    weights: Vec<u8>,
    arena: Vec<u8>,
}

impl Draw {
    /// Empty regions and the numbers of a seed.
    pub fn new(seed: u64) -> Draw {
        Draw { rng: Rng::new(seed), weights: Vec::new(), arena: Vec::new() }
    }

    /// Room for a matrix somewhere past the others, padded or not; its bytes are random.
    pub fn place(&mut self, region: Region, dtype: DType, rows: usize, cols: usize) -> View {
        let stride = cols + self.rng.pick(&[0, 0, 0, 1, 3, 16]);
        let gap = self.rng.below(5) * dtype.size();
        self.place_at(region, dtype, (rows, cols), stride, (dtype.size(), gap))
    }

    /// Room for a matrix whose rows start at multiples of 64 bytes, as plans have them.
    pub fn place_aligned(&mut self, dtype: DType, rows: usize, cols: usize) -> View {
        let stride = cols.next_multiple_of(64 / dtype.size());
        self.place_at(Region::Arena, dtype, (rows, cols), stride, (64, 0))
    }

    fn place_at(
        &mut self,
        region: Region,
        dtype: DType,
        (rows, cols): (usize, usize),
        stride: usize,
        (align, gap): (usize, usize),
    ) -> View {
        let bytes = match region {
            Region::Weights => &mut self.weights,
            Region::Arena => &mut self.arena,
        };
        let offset = bytes.len().next_multiple_of(align) + gap;
        bytes.resize_with(offset + rows * stride * dtype.size(), || self.rng.bits() as u8);
        View { region, dtype, offset, rows, cols, stride }
    }

    /// Sets every element, rounded to the view's type.
    pub fn fill(&mut self, view: &View, mut value: impl FnMut(&mut Rng, usize, usize) -> f64) {
        let region = match view.region {
            Region::Weights => &mut self.weights,
            Region::Arena => &mut self.arena,
        };
        // The memory of the references writes its arena only; here that is the region in question.
        let (mut memory, place) = (Memory { weights: &[], arena: region }, View { region: Region::Arena, ..*view });
        for r in 0..view.rows {
            for c in 0..view.cols {
                memory.store(&place, r, c, value(&mut self.rng, r, c));
            }
        }
    }

    /// A filled matrix.
    pub fn matrix(
        &mut self,
        region: Region,
        dtype: DType,
        (rows, cols): (usize, usize),
        value: impl FnMut(&mut Rng, usize, usize) -> f64,
    ) -> View {
        let view = self.place(region, dtype, rows, cols);
        self.fill(&view, value);
        view
    }

    /// Normal activations.
    pub fn x(&mut self, dtype: DType, rows: usize, cols: usize) -> View {
        self.matrix(Region::Arena, dtype, (rows, cols), |rng, _, _| rng.normal())
    }

    /// f32 parameters of this mean and deviation.
    pub fn vector(&mut self, cols: usize, mean: f64, deviation: f64) -> View {
        self.matrix(Region::Weights, DType::F32, (1, cols), |rng, _, _| mean + deviation * rng.normal())
    }

    /// Weights of a layer that keeps the size of its input; int8 ones with their scales, for inputs whose int8 rows
    /// have scales near 1/127.
    pub fn weight(&mut self, dtype: DType, rows: usize, cols: usize) -> Weight {
        let deviation = 1.0 / (cols as f64).sqrt();
        if dtype != DType::I8 {
            let data = self.matrix(Region::Weights, dtype, (rows, cols), |rng, _, _| deviation * rng.normal());
            return Weight { data, scale: None, residual: None };
        }
        let data = self.int8(Region::Weights, rows, cols);
        let scale = self
            .matrix(Region::Weights, DType::F32, (1, rows), |rng, _, _| 3.0 * deviation * (0.5 + rng.unit()) / 127.0);
        Weight { data, scale: Some(scale), residual: None }
    }

    /// int8 over the whole of ±127.
    pub fn int8(&mut self, region: Region, rows: usize, cols: usize) -> View {
        self.matrix(region, DType::I8, (rows, cols), |rng, _, _| rng.below(255) as f64 - 127.0)
    }

    /// Numbers below `n`.
    pub fn indices(&mut self, count: usize, n: usize) -> View {
        self.matrix(Region::Arena, DType::U32, (1, count), |rng, _, _| rng.below(n) as f64)
    }

    /// A modulation table with room for `width` columns from a random column on, which comes second.
    pub fn modulation(&mut self, images: usize, width: usize) -> (Modulation, usize) {
        let (rows, first) = (1 + self.rng.below(2 * images), self.rng.below(9));
        let cols = first + width + self.rng.below(4);
        let table = self.matrix(Region::Arena, DType::F32, (rows, cols), |rng, _, _| 0.5 * rng.normal());
        (Modulation { table, rows: self.indices(images, rows) }, first)
    }

    /// A way to see `rows` rows as tokens of images.
    pub fn layout(&mut self, rows: usize) -> TokenLayout {
        let divisors: Vec<usize> = (1..=rows).filter(|d| rows.is_multiple_of(*d)).collect();
        let images = self.rng.pick(&divisors);
        let context_tokens = self.rng.below(rows / images);
        TokenLayout { images, image_tokens: rows / images - context_tokens, context_tokens }
    }

    /// Random bytes, as residuals of int8 weights.
    pub fn residual(&mut self, rows: usize, cols: usize) -> usize {
        let bytes = rows * QuantResidual::bytes(cols);
        self.matrix(Region::Weights, DType::I8, (1, bytes), |rng, _, _| f64::from(rng.bits() as i8)).offset
    }

    /// Places for the shared means of a layout, poisoned.
    pub fn shared_mean(&mut self, layout: TokenLayout, cols: usize) -> SharedMean {
        let row = self.output(DType::I8, layout.images, cols);
        let scale = self.output(DType::F32, 1, layout.images);
        let value = self.output(DType::F32, layout.images, cols);
        SharedMean { row, scale, value, layout }
    }

    /// A place for results: every element is NaN, or -128 in int8.
    pub fn output(&mut self, dtype: DType, rows: usize, cols: usize) -> View {
        let view = self.place(Region::Arena, dtype, rows, cols);
        self.poison(&view);
        view
    }

    /// As [`Draw::output`], with rows as [`Draw::place_aligned`] has them.
    pub fn aligned_output(&mut self, dtype: DType, rows: usize, cols: usize) -> View {
        let view = self.place_aligned(dtype, rows, cols);
        self.poison(&view);
        view
    }

    /// The row scales that an int8 output needs.
    pub fn output_scale(&mut self, out: &View) -> Option<View> {
        (out.dtype == DType::I8).then(|| self.output(DType::F32, 1, out.rows))
    }

    /// Makes every element NaN, or -128 in int8.
    pub fn poison(&mut self, view: &View) {
        let byte = if view.dtype == DType::I8 { 0x80 } else { 0xFF };
        for at in elements(view) {
            self.arena[at..at + view.dtype.size()].fill(byte);
        }
    }

    /// The case, with some bytes after the last view.
    ///
    /// # Panics
    /// If memory runs out.
    pub fn finish(mut self, op: Op, outputs: impl IntoIterator<Item = (View, Tolerance)>) -> Case {
        for bytes in [&mut self.weights, &mut self.arena] {
            bytes.resize_with(bytes.len() + 67, || self.rng.bits() as u8);
        }
        let outputs = outputs.into_iter().map(|(view, tolerance)| Output { view, tolerance }).collect();
        let weights = AlignedBytes::copied(&self.weights).expect("memory");
        Case {
            name: String::new(),
            op,
            weights,
            arena: self.arena,
            outputs,
            scratch: None,
            guarded: Default::default(),
        }
    }
}

impl CaseMemory for Draw {
    fn tensor(&mut self, region: Region, dtype: DType, (rows, cols): (usize, usize), bytes: &[u8]) -> View {
        let view = self.place(region, dtype, rows, cols);
        let region = match region {
            Region::Weights => &mut self.weights,
            Region::Arena => &mut self.arena,
        };
        assert_eq!(bytes.len(), rows * cols * dtype.size());
        for (at, bytes) in elements(&view).zip(bytes.chunks(dtype.size())) {
            region[at..at + dtype.size()].copy_from_slice(bytes);
        }
        view
    }

    fn output(&mut self, dtype: DType, (rows, cols): (usize, usize)) -> View {
        Draw::output(self, dtype, rows, cols)
    }
}
