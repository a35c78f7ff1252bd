//! Instructions that multiply: how much, and what a loop of nothing else looks like.

use super::asm::{Loop, identifiers, mnemonic};

/// Functions that kernels of an instruction set are compiled in are called this and the level's name.
const TILE: &str = "tile_";
/// Their callers are in here. A kernel for what all machines have may become part of them.
const LAUNCH: &str = "launch";
/// A loop with fewer of them multiplies on the side, or is the rest of another.
const LEAST: usize = 4;
/// Instructions of loops that are no sums of products, but compute a function of each element.
const OF_ELEMENTS: &[&str] = &["vmulps", "vdivps", "vsqrtps", "fmul", "fdiv", "fsqrt"];

/// Registers that an instruction works on.
struct Registers {
    /// What their names start with.
    name: &'static str,
    bytes: usize,
    /// Sums that a loop of products alone keeps.
    sums: usize,
}

/// Of x86_64, the widest first.
const REGISTERS: &[Registers] = &[
    Registers { name: "tmm", bytes: 1024, sums: 4 },
    Registers { name: "zmm", bytes: 64, sums: 24 },
    Registers { name: "ymm", bytes: 32, sums: 12 },
    Registers { name: "xmm", bytes: 16, sums: 12 },
];
/// Of aarch64.
const VECTOR: Registers = Registers { name: "", bytes: 16, sums: 24 };

/// An instruction that multiplies.
struct Instruction {
    name: &'static str,
    /// Products for each byte of a register, as a fraction.
    products: (usize, usize),
    /// What is multiplied; of f32 sums it is what the weights are widened from.
    of: &'static str,
    /// Shapes of its operands on aarch64.
    shapes: [&'static str; 2],
}

const fn x86(name: &'static str, products: (usize, usize), of: &'static str) -> Instruction {
    Instruction { name, products, of, shapes: [""; 2] }
}

const fn neon(name: &'static str, products: usize, of: &'static str, shapes: [&'static str; 2]) -> Instruction {
    Instruction { name, products: (products, 16), of, shapes }
}

/// Where two of them are in a loop, the first is what multiplies: the other then adds pairs.
const INSTRUCTIONS: &[Instruction] = &[
    x86("tdpbssd", (16, 1), "int8"),
    x86("tdpbf16ps", (8, 1), "bf16"),
    x86("vpdpbusd", (1, 1), "int8"),
    x86("vdpbf16ps", (1, 2), "bf16"),
    x86("vpmaddubsw", (1, 1), "int8"),
    x86("vpmaddwd", (1, 2), "int8"),
    x86("vfmadd", (1, 4), "f32"),
    neon("smmla", 32, "int8", [".4s", ".16b"]),
    neon("sdot", 16, "int8", [".4s", ".16b"]),
    neon("bfmmla", 16, "bf16", [".4s", ".8h"]),
    neon("bfdot", 8, "bf16", [".4s", ".8h"]),
    neon("smull", 8, "int8", [".8h", ".8b"]),
    neon("fmla", 4, "f32", [".4s", ".4s"]),
];

/// What a loop multiplies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Products {
    /// The level's name.
    pub(super) level: String,
    /// Kernel, types and instructions: what tells it from the level's other loops.
    pub(super) name: String,
    /// Products of elements in a step.
    pub(super) count: usize,
    /// Its instructions that multiply.
    pub(super) instructions: usize,
    /// Which of [`INSTRUCTIONS`] they are, the choice of an encoding before them, and the name of their registers: for
    /// [`Products::peak`].
    kind: usize,
    encoding: &'static str,
    registers: &'static str,
}

impl Products {
    /// Those of a loop; `None` if it is no loop of products of a level. `every` is the level, if any, that all machines
    /// have.
    pub(super) fn of(found: &Loop, every: Option<&str>) -> Option<Products> {
        let names = identifiers(&found.function);
        let at = names.iter().position(|name| name.starts_with(TILE) || *name == LAUNCH)?;
        let level = match names[at].strip_prefix(TILE) {
            Some(level) => level.replace('_', "-"),
            None => every?.to_owned(),
        };
        let kernel: Vec<&str> = names[at + 1..].iter().copied().filter(|name| *name != "Kernel").collect();
        let has = |name: &str| found.body.iter().any(|line| mnemonic(line) == name);
        if OF_ELEMENTS.iter().any(|name| has(name)) {
            return None;
        }
        let is = |line: &&String, kind: &Instruction| is_of(line, kind);
        let kind = INSTRUCTIONS.iter().position(|kind| found.body.iter().any(|line| is_of(line, kind)))?;
        let instruction = &INSTRUCTIONS[kind];
        let instructions = found.body.iter().filter(|line| is(line, instruction)).count();
        if instructions < LEAST {
            return None;
        }
        let first = found.body.iter().find(|line| is(line, instruction))?;
        let registers = REGISTERS.iter().find(|registers| first.contains(&format!("%{}", registers.name)));
        let registers = registers.unwrap_or(&VECTOR);
        let count = instructions * registers.bytes * instruction.products.0 / instruction.products.1;
        let types = if instruction.of == "f32" { weights(&found.body) } else { instruction.of };
        let on = if registers.name.is_empty() { String::new() } else { format!(" {}", registers.name) };
        let rows = if one_by_one(&found.body, instruction) { " row by row" } else { "" };
        let name = format!("{}{rows}, {types}, {instructions} {}{on}", kernel.join(" "), instruction.name);
        let encoding = if first.starts_with("{vex}") { "{vex} " } else { "" };
        Some(Products { level, name, count, instructions, kind, encoding, registers: registers.name })
    }

    /// A loop of independent products on registers alone, and how many there are in it.
    pub(super) fn peak(&self) -> (Vec<String>, usize) {
        let instruction = &INSTRUCTIONS[self.kind];
        let registers = REGISTERS.iter().find(|registers| registers.name == self.registers).unwrap_or(&VECTOR);
        let name = if instruction.name == "vfmadd" { "vfmadd231ps" } else { instruction.name };
        let line = |sum: usize| match (registers.name, instruction.shapes) {
            ("", [to, of]) => format!("{name} v{sum}{to}, v30{of}, v31{of}"),
            ("tmm", _) => format!("{name} %tmm6, %tmm5, %tmm{sum}"),
            (on, _) => {
                format!("{}{name} %{on}14, %{on}15, %{on}{}", self.encoding, if sum < 14 { sum } else { sum + 2 })
            }
        };
        ((0..registers.sums).map(line).collect(), registers.sums)
    }

    /// A name for its [`Products::peak`].
    pub(super) fn peak_name(&self) -> String {
        format!("{} {}", INSTRUCTIONS[self.kind].name, self.registers)
    }
}

/// Returns whether an instruction is one of these: `vfmadd231ps` is a `vfmadd`, but `vfmadd231ss` multiplies one pair.
fn is_of(line: &str, kind: &Instruction) -> bool {
    let mnemonic = mnemonic(line);
    match kind.name {
        "vfmadd" => mnemonic.starts_with("vfmadd") && mnemonic.ends_with("ps"),
        // And `smull2`, of the other half.
        "smull" => matches!(mnemonic, "smull" | "smull2") && line.contains(".8h"),
        name => mnemonic == name,
    }
}

/// What weights are widened from to f32.
fn weights(body: &[String]) -> &'static str {
    let any = |names: &[&str]| body.iter().any(|line| names.contains(&mnemonic(line)));
    let shifts = body.iter().any(|line| matches!(mnemonic(line), "shl" | "ushll" | "shll") && line.contains(".4s"));
    match () {
        () if any(&["vcvtph2ps", "fcvtl", "fcvtl2"]) => "f16",
        () if shifts || any(&["vpslld", "vpmovzxwd"]) => "bf16",
        () => "f32",
    }
}

/// Returns whether both factors are rows as they lie in memory: no element of a row multiplies a vector of columns.
fn one_by_one(body: &[String], instruction: &Instruction) -> bool {
    let spread = ["{1to", "vbroadcast", "vpbroadcast", "ld1r", "dup", ".s[", ".4b[", ".2h["];
    let by_tiles = ["tdpbssd", "tdpbf16ps", "smmla", "bfmmla"].contains(&instruction.name);
    !by_tiles && !body.iter().any(|line| spread.iter().any(|word| line.contains(word)))
}

/// Loads and stores of the function's own memory.
pub(super) fn of_stack(body: &[String]) -> usize {
    body.iter().filter(|line| ["(%rsp", "(%rbp", "[sp"].iter().any(|place| line.contains(place))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tile: &str, body: &[&str]) -> Loop {
        let function = format!("_RINvNtNtCsl9_11denoir_core3cpu3isa{}{tile}NtNtB4_6linear6KernelEB6_", tile.len());
        Loop { function, body: body.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn products_of_x86() {
        let line = "vpdpbusd\t(%rax){1to16}, %zmm5, %zmm0";
        let products = Products::of(&found("tile_avx512_vnni", &[line; 5]), None).expect("products");
        assert_eq!((products.level.as_str(), products.name.as_str()), ("avx512-vnni", "linear, int8, 5 vpdpbusd zmm"));
        assert_eq!(products.count, 320);
        let (peak, count) = products.peak();
        assert_eq!((peak.len(), count), (24, 24));
        assert_eq!(peak[23], "vpdpbusd %zmm14, %zmm15, %zmm25");
    }

    #[test]
    fn products_with_a_chosen_encoding() {
        let line = "{vex}\tvpdpbusd\t(%rax), %ymm5, %ymm0";
        let products = Products::of(&found("tile_avx2_vnni", &[line; 4]), None).expect("products");
        assert_eq!(products.name, "linear row by row, int8, 4 vpdpbusd ymm");
        assert_eq!(products.peak().0[0], "{vex} vpdpbusd %ymm14, %ymm15, %ymm0");
    }

    #[test]
    fn products_of_widened_weights() {
        let mut body = vec!["vcvtph2ps\t(%rax), %ymm4"];
        body.extend(["vfmadd231ps\t%ymm4, %ymm5, %ymm0"; 4]);
        assert_eq!(
            Products::of(&found("tile_avx2", &body), None).expect("products").name,
            "linear row by row, f16, 4 vfmadd ymm"
        );
        body.push("vmulps\t%ymm4, %ymm5, %ymm0");
        assert_eq!(Products::of(&found("tile_avx2", &body), None), None);
    }

    #[test]
    fn products_of_aarch64() {
        let mut body = vec!["shl\tv5.4s, v5.4s, #16", "str\tq0, [sp, #16]"];
        body.extend(["fmla\tv0.4s, v5.4s, v6.s[0]"; 6]);
        let products = Products::of(&found("tile_neon", &body), Some("neon")).expect("products");
        assert_eq!((products.name.as_str(), products.count), ("linear, bf16, 6 fmla", 24));
        assert_eq!(products.peak().0[1], "fmla v1.4s, v30.4s, v31.4s");
        assert_eq!(of_stack(&found("tile_neon", &body).body), 1);
        assert_eq!(Products::of(&found("tile_neon", &body[..5]), Some("neon")), None);
        assert_eq!(Products::of(&found("launch", &body), Some("neon")), Some(products));
        assert_eq!(Products::of(&found("launch", &body), None), None);
    }
}
