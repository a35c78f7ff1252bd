//! Looks up classes by number or name.

use denoir::Model;

use crate::error::Error;
use crate::text::edit_distance;

/// Maximum number of similar names suggested for an unknown one.
const SUGGESTIONS: usize = 3;
/// Longest name that similar ones are looked for: the work grows with the square of its letters.
const LETTERS: usize = 100;

/// Looks up a class by number or name. If a name lists synonyms, such as `tench, Tinca tinca`, one of them is enough if
/// it is unique.
pub(crate) fn find(model: &Model, wanted: &str) -> Result<u32, Error> {
    let wanted = wanted.trim();
    if let Some(class) = model.class(wanted).or_else(|| by_synonym(model.class_names(), wanted)) {
        return Ok(class);
    }
    let classes = model.network().classes();
    if wanted.parse::<i64>().is_ok() {
        return Err(Error::Usage(format!("there is no class {wanted}: this model has {classes}, from 0")));
    }
    if model.class_names().is_empty() {
        return Err(Error::Usage(format!(
            "this model's classes have no names: give a number, 0 to {}, instead of {wanted:?}",
            classes - 1
        )));
    }
    let close = close_matches(model.class_names(), wanted);
    let hint = match close.as_slice() {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(", ")),
    };
    Err(Error::Usage(format!("no class is called {wanted:?}{hint} (`denoir inspect` lists all {classes})")))
}

/// `3`, or `3 (cat)` if the class has a name.
pub(crate) fn describe(model: &Model, class: u32) -> String {
    match model.class_names().get(class as usize) {
        Some(name) => format!("{class} ({name})"),
        None => class.to_string(),
    }
}

fn synonyms(name: &str) -> impl Iterator<Item = &str> {
    name.split(',').map(str::trim)
}

fn by_synonym(names: &[String], wanted: &str) -> Option<u32> {
    let mut found = (0u32..).zip(names).filter(|(_, name)| synonyms(name).any(|s| s.eq_ignore_ascii_case(wanted)));
    match (found.next(), found.next()) {
        (Some((class, _)), None) => Some(class),
        _ => None,
    }
}

/// Lists names that contain the word first, then those a few letters away.
fn close_matches(names: &[String], wanted: &str) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let letters = wanted.chars().count();
    if letters > LETTERS {
        return Vec::new();
    }
    let far = (letters / 3).max(1);
    // Each letter more or less is an edit. Names come from a file and may be very long.
    let as_long = |s: &&str| s.chars().count().abs_diff(letters) <= far;
    let distance = |name: &String| {
        let name = name.to_lowercase();
        if !wanted.is_empty() && name.contains(&wanted) {
            return Some(0);
        }
        synonyms(&name).filter(as_long).map(|s| edit_distance(s, &wanted)).min().filter(|&d| d <= far)
    };
    let mut close: Vec<_> = names.iter().filter_map(|name| Some((distance(name)?, name))).collect();
    close.sort_by_key(|&(distance, _)| distance);
    close.into_iter().take(SUGGESTIONS).map(|(_, name)| format!("{name:?}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_synonym_and_suggested_by_distance() {
        let names = ["tench, Tinca tinca", "crane", "crane", "cat face"].map(String::from);
        assert_eq!(by_synonym(&names, "TINCA tinca"), Some(0));
        assert_eq!(by_synonym(&names, "crane"), None);
        assert_eq!(close_matches(&names, "cta face"), ["\"cat face\""]);
        assert_eq!(close_matches(&names, "tensh"), ["\"tench, Tinca tinca\""]);
        assert!(close_matches(&names, "locomotive").is_empty());
        let long = ["x".repeat(1 << 24), "y".repeat(200)];
        assert!(close_matches(&long, "tench").is_empty() && close_matches(&long, &"z".repeat(1 << 20)).is_empty());
    }
}
