//! The innermost loops of a compiler's listing.

use std::collections::HashMap;

const CALLS: &[&str] = &["call", "callq", "bl", "blr"];

/// A loop of one path: its instructions run in order, and the last one jumps to the first.
#[derive(Debug, PartialEq)]
pub(super) struct Loop {
    /// The symbol of the function that it is in.
    pub(super) function: String,
    /// Instructions without comments.
    pub(super) body: Vec<String>,
}

/// The first word of an instruction, but for a choice of its encoding such as `{vex}`.
pub(super) fn mnemonic(instruction: &str) -> &str {
    instruction.split_whitespace().find(|word| !word.starts_with('{')).unwrap_or_default()
}

/// Every innermost loop of a listing; what follows `comment` on a line is none of it. A loop with a call, or with jumps
/// inside it, is none.
pub(super) fn loops(text: &str, comment: &str) -> Vec<Loop> {
    let mut function = Function::default();
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split(comment).next().unwrap_or_default().trim();
        match line.strip_suffix(':') {
            Some(label) if label.starts_with('.') => {
                function.labels.insert(label.to_owned(), function.body.len());
            }
            Some(name) => {
                found.append(&mut function.loops());
                function = Function { name: name.to_owned(), ..Function::default() };
            }
            None if line.is_empty() || line.starts_with('.') => {}
            None => function.body.push(line.to_owned()),
        }
    }
    found.append(&mut function.loops());
    found
}

/// The instructions of a function, and which one each label stands before.
#[derive(Default)]
struct Function {
    name: String,
    body: Vec<String>,
    labels: HashMap<String, usize>,
}

impl Function {
    fn loops(&self) -> Vec<Loop> {
        let jumps: Vec<(usize, usize)> = (0..self.body.len()).filter_map(|at| Some((at, self.target(at)?))).collect();
        let mut found = Vec::new();
        for &(end, start) in jumps.iter().filter(|(at, target)| target <= at) {
            // A jump from within to a place before would be another loop's.
            let inner = |&&(at, target): &&(usize, usize)| (start..end).contains(&at) && target <= end;
            let body = &self.body[start..=end];
            if !jumps.iter().any(|jump| inner(&jump)) && !body.iter().any(|line| CALLS.contains(&mnemonic(line))) {
                found.push(Loop { function: self.name.clone(), body: body.to_vec() });
            }
        }
        found
    }

    /// Where a jump to a label of this function leads.
    fn target(&self, at: usize) -> Option<usize> {
        let label = self.body[at].rsplit([' ', '\t', ',']).next()?;
        self.labels.get(label).copied()
    }
}

/// The identifiers of a symbol in Rust's mangling `v0`, in order.
pub(super) fn identifiers(symbol: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = symbol.strip_prefix("_R").unwrap_or_default();
    while let Some(first) = rest.chars().next() {
        match first {
            // Backward references, disambiguators, lifetimes and constants end with an underscore.
            'B' | 's' | 'L' | 'K' => rest = rest.split_once('_').map_or("", |(_, rest)| rest),
            '1'..='9' => {
                let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                let (length, name) = rest.split_at(digits);
                let name = name.strip_prefix('_').unwrap_or(name);
                let length = length.parse().unwrap_or(usize::MAX);
                let Some((identifier, after)) = name.split_at_checked(length) else { break };
                found.push(identifier);
                rest = after;
            }
            _ => rest = rest.get(first.len_utf8()..).unwrap_or_default(),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_of_symbols() {
        let plain = "_RINvNtNtCsl9qZJDwcoC2_11denoir_core3cpu3isa9tile_neonNtNtB4_6linear6KernelEB6_";
        assert_eq!(identifiers(plain), ["denoir_core", "cpu", "isa", "tile_neon", "linear", "Kernel"]);
        let generic =
            "_RINvNtNtCsl9_11denoir_core3cpu3isa9tile_avx2INtNtB4_11shared_mean5MeansNtNtB4_4row_6NormedEEB6_";
        assert_eq!(identifiers(generic)[4..], ["shared_mean", "Means", "row_", "Normed"]);
        assert!(identifiers("memcpy").is_empty());
    }

    #[test]
    fn a_loop_of_aarch64() {
        let text = "
tile:
\tsub\tsp, sp, #16
.LBB0_1:
\tldr\tq1, [x0], #16
\t//APP
\t.arch_extension\tdotprod
\tsdot\tv0.4s, v1.16b, v2.16b
\t//NO_APP
\tsubs\tx8, x8, #1
\tb.ne\t.LBB0_1
\tret
.Lfunc_end0:
";
        let body = ["ldr\tq1, [x0], #16", "sdot\tv0.4s, v1.16b, v2.16b", "subs\tx8, x8, #1", "b.ne\t.LBB0_1"];
        let expected = Loop { function: "tile".into(), body: body.map(str::to_owned).into() };
        assert_eq!(loops(text, "//"), [expected]);
    }

    #[test]
    fn only_innermost_loops_of_one_path() {
        let text = "
tile:
.LBB0_1:
\tmovq\t%rax, %rcx
.LBB0_2:
\tvfmadd231ps\t(%rdi), %ymm15, %ymm0 # ymm0 = (ymm15 * mem) + ymm0
\tcmpq\t%rax, %rcx
\tje\t.LBB0_4
\tdecq\t%rcx
\tjne\t.LBB0_2
\tjmp\t.LBB0_1
.LBB0_3:
\ttestq\t%rax, %rax
\tje\t.LBB0_5
\tincq\t%rbx
.LBB0_5:
\tjne\t.LBB0_3
.LBB0_4:
\tcallq\tmemcpy@PLT
\tjmp\t.LBB0_4
.LBB0_6:
\tincq\t%rcx
.LBB0_7:
\tdecq\t%rbx
\tjne\t.LBB0_6
\tdecq\t%rdx
\tjmp\t.LBB0_7
";
        let found = loops(text, "#");
        assert_eq!(found.iter().map(|found| found.body.len()).collect::<Vec<_>>(), [5, 3]);
        assert_eq!(found[0].body[0], "vfmadd231ps\t(%rdi), %ymm15, %ymm0");
    }

    #[test]
    fn a_loop_may_be_entered_within() {
        let text = "
tile:
\tb\t.LBB0_2
.LBB0_1:
\tfmla\tv0.4s, v1.4s, v2.s[0]
\tb.eq\t.LBB0_3
.LBB0_2:
\tldr\tq1, [x0], #16
\tb\t.LBB0_1
.LBB0_3:
\tret
";
        assert_eq!(loops(text, "//").iter().map(|found| found.body.len()).collect::<Vec<_>>(), [4]);
    }
}
