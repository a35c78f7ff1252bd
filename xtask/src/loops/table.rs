//! The committed table of loops.

use std::collections::BTreeSet;
use std::fmt::Write;

/// What a change of cycles must exceed to be one.
const LIMIT: f64 = 0.03;

/// A loop on a core.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OnCore {
    pub(super) core: String,
    /// Cycles of a step.
    pub(super) cycles: f64,
    /// Of the core's peak.
    pub(super) share: f64,
}

/// A loop.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) level: String,
    /// Unique in its level after [`unique`].
    pub(super) name: String,
    /// Products of elements in a step.
    pub(super) products: usize,
    pub(super) instructions: usize,
    /// Loads and stores of the stack.
    pub(super) stack: usize,
    pub(super) cores: Vec<OnCore>,
}

/// What cycles of the same loop may differ by, as its registers and addresses do.
const SAME: f64 = 0.01;

/// Sorts rows, drops those that equal another, and numbers those that only share a name.
pub(super) fn unique(mut rows: Vec<Row>) -> Vec<Row> {
    let cycles = |row: &Row| row.cores.first().map_or(0.0, |on| on.cycles);
    rows.sort_by(|a, b| {
        let names = (&a.level, &a.name).cmp(&(&b.level, &b.name));
        let sizes = (a.instructions, a.stack).cmp(&(b.instructions, b.stack));
        names.then(cycles(a).total_cmp(&cycles(b))).then(sizes)
    });
    rows.dedup_by(|a, b| {
        let sizes = |row: &Row| (row.instructions, row.stack);
        let same = a.cores.iter().zip(&b.cores).all(|(a, b)| (a.cycles / b.cycles - 1.0).abs() <= SAME);
        (&a.level, &a.name, sizes(a)) == (&b.level, &b.name, sizes(b)) && same
    });
    let mut last = (String::new(), String::new(), 1);
    for row in &mut rows {
        if (&last.0, &last.1) == (&row.level, &row.name) {
            last.2 += 1;
            let _ = write!(row.name, " ({})", last.2);
        } else {
            last = (row.level.clone(), row.name.clone(), 1);
        }
    }
    rows
}

/// A row of the table.
fn shown(row: &Row) -> String {
    let mut line = format!("| {} | {} | {} | {} |", row.name, row.products, row.instructions, row.stack);
    for on in &row.cores {
        // A table of f64 has digits to spare.
        let per_cycle = row.products as f64 / on.cycles;
        let _ = write!(line, " {:.2}, {per_cycle:.1}, {:.0}% |", on.cycles, 100.0 * on.share);
    }
    line
}

/// The table as a file: its introduction, a line that says what made it, and a section for each level.
pub(super) fn write(introduction: &str, made_with: &str, rows: &[Row]) -> String {
    let mut text = format!("{introduction}\n{made_with}\n");
    let mut level = "";
    for row in rows {
        if row.level != level {
            level = &row.level;
            let cores: Vec<&str> = row.cores.iter().map(|on| on.core.as_str()).collect();
            let _ = writeln!(text, "\n## {level}\n");
            let _ = writeln!(text, "| loop | products | instructions | stack | {} |", cores.join(" | "));
            let _ = writeln!(text, "|---|{}", "---|".repeat(3 + cores.len()));
        }
        let _ = writeln!(text, "{}", shown(row));
    }
    text
}

/// Returns whether the table says that this made it.
pub(super) fn is_made_with(text: &str, made_with: &str) -> bool {
    text.lines().any(|line| line == made_with)
}

/// A row of the table as far as it is compared: level, name, and the cycles on each core.
type Written = (String, String, Vec<(String, f64)>);

fn read(text: &str) -> Vec<Written> {
    let (mut level, mut cores, mut rows) = (String::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            level = name.to_owned();
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let cells: Vec<&str> = cells.split(" | ").collect();
        let (Some(name), on) = (cells.first(), cells.get(4..).unwrap_or_default()) else { continue };
        if *name == "loop" {
            cores = on.iter().map(|core| (*core).to_owned()).collect();
        } else {
            let cycles = on.iter().map(|cell| cell.split(',').next().and_then(|cycles| cycles.parse().ok()));
            let cycles = cores.iter().cloned().zip(cycles.map(|cycles| cycles.unwrap_or(f64::NAN))).collect();
            rows.push((level.clone(), (*name).to_owned(), cycles));
        }
    }
    rows
}

/// Compares the table with the loops as they are now, in these levels: a sentence for each difference.
pub(super) fn differences(text: &str, rows: &[Row], levels: &[&str]) -> Vec<String> {
    let written = read(text);
    let mut found = Vec::new();
    for row in rows.iter().filter(|row| levels.contains(&row.level.as_str())) {
        let at = format!("{}, {}", row.level, row.name);
        let Some((_, _, before)) = written.iter().find(|old| old.0 == row.level && old.1 == row.name) else {
            found.push(format!("{at}: a loop that the table does not have"));
            continue;
        };
        for on in &row.cores {
            let (core, now) = (&on.core, on.cycles);
            match before.iter().find(|(name, _)| name == core) {
                Some((_, was)) if (now / was - 1.0).abs() <= LIMIT => {}
                Some((_, was)) => {
                    let change = 100.0 * (now / was - 1.0);
                    found.push(format!("{at}: {now:.2} cycles on {core}, {was:.2} in the table ({change:+.0}%)"));
                }
                None => found.push(format!("{at}: the table has no cycles on {core}")),
            }
        }
    }
    let now: BTreeSet<(&str, &str)> = rows.iter().map(|row| (row.level.as_str(), row.name.as_str())).collect();
    for (level, name, _) in &written {
        if levels.contains(&level.as_str()) && !now.contains(&(level.as_str(), name.as_str())) {
            found.push(format!("{level}, {name}: there is no such loop any more"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, cycles: f64) -> Row {
        let cores = vec![OnCore { core: "Zen 3".into(), cycles, share: 6.0 / cycles }];
        Row { level: "avx2".into(), name: name.into(), products: 96, instructions: 26, stack: 0, cores }
    }

    #[test]
    fn rows_of_one_name() {
        let rows = unique(vec![row("b", 7.0), row("a", 6.5), row("b", 6.0), row("b", 6.001)]);
        let named: Vec<(&str, f64)> = rows.iter().map(|row| (row.name.as_str(), row.cores[0].cycles)).collect();
        assert_eq!(named, [("a", 6.5), ("b", 6.0), ("b (2)", 7.0)]);
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let rows = unique(vec![row("linear, f32, 12 vfmadd ymm", 6.03), row("attention", 7.0)]);
        let text = write("# Loops\n", "Made with rustc 1.95.0.", &rows);
        assert!(text.contains("| linear, f32, 12 vfmadd ymm | 96 | 26 | 0 | 6.03, 15.9, 100% |"));
        assert!(is_made_with(&text, "Made with rustc 1.95.0."));
        assert!(!is_made_with(&text, "Made with rustc 1.96.0."));
        assert!(differences(&text, &rows, &["avx2"]).is_empty());
    }

    #[test]
    fn differences_are_sentences() {
        let text = write("# Loops\n", "", &[row("a", 6.0), row("b", 6.0), row("c", 6.0)]);
        let found = differences(&text, &[row("a", 6.1), row("b", 6.3), row("d", 1.0)], &["avx2"]);
        let expected = [
            "avx2, b: 6.30 cycles on Zen 3, 6.00 in the table (+5%)",
            "avx2, d: a loop that the table does not have",
            "avx2, c: there is no such loop any more",
        ];
        assert_eq!(found, expected);
        assert!(differences(&text, &[], &["neon"]).is_empty());
    }
}
