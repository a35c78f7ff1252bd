//! Splits text into words as Qwen2's tokenizer does, by [`QWEN2_SPLIT`]: one function for each of the expression's
//! alternatives, tried in its order.

#[cfg(doc)]
use denoir_core::gguf::keys::tokenizer::QWEN2_SPLIT;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// The words of a text. Together they are the text.
pub(super) fn of(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let kinds: [fn(&str) -> Option<usize>; 6] = [contraction, letters, number, marks, lines, spaces];
        let len = kinds.iter().find_map(|kind| kind(rest)).unwrap_or(first.len_utf8());
        let (word, left) = rest.split_at(len);
        rest = left;
        Some(word)
    })
}

fn is_letter(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Letter
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// Neither a space, a letter nor a number.
fn is_mark(c: char) -> bool {
    !c.is_whitespace() && !is_letter(c) && !c.is_numeric()
}

/// Bytes of the characters at the start that are of a kind.
fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// `None` for no bytes.
fn some(len: usize) -> Option<usize> {
    (len > 0).then_some(len)
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
fn contraction(text: &str) -> Option<usize> {
    let after = text.strip_prefix('\'')?;
    // The long s is an s in either case.
    if after.starts_with('ſ') {
        return Some(1 + 'ſ'.len_utf8());
    }
    let is = |ending: &&&str| after.get(..ending.len()).is_some_and(|start| start.eq_ignore_ascii_case(ending));
    ["s", "t", "re", "ve", "m", "ll", "d"].iter().find(is).map(|ending| 1 + ending.len())
}

/// `[^\r\n\p{L}\p{N}]?\p{L}+`
fn letters(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let before = if is_line_end(first) || is_letter(first) || first.is_numeric() { 0 } else { first.len_utf8() };
    some(run(&text[before..], is_letter)).map(|len| before + len)
}

/// `\p{N}`
fn number(text: &str) -> Option<usize> {
    text.chars().next().filter(|c| c.is_numeric()).map(char::len_utf8)
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*`
fn marks(text: &str) -> Option<usize> {
    let space = usize::from(text.starts_with(' '));
    let marks = some(run(&text[space..], is_mark))?;
    Some(space + marks + run(&text[space + marks..], is_line_end))
}

/// `\s*[\r\n]+`
fn lines(text: &str) -> Option<usize> {
    let spaces = &text[..run(text, char::is_whitespace)];
    // Both ends of a line are one byte.
    spaces.rfind(is_line_end).map(|last| last + 1)
}

/// `\s+(?!\S)|\s+`
fn spaces(text: &str) -> Option<usize> {
    let len = some(run(text, char::is_whitespace))?;
    let last = text[..len].chars().next_back().map_or(0, char::len_utf8);
    // The last one belongs to the word that follows, unless it is alone.
    Some(if len == text.len() || len == last { len } else { len - last })
}
