//! Lines of the report.

use std::fmt::Write as _;

use crate::text::one_line;

pub(super) fn line(out: &mut String, label: &str, value: &str) {
    let _ = writeln!(out, "{label:<13} {}", one_line(value));
}

pub(super) fn image_text(side: usize, channels: usize, patch: usize) -> String {
    let grid = side / patch;
    format!("{side} × {side}, {channels} channels, patches of {patch}: {grid} × {grid} = {} tokens", grid * grid)
}
