//! Words and numbers for people.

use std::borrow::Cow;
use std::io::Write;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Maximum number of characters of a message: some quote what they found in a file.
pub(crate) const MESSAGE: usize = 2000;

/// Prints `error: MESSAGE` as one line, whatever a file name or a system message holds.
pub(crate) fn error_line(message: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "error: {}", one_line(&shortened(message, MESSAGE)));
}

/// The text, or its beginning with three dots.
pub(crate) fn shortened(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

/// The text with line breaks, other control characters and invisible marks as escapes: names and paths come from files,
/// and a terminal would obey them.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmless(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
    out.into()
}

/// Returns whether a terminal shows the character, instead of obeying or hiding it.
pub(crate) fn is_harmless(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // Hangul's fillers, a joiner and Khmer's inherent vowels: letters and marks that nobody sees.
    let is_blank = matches!(c, '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}');
    !is_blank && !matches!(c.general_category(), Control | Format | LineSeparator | ParagraphSeparator)
}

/// 1.5 KB, 3.2 MB: decimal, as disks and `ls -h --si` count.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["KB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} bytes");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", units[unit]) } else { format!("{value:.0} {}", units[unit]) }
}

/// 1,000,000.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// 0.4 s, 12 s, 3:07, 1:02:03.
pub(crate) fn seconds(s: f64) -> String {
    if s < 9.95 {
        return format!("{s:.1} s");
    }
    let whole = s.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

/// A duration with the digits that matter: 12 ms, 0.51 s.
pub(crate) fn pace(s: f64) -> String {
    match s {
        s if s < 0.0995 => format!("{:.0} ms", s * 1000.0),
        s if s < 9.95 => format!("{s:.2} s"),
        s => format!("{s:.0} s"),
    }
}

/// `word` for one, `words` otherwise.
pub(crate) fn plural<'w>(n: usize, one: &'w str, many: &'w str) -> &'w str {
    if n == 1 { one } else { many }
}

/// How many letters must be changed, added, dropped or swapped to get from one word to the other.
pub(crate) fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut d = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            d[i * width + j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let changed = usize::from(a[i - 1] != b[j - 1]);
                    let mut best = d[(i - 1) * width + j - 1] + changed;
                    best = best.min(d[(i - 1) * width + j] + 1).min(d[i * width + j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        best = best.min(d[(i - 2) * width + j - 2] + 1);
                    }
                    best
                }
            };
        }
    }
    d[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(1500), "1.5 KB");
        assert_eq!(bytes(999_700), "1.0 MB");
        assert_eq!(bytes(2_700_000_000), "2.7 GB");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(seconds(3723.2), "1:02:03");
        assert_eq!(seconds(187.0), "3:07");
        assert_eq!(pace(0.0123), "12 ms");
    }

    #[test]
    fn a_swap_of_letters_is_one_edit() {
        assert_eq!(edit_distance("cat", "cta"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn control_characters_cannot_break_a_line() {
        assert_eq!(one_line("a\nb\x1b[0m"), "a\\nb\\u{1b}[0m");
        assert_eq!(one_line("\u{9b}2J \u{202e}x é e\u{301} 日 🚀"), "\\u{9b}2J \\u{202e}x é e\u{301} 日 🚀");
        for hidden in "\u{ad}\u{200b}\u{200d}\u{2028}\u{2029}\u{2066}\u{3164}\u{feff}\u{e0041}".chars() {
            assert_eq!(one_line(&hidden.to_string()), hidden.escape_default().to_string());
        }
    }
}
