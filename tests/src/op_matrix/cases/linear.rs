use denoir_core::DType::{self, BF16, F16, F32, I8};
use denoir_core::ops::{Epilogue, Linear, Op};
use denoir_core::{Region, Weight};

use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Output, Table, Tolerance};

/// Activations and weights: the rows of the contract's table.
const TYPES: [(DType, DType); 6] = [(F32, F32), (F32, F16), (F32, BF16), (F16, F16), (BF16, BF16), (I8, I8)];
const EPILOGUES: [&str; 5] = ["store", "silu", "add_periodic", "residual", "gated_residual"];
/// Output types of a fused SwiGLU.
const PRODUCTS: [DType; 3] = [F32, F16, BF16];
/// m, n, k of layers of real models, reduced until the reference is fast enough.
const REAL: [(usize, usize, usize); 4] = [(96, 96, 1152), (33, 288, 1152), (17, 100, 3413), (37, 101, 520)];

/// x · w is near 1, and so are its partial sums. Where one lane adds all of them up, k roundings of 2^-25 each wander
/// off by √k of that, in a thousand results by four times as much.
const SUMS: &str = "k roundings of sums near 1, and those of what is added to them";

pub(super) fn cases(table: &mut Table) {
    let mut shapes = Vec::new();
    for m in [1, 2, 3, 5, 7, 17, 65] {
        for n in [1, 3, 4, 5, 33, 70] {
            shapes.extend([1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 213, 341].map(|k| (m, n, k)));
        }
    }
    shapes.extend(REAL);
    for (i, (x, w)) in TYPES.into_iter().enumerate() {
        // Every second shape, the others with the next type: each pair of two sizes meets every type.
        let drawn = |j: &usize| (i + j + j / 12 + j / 72).is_multiple_of(2) || *j >= shapes.len() - REAL.len();
        for (j, &(m, n, k)) in shapes.iter().enumerate().filter(|(j, _)| drawn(j)) {
            let epilogue = EPILOGUES[(i + j / 2) % 5];
            let name = format!("{x}·{w} {m}×{n}×{k} {epilogue}");
            table.add(name, move |d| case(d, (x, w), (m, n, k), epilogue, Form::default()));
        }
    }
    for (j, &(m, n, k)) in shapes.iter().enumerate().filter(|(j, _)| j % 3 == 0 || *j >= shapes.len() - REAL.len()) {
        let epilogue = EPILOGUES[j / 3 % 5];
        let shared_mean = Some(if j % 2 == 0 { Finer::QuantResidual } else { Finer::No });
        let form = Form { centred: shared_mean, ..Form::default() };
        table.add(format!("centred {m}×{n}×{k} {epilogue}"), move |d| case(d, (I8, I8), (m, n, k), epilogue, form));
    }
    for (i, (x, w)) in TYPES.into_iter().enumerate() {
        let drawn = |j: &usize| (i + j).is_multiple_of(7) || *j >= shapes.len() - REAL.len();
        for (j, &(m, n, k)) in shapes.iter().enumerate().filter(|(j, _)| drawn(j)) {
            let out = PRODUCTS[j / 7 % 3];
            let shared_mean = (x == I8 && j % 2 == 0).then_some(Finer::QuantResidual);
            let form = Form { aligned: false, centred: shared_mean };
            table.add(format!("{x}·{w} {m}×{n}×{k} swiglu {out}"), move |d| swiglu(d, (x, w), (m, n, k), out, form));
        }
    }
    // Rows as plans have them, for the kernels that need them, around the edges of their tiles and slabs.
    for (i, (x, w)) in TYPES.into_iter().enumerate() {
        let edges =
            [(1, 1, 1), (64, 64, 32), (65, 129, 33), (63, 127, 150), (128, 128, 64), (129, 65, 341), (200, 131, 100)];
        for (j, (m, n, k)) in edges.into_iter().chain(REAL).enumerate() {
            let epilogue = EPILOGUES[(i + j) % 5];
            let name = format!("aligned {x}·{w} {m}×{n}×{k} {epilogue}");
            let form = Form { aligned: true, centred: None };
            table.add(name, move |d| case(d, (x, w), (m, n, k), epilogue, form));
            let out = PRODUCTS[(i + j) % 3];
            table.add(format!("aligned {x}·{w} {m}×{n}×{k} swiglu {out}"), move |d| {
                swiglu(d, (x, w), (m, n, k), out, form)
            });
        }
    }
    for (m, n, k) in [(5, 5, 341), (2, 3, 3413)] {
        table.add(format!("int8 at ±127 {m}×{n}×{k}"), move |d| saturated(d, m, n, k));
    }
}

/// The form of the activations.
#[derive(Clone, Copy, Default)]
struct Form {
    /// Whether rows start at multiples of 64 bytes.
    aligned: bool,
    /// Whether they are centred, and by which weights the shared mean is multiplied.
    centred: Option<Finer>,
}

/// The weights that multiply the shared mean of int8 activations.
#[derive(Clone, Copy, PartialEq)]
enum Finer {
    /// The weights.
    No,
    /// The weights plus their residuals.
    QuantResidual,
}

fn case(
    mut d: Draw,
    (xt, wt): (DType, DType),
    (m, n, k): (usize, usize, usize),
    epilogue: &str,
    Form { aligned, centred }: Form,
) -> Case {
    let x = if aligned { d.place_aligned(xt, m, k) } else { d.place(Region::Arena, xt, m, k) };
    d.fill(&x, |rng, _, _| if xt == I8 { rng.below(255) as f64 - 127.0 } else { rng.normal() });
    let x_scale = (xt == I8).then(|| d.matrix(Region::Arena, F32, (1, m), |rng, _, _| (0.5 + rng.unit()) / 127.0));
    let w = matrix(&mut d, wt, (n, k), centred);
    let shared_mean = centred.map(|_| {
        let layout = d.layout(m);
        let shared_mean = d.shared_mean(layout, k);
        d.fill(&shared_mean.row, |rng, _, _| rng.below(255) as f64 - 127.0);
        d.fill(&shared_mean.scale, |rng, _, _| (0.5 + rng.unit()) / 127.0);
        shared_mean
    });
    let bias = (d.rng.below(4) > 0).then(|| d.vector(n, 0.0, 1.0));
    let epilogue = match epilogue {
        "silu" => Epilogue::Silu,
        "add_periodic" => {
            let period = 1 + d.rng.below(m);
            Epilogue::AddPeriodic(d.matrix(Region::Weights, F32, (period, n), |rng, _, _| rng.normal()))
        }
        "residual" => Epilogue::Residual,
        "gated_residual" => {
            let layout = d.layout(m);
            let (modulation, gate) = d.modulation(layout.images, n);
            Epilogue::GatedResidual { modulation, gate, layout }
        }
        _ => Epilogue::Store,
    };
    let out = match epilogue {
        Epilogue::Residual | Epilogue::GatedResidual { .. } => d.x(F32, m, n),
        _ if aligned => d.aligned_output(F32, m, n),
        _ => d.output(F32, m, n),
    };
    let op = Op::Linear(Linear { x, x_scale, shared_mean, w, bias, out, epilogue });
    let products = if centred.is_some() { 2.0 } else { 1.0 };
    let abs = 1e-6 + 2.5e-7 * (products * k as f64).sqrt();
    let tolerance = Tolerance::close(abs, 1e-6, SUMS);
    // Sums of f32 and int8 products are not truncated.
    let tolerance = if matches!(xt, F16 | BF16) { tolerance.truncated_sums(k) } else { tolerance };
    let tolerance = if xt == BF16 { tolerance.packed_sums(k) } else { tolerance };
    d.finish(op, [(out, tolerance)])
}

fn swiglu(mut d: Draw, (xt, wt): (DType, DType), (m, n, k): (usize, usize, usize), out: DType, form: Form) -> Case {
    let gate = matrix(&mut d, wt, (n, k), form.centred);
    let bias = (d.rng.below(4) > 0).then(|| d.vector(n, 0.0, 1.0));
    let out = if form.aligned { d.aligned_output(out, m, n) } else { d.output(out, m, n) };
    let product = case(d, (xt, wt), (m, n, k), "store", form);
    let Op::Linear(op) = product.op else { unreachable!("a linear layer") };
    let op = Op::Linear(Linear { out, epilogue: Epilogue::Swiglu { gate, bias }, ..op });
    // Both factors are a few at most, and each is as close as a layer's output.
    let Tolerance { abs, rel, .. } = product.outputs[0].tolerance;
    let tolerance = Tolerance::close(8.0 * abs, 8.0 * rel, SUMS).rounded_to(out.dtype);
    Case { op, outputs: vec![Output { view: out, tolerance }], ..product }
}

/// Weights, with residuals if shared means are multiplied by them.
fn matrix(d: &mut Draw, dtype: DType, (n, k): (usize, usize), centred: Option<Finer>) -> Weight {
    let mut w = d.weight(dtype, n, k);
    if centred == Some(Finer::QuantResidual) {
        w.residual = Some(d.residual(n, k));
    }
    w
}

/// The largest sum that k products can make, whose f32 value is still exact to a unit in the last place.
fn saturated(mut d: Draw, m: usize, n: usize, k: usize) -> Case {
    let x = d.matrix(Region::Arena, I8, (m, k), |_, r, _| if r % 2 == 0 { 127.0 } else { -127.0 });
    let x_scale = Some(d.matrix(Region::Arena, F32, (1, m), |_, _, _| 1.0));
    let mut w = d.weight(I8, n, k);
    w.data = d.matrix(Region::Weights, I8, (n, k), |_, r, _| if r % 3 == 0 { -127.0 } else { 127.0 });
    let out = d.output(F32, m, n);
    let op = Op::Linear(Linear { x, x_scale, shared_mean: None, w, bias: None, out, epilogue: Epilogue::Store });
    d.finish(op, [(out, Tolerance::close(0.0, 3e-7, "the sum and two products round once each"))])
}
