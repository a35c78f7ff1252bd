//! Where unsafe code may be, and how much of it.

use crate::source::{code, words};

/// A place for unsafe code: CONTRIBUTING.md gives the reason.
pub(crate) struct Room {
    /// A file, or what the paths of its files begin with.
    path: &'static str,
    /// Number of `unsafe` there: blocks, functions, traits, implementations and attributes. It only falls: whoever
    /// removes one lowers it, and whoever must add one says in the commit message why.
    ceiling: usize,
}

/// A file belongs to the first room with its path. `cargo xtask lint` prints the table anew where a number is wrong.
const ROOMS: &[Room] = &[
    Room { path: "core/src/cpu/", ceiling: 608 },
    Room { path: "benches/scaling.rs", ceiling: 1 },
    Room { path: "core/src/backend/", ceiling: 25 },
    Room { path: "core/src/room.rs", ceiling: 1 },
    Room { path: "runtime/src/backends/cuda.rs", ceiling: 2 },
    Room { path: "runtime/src/device_memory.rs", ceiling: 2 },
    Room { path: "runtime/src/file.rs", ceiling: 2 },
    Room { path: "runtime/src/network.rs", ceiling: 2 },
    Room { path: "runtime/src/pool.rs", ceiling: 9 },
    Room { path: "runtime/src/reserve.rs", ceiling: 19 },
    Room { path: "runtime/tests/", ceiling: 4 },
    Room { path: "convert/src/lib.rs", ceiling: 2 },
    Room { path: "vulkan/src/", ceiling: 74 },
    Room { path: "cuda/src/", ceiling: 72 },
    Room { path: "capi/", ceiling: 216 },
    Room { path: "tests/", ceiling: 69 },
    Room { path: "fuzz/", ceiling: 36 },
];

/// Counts the unsafe code of each room.
#[derive(Default)]
pub(crate) struct Counts([usize; ROOMS.len()]);

impl Counts {
    /// Counts what a Rust file has; outside of all rooms, returns the numbers of its lines.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> Vec<usize> {
        let uses = code(text).map(|(at, line)| (at, uses(line))).filter(|(_, uses)| *uses > 0);
        match ROOMS.iter().position(|room| name.starts_with(room.path)) {
            Some(room) => {
                self.0[room] += uses.map(|(_, uses)| uses).sum::<usize>();
                Vec::new()
            }
            None => uses.map(|(at, _)| at).collect(),
        }
    }

    /// The rooms that do not have what their ceilings say, with the table that fits.
    pub(crate) fn findings(&self) -> Vec<String> {
        let counted = || ROOMS.iter().zip(self.0);
        let mut findings: Vec<String> = counted().filter_map(|(room, count)| room.finding(count)).collect();
        if let Some(last) = findings.last_mut() {
            let rows =
                counted().map(|(room, count)| format!("    Room {{ path: {:?}, ceiling: {count} }},", room.path));
            *last += &format!("\n`ROOMS` in {} for this tree:\n{}", file!(), rows.collect::<Vec<_>>().join("\n"));
        }
        findings
    }
}

impl Room {
    fn finding(&self, count: usize) -> Option<String> {
        let Room { path, ceiling } = self;
        match count.cmp(ceiling) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Less => Some(format!("{path}: {count} unsafe, {ceiling} allowed: lower the ceiling")),
            std::cmp::Ordering::Greater => {
                Some(format!("{path}: {count} unsafe, {ceiling} allowed: do without, or raise the ceiling and say why"))
            }
        }
    }
}

/// How often a line says `unsafe` to the compiler.
fn uses(line: &str) -> usize {
    let next = ["(", " {", " fn", " impl", " trait", " extern"];
    words(line, "unsafe").filter(|rest| next.iter().any(|next| rest.starts_with(next))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "// ? {\nlet x = ? { f(? { g() }) };\n#[?(no_mangle)]\n?_op_in()\nprint(\"? here\")";

    fn example() -> String {
        CODE.replace('?', "unsafe")
    }

    #[test]
    fn unsafe_code_stays_in_its_rooms() {
        assert_eq!(Counts::default().add("cli/src/main.rs", &example()), [2, 3]);
        assert_eq!(Counts::default().add("core/src/cpu/mod.rs", &example()), [0; 0]);
    }

    #[test]
    fn a_room_has_what_its_ceiling_says() {
        let mut counts = Counts(std::array::from_fn(|room| ROOMS[room].ceiling));
        assert_eq!(counts.findings(), [""; 0]);
        counts.add(ROOMS[0].path, &example());
        counts.0[1] -= 1;
        let findings = counts.findings();
        assert!(findings[0].contains("raise the ceiling and say why"), "{findings:?}");
        assert!(findings[1].contains("lower the ceiling") && findings[1].contains("Room {"), "{findings:?}");
        assert_eq!(findings.len(), 2);
    }
}
