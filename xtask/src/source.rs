//! Rust source, looked at as text.

/// The lines that are not comments, with their numbers.
pub(crate) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.starts_with("//"))
}

/// What follows each place where a word begins a line or a word of it.
pub(crate) fn words<'l>(line: &'l str, word: &'l str) -> impl Iterator<Item = &'l str> {
    line.match_indices(word).filter_map(move |(at, _)| {
        let before = line[..at].chars().next_back();
        let begins = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
        begins.then(|| &line[at + word.len()..])
    })
}
