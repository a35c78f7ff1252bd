//! Every kernel on every backend, against its reference. See `op_matrix` in this crate.

use denoir_core::ops::{Memory, Op};
use denoir_tests::op_matrix::backends::Row;
use denoir_tests::op_matrix::draw::elements;
use denoir_tests::op_matrix::{Case, drawn, failures, run};

macro_rules! kernels {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn every_kernel_is_here() {
            let here = [$(stringify!($name)),*];
            assert!(Op::NAMES.iter().all(|name| here.contains(name)), "{:?} are not {here:?}", Op::NAMES);
        }
    };
}

kernels! {
    linear class_condition context_tokens patchify unpatchify norm_modulate rms_norm layer_norm qk_norm_rope attention
    causal_attention swiglu quantize_rows gather_rows dequantize_blocks solver_step
}

/// Damages what a kernel wrote.
type Damage = fn(&Case, &mut Vec<u8>);

/// The matrix is worth what it sees: kernels with one defect each, made from the references.
#[test]
fn a_wrong_kernel_is_seen() {
    let defects: [(&str, Damage); 5] = [
        ("leaves its last element", |case, after| {
            let view = &case.outputs[0].view;
            let last = elements(view).last().expect("an output");
            let bytes = last..last + view.dtype.size();
            after[bytes.clone()].copy_from_slice(&case.arena[bytes]);
        }),
        ("writes past its output", |_, after| {
            let last = after.len() - 1;
            after[last] ^= 1;
        }),
        ("writes NaN", |case, after| {
            let first = case.outputs[0].view.offset;
            after[first..first + 4].fill(0xFF);
        }),
        ("is off by a fiftieth", |case, after| {
            let view = &case.outputs[0].view;
            let (row, col) = (view.rows - 1, view.cols / 2);
            let mut memory = Memory { weights: &[], arena: after };
            let value = memory.load(view, row, col);
            memory.store(view, row, col, 1.02 * value + 0.02);
        }),
        ("does nothing", |case, after| after.clone_from(&case.arena)),
    ];
    for (what, damage) in defects {
        for kernel in ["linear", "norm_modulate", "rms_norm", "attention", "solver_step", "unpatchify"] {
            let case = &drawn(kernel, 3)[1];
            let rows = [row("wrong", damage)];
            let failures = failures(case, &rows);
            assert_eq!(failures.len(), 1, "{kernel} that {what} is not seen");
        }
    }
}

#[test]
fn other_bytes_on_other_threads_are_seen() {
    let one_bit: Damage = |case, after| after[case.outputs[0].view.offset] ^= 1;
    let case = &drawn("linear", 3)[1];
    assert_eq!(failures(case, &[row("1", |_, _| ()), row("3", |_, _| ())]), Vec::<String>::new());
    let failures = failures(case, &[row("1", |_, _| ()), row("3", one_bit)]);
    assert!(failures.len() == 1 && failures[0].contains("other bytes than on 1"), "{failures:?}");
}

#[test]
#[should_panic(expected = "no case ran")]
fn no_case_is_a_failure() {
    run("no_such_kernel");
}

fn row(name: &str, damage: Damage) -> Row {
    let run = move |case: &Case| {
        let mut after = case.reference()?;
        damage(case, &mut after);
        Ok(after)
    };
    Row { name: name.into(), same_bytes: "reference".into(), only: None, run: Ok(Box::new(run)) }
}
