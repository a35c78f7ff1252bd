//! Descriptors that do not fit are refused, whatever is wrong with them; those that are not refused run in bounds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use denoir::AlignedBytes;
use denoir_core::backend::{Backend, Program, run};
use denoir_core::cpu::{Cpu, Isa};
use denoir_core::ops::{Bounds, InvalidOp, Memory, Op};
use denoir_core::{DType, Region, Serial, View};
use denoir_tests::op_matrix::draw::Rng;
use denoir_tests::op_matrix::parts::{numbers, scales, views, writes};
use denoir_tests::op_matrix::{Case, base_seed, drawn, hash};

/// Cases of a kernel that the tests start from.
const STARTS: usize = 48;
/// Random changes of each of them.
const CHANGES: usize = 200;
/// Regions of the cases that are changed at random, so that whatever still fits is soon run.
const SMALL: usize = 32 << 10;

#[test]
fn a_wrong_view_is_refused() {
    each_start(|case| {
        each_view(&case.op, |i, name, view| {
            for (what, wrong) in wrong_views(case, name, view) {
                let op = with_view(case.op, i, wrong);
                refused(&op, case.bounds(), &format!("{}: {name} {what}", op.name()));
            }
        });
    });
}

#[test]
fn an_output_on_an_input_is_refused() {
    each_start(|case| {
        // Room enough that nothing else is wrong.
        let bounds = Bounds { arena: 4 * case.arena.len(), ..case.bounds() };
        each_view(&case.op, |i, output, out| {
            each_view(&case.op, |_, input, other| {
                let start = other.offset / out.dtype.size() * out.dtype.size();
                let changed = View { offset: start, ..*out };
                if input == output || !writes(&case.op, output) || other.region != out.region {
                    return;
                }
                let op = with_view(case.op, i, changed);
                let e = refused(&op, bounds, &format!("{}: {output} on {input}", op.name()));
                assert!(e.what.contains("overlap"), "{output} on {input} is refused for another reason: {e}: {op:?}");
            });
        });
    });
}

#[test]
fn a_wrong_number_is_refused() {
    each_start(|case| {
        for i in 0..numbers(&mut case.op.clone()).len() {
            for wrong in [0, usize::MAX, usize::MAX / 2 + 1, 1 << (usize::BITS / 2)] {
                let mut op = case.op;
                let (name, number) = numbers(&mut op).swap_remove(i);
                // A first column or byte of 0, no context tokens, no heads of one kind: these are numbers like others.
                let none = ["gate", "shift", "scale", "context_tokens", "rotated_rows", "w_rest", "gate_rest"];
                let none = none.contains(&name);
                if wrong == 0 && (none || matches!(case.op, Op::QkNormRope(_))) {
                    continue;
                }
                *number = wrong;
                refused(&op, case.bounds(), &format!("{}: {name} of {wrong}", op.name()));
            }
        }
    });
}

#[test]
fn row_scales_go_with_int8() {
    each_start(|case| {
        for i in 0..scales(&mut case.op.clone()).len() {
            let mut op = case.op;
            let (name, scale) = scales(&mut op).swap_remove(i);
            *scale = match scale {
                Some(_) => None,
                None => Some(View::dense(Region::Weights, DType::F32, 0, 1, 1)),
            };
            refused(&op, case.bounds(), &format!("{}: {name} without int8, or int8 without it", op.name()));
        }
    });
}

/// Changes numbers at random, often to the largest there are. Checks refuse the result, or it runs without a panic:
/// every index of every kernel is inside its view, and every view inside its region.
#[test]
fn what_passes_its_check_runs_in_bounds() {
    let seed = base_seed();
    println!("seed {seed:#x}");
    let mut ran = 0usize;
    for kernel in Op::NAMES {
        let mut rng = Rng::new(seed ^ hash(kernel));
        let (mut weights, mut arena) = (zeros(SMALL), zeros(SMALL));
        let small = |case: &Case| case.bounds().arena <= SMALL && case.bounds().weights <= SMALL;
        for case in drawn(kernel, STARTS).iter().filter(|case| small(case)) {
            for _ in 0..CHANGES {
                let op = changed(&case.op, &mut rng);
                let run = AssertUnwindSafe(|| in_bounds(&op, &mut weights, &mut arena));
                ran += usize::from(catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed:#x}: {op:#?}")));
            }
        }
        println!("{kernel}: {ran} ran so far");
    }
    assert!(ran > Op::NAMES.len() * CHANGES, "only {ran} ran");
}

/// Whether the kernel runs: its indices are zeros, so that no row that they name is missing.
fn in_bounds(op: &Op, weights: &mut AlignedBytes, arena: &mut AlignedBytes) -> bool {
    let bounds = Bounds { weights: SMALL, arena: SMALL };
    if op.check(&bounds).is_err() {
        return false;
    }
    arena.as_mut_slice().fill(0);
    record(op, &mut Memory { weights: weights.as_slice(), arena: arena.as_mut_slice() });
    arena.as_mut_slice().fill(0);
    for isa in Isa::available() {
        let mut cpu = Cpu::new(weights.as_slice(), arena.as_mut_slice(), &Serial, isa).expect("aligned");
        if op.missing_form(&cpu.precision()).is_none() {
            record(op, &mut cpu);
        }
    }
    true
}

fn record<B: Backend<Error: std::fmt::Debug>>(op: &Op, backend: &mut B) {
    run(backend, Program::once("op", [0; 2]), |k| k.op(op)).expect("checked");
}

/// The descriptor with one to three numbers changed.
fn changed(op: &Op, rng: &mut Rng) -> Op {
    let mut op = *op;
    for _ in 0..1 + rng.below(3) {
        let in_views = 4 * views(&mut op).len();
        let which = rng.below(in_views + numbers(&mut op).len());
        if which < in_views {
            let View { offset, rows, cols, stride, .. } = views(&mut op).swap_remove(which / 4).1;
            change([offset, rows, cols, stride][which % 4], rng);
        } else {
            change(numbers(&mut op).swap_remove(which - in_views).1, rng);
        }
    }
    op
}

fn change(number: &mut usize, rng: &mut Rng) {
    *number = match rng.below(9) {
        0 => rng.pick(&[0, 1, 2, 3, 4]),
        1 => number.wrapping_add(1),
        2 => number.wrapping_sub(1),
        3 => number.wrapping_mul(2),
        4 => *number / 2,
        5 => rng.pick(&[usize::MAX, usize::MAX - 3, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX / 4 + 1]),
        6 => 1 << rng.below(usize::BITS as usize),
        7 => rng.below(64),
        _ => rng.below(SMALL) / 4 * 4,
    };
}

/// Views that no kernel takes in the place of this one.
fn wrong_views(case: &Case, name: &str, view: &View) -> Vec<(&'static str, View)> {
    let (size, v) = (view.dtype.size(), *view);
    let region = match v.region {
        Region::Weights => case.bounds().weights,
        Region::Arena => case.bounds().arena,
    };
    let len = v.len_bytes().expect("a valid view");
    let mut wrong = vec![
        ("begins at its region's end", View { offset: region.next_multiple_of(size), ..v }),
        ("ends past its region", View { offset: (region + size - len).next_multiple_of(size), ..v }),
        ("begins at the end of addresses", View { offset: usize::MAX / size * size, ..v }),
        ("has no rows", View { rows: 0, ..v }),
        ("has no columns", View { cols: 0, ..v }),
        ("has too many rows", View { rows: usize::MAX, ..v }),
        ("has too many columns", View { cols: usize::MAX, stride: usize::MAX, ..v }),
        ("has half of all addresses", View { rows: 2, stride: usize::MAX / 2 + 1, ..v }),
        ("has overlapping rows", View { stride: v.cols - 1, ..v }),
        ("is of another kind", View { dtype: if v.dtype == DType::U32 { DType::F32 } else { DType::U32 }, ..v }),
    ];
    if v.rows > 1 {
        wrong.push(("has rows too far apart", View { stride: usize::MAX, ..v }));
    }
    if size > 1 {
        wrong.push(("is misaligned", View { offset: v.offset + 1, ..v }));
    }
    let other = if v.dtype == DType::I8 { DType::F32 } else { DType::I8 };
    wrong.push(("has another element type", View { dtype: other, stride: v.stride.max(4), ..v }));
    if writes(&case.op, name) {
        wrong.push(("is written and lies among the weights", View { region: Region::Weights, ..v }));
    }
    wrong
}

fn each_start(mut test: impl FnMut(&Case)) {
    for kernel in Op::NAMES {
        let cases = drawn(kernel, STARTS);
        assert!(!cases.is_empty(), "{kernel} has no case");
        for case in cases {
            assert_eq!(case.op.check(&case.bounds()), Ok(()), "{:?}", case.op);
            test(&case);
        }
    }
}

fn each_view(op: &Op, mut test: impl FnMut(usize, &str, &View)) {
    for (i, (name, view)) in views(&mut op.clone()).into_iter().enumerate() {
        test(i, name, view);
    }
}

fn with_view(mut op: Op, i: usize, view: View) -> Op {
    *views(&mut op)[i].1 = view;
    op
}

/// The descriptor is refused, and its check does not panic.
fn refused(op: &Op, bounds: Bounds, what: &str) -> InvalidOp {
    match catch_unwind(|| op.check(&bounds)) {
        Ok(Err(e)) => e,
        Ok(Ok(())) => panic!("{what}: passes: {op:#?}"),
        Err(_) => panic!("{what}: panics: {op:#?}"),
    }
}

fn zeros(len: usize) -> AlignedBytes {
    AlignedBytes::zeroed(len).expect("memory")
}
