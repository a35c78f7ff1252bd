use denoir_core::DType;
use denoir_core::ops::{Epilogue, Linear};

use super::cut::LinearCut;
use super::linear_matrix::{self, Room};
use super::linear_texel;
use crate::Error;
use crate::launch::{Bound, Launch, Launcher, element_type, layout_words, word};
use crate::shader::Shader;
use crate::tier::Tiers;

/// Sizes of a workgroup's tile: rows and columns of `out`, and the step along K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    threads: usize,
    lanes: usize,
    /// Rows and columns per invocation.
    tm: usize,
    tn: usize,
    bk: usize,
}

impl Tile {
    const fn rows(&self) -> usize {
        self.threads / self.lanes * self.tm
    }

    const fn cols(&self) -> usize {
        self.lanes * self.tn
    }
}

const LARGE: Tile = Tile { threads: 128, lanes: 16, tm: 8, tn: 4, bk: 16 };
/// For products too small to keep a large device busy with large tiles.
const SMALL: Tile = Tile { threads: 128, lanes: 16, tm: 4, tn: 2, bk: 16 };
/// Large tiles that keep a large device busy.
const BUSY: usize = 96;

pub(crate) fn launch(on: &mut Launcher, op: &Linear) -> Result<(), Error> {
    let (m, n, k) = (op.x.rows, op.out.cols, op.x.cols);
    let tiers = on.tiers;
    let room = Room::new(&on.device().about);
    let matrices = tiers.matrix.and_then(|matrix| linear_matrix::cut(&matrix, room, op));
    let texels = || if on.device().about.is_processor() { linear_texel::cut(op) } else { None };
    let cut = matrices.or_else(texels).unwrap_or_else(|| tiled(&tiers, op));
    let mut l = Launch::new(on, cut.shader);
    l.subgroup(cut.subgroup);
    cut.constants.iter().for_each(|&(id, value)| l.constant(id, value));
    let x = l.read(&op.x)?;
    let w = l.read(&op.w.data)?;
    let bias = l.read_some(op.bias.as_ref())?;
    if let Some((elements, constant)) = cut.vector {
        l.constant(constant, u32::from(aligned(x, elements) && aligned(w, elements) && k >= elements));
    }
    let mut table = Bound::default();
    let mut rows = Bound::default();
    let mut period = 0;
    let mut layout = [0; 3];
    match &op.epilogue {
        Epilogue::AddPeriodic(view) => {
            (table, rows, period) = (l.read(view)?, l.nothing(), view.rows);
        }
        Epilogue::GatedResidual { modulation, gate, layout: of } => {
            (table, rows) = l.modulation(modulation)?;
            table.at += word(*gate);
            layout = layout_words(of);
        }
        Epilogue::Store | Epilogue::Silu | Epilogue::Swiglu { .. } | Epilogue::Residual => {
            l.nothing();
            l.nothing();
        }
    }
    let out = l.write(&op.out)?;
    let (mut x_scale, mut w_scale) = (Bound::default(), Bound::default());
    // Texel kernels bind them for every type.
    if cut.shader.bindings() > 6 {
        x_scale = l.read_some(op.x_scale.as_ref())?;
        w_scale = l.read_some(op.w.scale.as_ref())?;
    }
    let [images, image_tokens, context_tokens] = layout;
    #[rustfmt::skip]
    let args = [
        x.at, x.stride, w.at, w.stride, bias.at, table.at, table.stride, rows.at, out.at, out.stride,
        x_scale.at, w_scale.at, word(m), word(n), word(k), word(period), images, image_tokens, context_tokens,
        epilogue(&op.epilogue), u32::from(op.bias.is_some()),
    ];
    l.run(&args, cut.groups((m, n)), 2 * m * n * k)
}

/// Chooses workgroups without cooperative matrices.
pub(crate) fn tiled(tiers: &Tiers, op: &Linear) -> LinearCut {
    let shader = match op.x.dtype {
        DType::I8 if tiers.int8 => Shader::LinearInt8Dot,
        DType::I8 => Shader::LinearInt8,
        DType::F16 if tiers.fp16 => Shader::LinearFp16,
        DType::BF16 if tiers.packed => Shader::LinearPacked,
        _ => Shader::Linear,
    };
    let large = op.x.rows.div_ceil(LARGE.rows()) * op.out.cols.div_ceil(LARGE.cols()) >= BUSY;
    let mut tile = if large { LARGE } else { SMALL };
    let int8 = op.x.dtype == DType::I8;
    tile.bk *= if int8 { 4 } else { 1 };
    let sizes = [tile.threads, tile.lanes, tile.tm, tile.tn, tile.bk].map(word);
    let mut constants: Vec<(u32, u32)> = (0..).zip(sizes).collect();
    if !int8 {
        constants.extend([(5, element_type(op.x.dtype)), (6, element_type(op.w.data.dtype))]);
    }
    LinearCut { shader, constants, rows: tile.rows(), cols: tile.cols(), vector: Some((4, 7)), subgroup: None }
}

/// The shaders' number for the epilogue.
fn epilogue(of: &Epilogue) -> u32 {
    match of {
        Epilogue::Store => 0,
        Epilogue::Silu => 1,
        Epilogue::AddPeriodic(_) => 2,
        Epilogue::GatedResidual { .. } => 3,
        Epilogue::Residual => 4,
        Epilogue::Swiglu { .. } => unreachable!("core refuses what the device's precision excludes"),
    }
}

/// Returns whether every row is aligned to this many elements, so that one load can fetch them.
fn aligned(bound: Bound, elements: usize) -> bool {
    [bound.at, bound.stride].iter().all(|&n| (n as usize).is_multiple_of(elements))
}
