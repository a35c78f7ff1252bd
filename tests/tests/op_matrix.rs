//! Every kernel on every backend, against its reference. See `op_matrix` in this crate.

use denoir_core::backend::Backend;
use denoir_core::ops::{Memory, Op};
use denoir_tests::op_matrix::backends::{self, Row};
use denoir_tests::op_matrix::elements;
use denoir_tests::op_matrix::{Case, drawn, failures, run, scalar_hash};

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

/// What the scalar kernels write in [`SCALAR_CASES`] cases each, hashed: the same on every architecture.
const SCALAR: [(&str, u64); 16] = [
    ("linear", 0xd0c7_7ca2_34b1_a545),
    ("class_condition", 0x0e0c_253d_5e41_c039),
    ("context_tokens", 0xc94c_dcf8_7ada_3341),
    ("patchify", 0x71ac_cdf3_8460_211d),
    ("unpatchify", 0xcdf8_92ac_cf3a_4019),
    ("norm_modulate", 0xa910_e49a_56a8_b8a1),
    ("rms_norm", 0x7328_58b3_1ab8_172d),
    ("layer_norm", 0x3fbb_ee72_1546_8dad),
    ("qk_norm_rope", 0xab83_cc09_06b8_ff45),
    ("attention", 0x7490_e682_c7f5_8d59),
    ("causal_attention", 0x9be9_cb39_7b21_ea5d),
    ("swiglu", 0xfda9_3cdf_3641_c185),
    ("quantize_rows", 0xc281_9801_f922_ffab),
    ("gather_rows", 0x362f_3e5a_7022_8a81),
    ("dequantize_blocks", 0x483f_e8c9_fed4_9ed9),
    ("solver_step", 0xf2c1_7c95_0b50_1f41),
];
const SCALAR_CASES: usize = 48;

#[test]
fn scalar_kernels_give_the_same_bytes_everywhere() {
    let here: Vec<_> = Op::NAMES.iter().map(|kernel| (*kernel, scalar_hash(kernel, SCALAR_CASES))).collect();
    let lines: String =
        here.iter().map(|(kernel, hash)| format!("    (\"{kernel}\", {}),\n", grouped(*hash))).collect();
    let cure = "where the scalar arithmetic or the cases were meant to change, `SCALAR` becomes";
    assert!(here == SCALAR, "other bytes; {cure}\n{lines}");
}

/// A hash as the table has it.
fn grouped(hash: u64) -> String {
    let parts = [48, 32, 16, 0].map(|shift| format!("{:04x}", hash >> shift & 0xffff));
    format!("0x{}", parts.join("_"))
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
fn forms_that_a_backend_lacks_are_refused() {
    let rows = backends::rows();
    let mut tried = 0;
    for kernel in ["linear", "norm_modulate", "quantize_rows", "qk_norm_rope", "attention", "gather_rows"] {
        let cases = drawn(kernel, usize::MAX);
        for row in &rows {
            let Some(run) = row.runs(kernel) else { continue };
            let Some(case) = cases.iter().rfind(|case| case.op.missing_form(&row.forms).is_some()) else { continue };
            let refused = run(case).err().is_some_and(|error| error.contains("Form"));
            assert!(refused, "{}: {kernel}: {}", row.name, case.name);
            tried += 1;
        }
    }
    assert!(tried > 0, "no form was tried");
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
    let forms = Memory { weights: &[], arena: &mut [] }.precision();
    Row { same_bytes: "reference".into(), forms, ..Row::new(name.into(), Ok(Box::new(run))) }
}

#[cfg(unix)]
mod forbidden_pages {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use denoir_core::Serial;
    use denoir_core::backend::{self, Program};
    use denoir_core::cpu::{Cpu, Isa};
    use denoir_core::ops::Op;
    use denoir_tests::op_matrix::{Edge, drawn};

    /// What a kernel does if one of its views is an element off.
    const TOUCHES: [(&str, Edge); 4] = [
        ("reads past its weights", Edge::End),
        ("reads past its input", Edge::End),
        ("reads before its input", Edge::Start),
        ("writes past its output", Edge::End),
    ];

    #[test]
    fn a_kernel_that_touches_an_element_too_far_ends_the_process_and_is_named() {
        const VARIABLE: &str = "DENOIR_TEST_TOUCH";
        let ways = || Isa::available().flat_map(|isa| TOUCHES.map(|(what, edge)| (isa, what, edge)));
        let label = |isa: Isa, what: &str| format!("linear on {} that {what}", isa.name());
        if let Ok(asked_for) = std::env::var(VARIABLE) {
            let (isa, what, edge) = ways().find(|(isa, what, _)| label(*isa, what) == asked_for).expect("one of them");
            return touch(isa, what, edge, &asked_for);
        }
        for (isa, what, _) in ways() {
            let mut child = Command::new(std::env::current_exe().expect("this program"));
            child.args([
                "forbidden_pages::a_kernel_that_touches_an_element_too_far_ends_the_process_and_is_named",
                "--exact",
                "--nocapture",
            ]);
            let label = label(isa, what);
            // An emulator starts programs of the machine alone: others are not there, or the shell's to try.
            let output = child.env(VARIABLE, &label).output();
            let Some(output) = output.ok().filter(|output| output.status.code() != Some(127)) else {
                writeln!(std::io::stderr(), "skipped: this program cannot start itself").expect("a line");
                return;
            };
            let text = String::from_utf8_lossy(&output.stderr);
            let signal = output.status.signal();
            assert!(matches!(signal, Some(libc::SIGSEGV | libc::SIGBUS)), "{label}: {}: {text}", output.status);
            assert!(text.contains(&format!("not its own: {label}\n")), "{label}: {text}");
        }
    }

    fn touch(isa: Isa, what: &str, edge: Edge, label: &str) {
        let case = &drawn("linear", 3)[1];
        let kernel = |weights: &[u8], arena: &mut [u8], op: &Op| {
            let Op::Linear(mut op) = *op else { unreachable!("a linear layer") };
            match what {
                "reads past its weights" => op.w.data.offset += op.w.data.dtype.size(),
                "reads past its input" => op.x.offset += op.x.dtype.size(),
                "reads before its input" => op.x.offset -= op.x.dtype.size(),
                _ => op.out.offset += op.out.dtype.size(),
            }
            let mut cpu = Cpu::new(weights, arena, &Serial, isa).expect("aligned");
            backend::run(&mut cpu, Program::replayed("op", [0; 2]), |k| k.linear(&op)).map_err(|e| e.to_string())
        };
        let result = case.run_guarded(edge, label, kernel);
        println!("still here: {result:?}");
    }
}
