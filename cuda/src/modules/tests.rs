//! Checks of the compiled kernels without a device: their names, arguments and blocks match the launches.

use std::collections::BTreeSet;
use std::path::Path;

use denoir_core::ops::Op;

use miniz_oxide::inflate::decompress_to_vec;

use super::{COMPILED, CUDA_13, Kernel, image, overlap};
use crate::kernels::{self, *};

/// An attribute of a kernel that says the size of its arguments, by the number that the format gives it.
const PARAMETER_BYTES: u8 = 0x19;
/// Attributes whose value is in their head.
const SHORT: [u8; 3] = [1, 2, 3];
/// Shared memory of a block on the smallest devices, compute capability 8.6 and 8.9.
const MOST_SHARED: u32 = 99 << 10;

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + N].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn text(bytes: &[u8], at: usize) -> &str {
    let end = bytes[at..].iter().position(|byte| *byte == 0).expect("an end");
    std::str::from_utf8(&bytes[at..at + end]).expect("text")
}

/// Names and contents of an ELF file's sections.
fn sections(elf: &[u8]) -> Vec<(&str, &[u8])> {
    assert_eq!(&elf[..5], b"\x7fELF\x02", "a 64-bit ELF file");
    let (table, size) = (number::<8>(elf, 40) as usize, number::<2>(elf, 58) as usize);
    let header = |i: usize| &elf[table + i * size..][..size];
    let names = number::<8>(header(number::<2>(elf, 62) as usize), 24) as usize;
    let section = |i| {
        let header = header(i);
        let name = text(elf, names + number::<4>(header, 0) as usize);
        // A section without bits, such as shared memory, lies nowhere.
        let bits = number::<4>(header, 4) != 8;
        let (at, len) = (number::<8>(header, 24) as usize, number::<8>(header, 32) as usize);
        (name, if bits { &elf[at..at + len] } else { &[] })
    };
    (0..number::<2>(elf, 60) as usize).map(section).collect()
}

/// Bytes of a kernel's arguments.
fn parameter_bytes(mut attributes: &[u8]) -> Option<u64> {
    while let [format, attribute, rest @ ..] = attributes {
        let value = number::<2>(rest, 0);
        if *attribute == PARAMETER_BYTES {
            return Some(value);
        }
        attributes = &rest[if SHORT.contains(format) { 2 } else { 2 + value as usize }..];
    }
    None
}

#[test]
fn cubins_hold_every_kernel_with_its_arguments() {
    for kernel in kernels::all() {
        let compiled = COMPILED.iter().find(|compiled| compiled.stem == kernel.stem).expect("a module");
        for ((major, minor), cubin) in compiled.cubins {
            let cubin = &*decompress_to_vec(cubin).expect("a module");
            let at = format!("{} on {major}.{minor}", kernel.name);
            // From the format's version 8 on, CUDA 13's, the architecture is a byte further.
            let architecture = (number::<4>(cubin, 48) >> (if cubin[8] >= 8 { 8 } else { 0 })) & 0xff;
            assert_eq!(architecture, u64::from(10 * major + minor), "{at}: another architecture");
            let sections = sections(cubin);
            let find = |name: String| sections.iter().find(|(found, _)| *found == name).map(|(_, bytes)| *bytes);
            let code = find(format!(".text.{}", kernel.name)).expect(&at);
            let attributes = find(format!(".nv.info.{}", kernel.name)).expect(&at);
            assert!(!code.is_empty(), "{at}: no code");
            assert_eq!(parameter_bytes(attributes), Some(kernel.args as u64), "{at}: other arguments");
        }
    }
}

#[test]
fn ptx_holds_the_same_kernels_with_their_threads() {
    let mut found = BTreeSet::new();
    for compiled in COMPILED {
        let ptx = String::from_utf8(decompress_to_vec(compiled.ptx).expect("a module")).expect("text");
        assert!(ptx.contains(".version 8.5\n.target sm_80\n"), "{}: another version", compiled.stem);
        for entry in ptx.split(".entry ").skip(1) {
            let name = entry.split('(').next().expect("a name").to_owned();
            let kernel = kernels::all().into_iter().find(|kernel| kernel.name == name).expect(&name);
            assert_eq!(kernel.stem, compiled.stem, "{name}: in another file");
            assert!(entry.contains(&format!(".b8 {name}_param_0[{}]", kernel.args)), "{name}: other arguments");
            assert!(entry.contains(&format!(".maxntid {}, 1, 1", kernel.threads)), "{name}: other blocks");
            found.insert(name);
        }
    }
    assert_eq!(found, kernels::all().iter().map(|kernel| kernel.name.to_owned()).collect(), "kernels");
}

#[test]
fn every_operation_has_a_file() {
    let stems: BTreeSet<_> = COMPILED.iter().map(|compiled| compiled.stem).collect();
    // What the program itself gets is no operation of a network.
    assert_eq!(stems, Op::NAMES.iter().copied().chain(["pixels"]).collect());
}

#[test]
fn each_device_gets_its_own_cubin_and_later_ones_ptx() {
    let linear = COMPILED.iter().find(|compiled| compiled.stem == "linear").expect("compiled");
    let of = |wanted| linear.cubins.iter().find(|(of, _)| *of == wanted).expect("a cubin").1.as_ptr();
    for (device, cubin) in
        [((8, 0), (8, 0)), ((8, 6), (8, 0)), ((8, 9), (8, 0)), ((8, 7), (8, 7)), ((9, 0), (9, 0)), ((12, 1), (12, 0))]
    {
        assert_eq!(image("linear", device, CUDA_13).as_ptr(), of(cubin), "{device:?}");
    }
    // Later devices, and those whose driver compiles.
    assert_eq!(image("linear", (13, 0), CUDA_13).as_ptr(), linear.ptx.as_ptr());
    assert_eq!(image("linear", (12, 0), 12080).as_ptr(), linear.ptx.as_ptr());
    assert_eq!(image("linear", (9, 0), 12000).as_ptr(), of((9, 0)));
}

#[test]
fn kernels_overlap_only_where_they_wait() {
    let wait = [
        ((8, 0), CUDA_13),
        ((8, 7), CUDA_13),
        ((9, 0), 12020),
        ((9, 0), 12030),
        ((11, 0), 12080),
        ((12, 1), CUDA_13),
        ((13, 0), CUDA_13),
    ]
    .map(|(device, driver)| overlap(device, driver));
    assert_eq!(wait, [false, false, false, true, false, true, false]);
    // PTX, which later devices compile, has no such wait.
    for compiled in COMPILED {
        let ptx = String::from_utf8(decompress_to_vec(compiled.ptx).expect("a module")).expect("text");
        assert!(!ptx.contains("griddepcontrol"), "{}", compiled.stem);
    }
}

#[test]
fn shared_memory_fits_every_device() {
    for Kernel { name, shared, .. } in kernels::all() {
        assert!(shared <= MOST_SHARED, "{name}: {shared} bytes of shared memory");
    }
}

/// Size and alignment of a type in the kernels' sources.
fn layout(kind: &str) -> (usize, usize) {
    match kind {
        "u32" | "float" => (4, 4),
        "Tokens" => (12, 4),
        "AnyMatrix" => (16, 8),
        _ if kind.starts_with("Matrix<") => (16, 8),
        _ if kind.ends_with('*') => (8, 8),
        _ => panic!("{kind} is no type of an argument"),
    }
}

/// Names, offsets and sizes of a structure's fields, as C++ lays them out.
fn fields(source: &str, name: &str) -> Vec<(String, usize, usize)> {
    let (_, body) = source.split_once(&format!("struct {name} {{\n")).expect(name);
    let mut end = 0usize;
    let field = |line: &str| {
        let (kind, field) = line.trim().trim_end_matches(';').rsplit_once(' ').expect(name);
        let (size, alignment) = layout(kind);
        let offset = end.next_multiple_of(alignment);
        end = offset + size;
        (field.to_owned(), offset, size)
    };
    // Methods come after an empty line.
    body.lines().take_while(|line| !["", "};"].contains(line)).map(field).collect()
}

#[test]
fn arguments_are_laid_out_as_in_the_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let check = |file: &str, name: &str, ours: &[(&str, usize, usize)]| {
        let source = std::fs::read_to_string(folder.join(file)).expect(file);
        let ours: Vec<_> = ours.iter().map(|(name, at, size)| ((*name).to_owned(), *at, *size)).collect();
        assert_eq!(fields(&source, name), ours, "{name}");
    };
    macro_rules! check {
        ($($file:literal $stem:ident $name:ident,)*) => { $(check($file, stringify!($name), $stem::$name::FIELDS);)* };
    }
    check! {
        "attention.cu" attention AttentionArgs,
        "causal_attention.cu" causal_attention CausalAttentionArgs,
        "class_condition.cu" class_condition ClassConditionArgs,
        "context_tokens.cu" context_tokens ContextTokensArgs,
        "dequantize_blocks.cu" dequantize_blocks DequantizeBlocksArgs,
        "epilogue.cuh" linear LinearArgs,
        "gather_rows.cu" gather_rows GatherRowsArgs,
        "layer_norm.cu" layer_norm LayerNormArgs,
        "norm_modulate.cu" norm_modulate NormModulateArgs,
        "patchify.cu" patchify PatchifyArgs,
        "pixels.cu" pixels PixelsArgs,
        "qk_norm_rope.cu" qk_norm_rope QkNormRopeArgs,
        "quantize_rows.cu" quantize_rows QuantizeRowsArgs,
        "rms_norm.cu" rms_norm RmsNormArgs,
        "solver_step.cu" solver_step SolverStepArgs,
        "swiglu.cu" swiglu SwigluArgs,
        "unpatchify.cu" unpatchify UnpatchifyArgs,
    }
}
