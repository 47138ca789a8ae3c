//! What differs between the two sides, in words.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::parity::outcome::{Left, Outcome};

/// How many letters before the first difference are shown.
const CONTEXT: usize = 160;

/// The differences, one or more lines each; nothing when there are none.
pub(crate) fn between(bare: &Outcome, brokered: &Outcome) -> String {
    let mut text = String::new();
    lines(&mut text, "answer", &bare.said.answers, &brokered.said.answers);
    lines(&mut text, "event", &bare.said.events, &brokered.said.events);
    lines(&mut text, "end", &bare.said.ends, &brokered.said.ends);
    let names: BTreeSet<&String> = bare.files.keys().chain(brokered.files.keys()).collect();
    for name in names {
        match (bare.files.get(name), brokered.files.get(name)) {
            (Some(bare), Some(brokered)) => left(&mut text, name, bare, brokered),
            (Some(_), None) => say(&mut text, &format!("{name} is missing under the broker")),
            (None, _) => say(&mut text, &format!("{name} is there under the broker only")),
        }
    }
    text
}

/// The first line that differs, and how many there are.
fn lines(text: &mut String, kind: &str, bare: &[String], brokered: &[String]) {
    let length = bare.len().max(brokered.len());
    let Some(first) = (0..length).find(|&index| bare.get(index) != brokered.get(index)) else {
        return;
    };
    let line = |lines: &[String]| lines.get(first).map_or("(nothing)", String::as_str).to_owned();
    say(text, &format!("{kind} {first} (of {} and {}):", bare.len(), brokered.len()));
    both(text, &line(bare), &line(brokered));
}

/// Two texts around the first place where they differ.
fn both(text: &mut String, bare: &str, brokered: &str) {
    let same = bare.chars().zip(brokered.chars()).take_while(|(one, other)| one == other).count();
    let from = same.saturating_sub(CONTEXT);
    for (side, line) in [("bare", bare), ("broker", brokered)] {
        let part: String = line.chars().skip(from).take(3 * CONTEXT).collect();
        say(text, &format!("  {side}: {part}"));
    }
}

/// What differs of one file.
fn left(text: &mut String, name: &str, bare: &Left, brokered: &Left) {
    if bare.about != brokered.about {
        say(text, &format!("{name}:"));
        both(text, &bare.about, &brokered.about);
    }
    if bare.bytes != brokered.bytes {
        let first = bare.bytes.iter().zip(&brokered.bytes).position(|(one, other)| one != other);
        let sizes = format!("{} and {} bytes", bare.bytes.len(), brokered.bytes.len());
        say(text, &format!("{name}: {sizes}, the first that differs is at {first:?}"));
    }
}

/// Adds a line. Writing to a string cannot fail.
fn say(text: &mut String, line: &str) {
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::parity::session::Said;

    fn outcome(answer: &str, bytes: &[u8]) -> Outcome {
        let said = Said { answers: vec![answer.to_owned()], ..Said::default() };
        let left = Left { about: "mode 644".to_owned(), bytes: bytes.to_owned() };
        Outcome { said, files: BTreeMap::from([("FILES/top".to_owned(), left)]) }
    }

    #[test]
    fn equal_sides_differ_in_nothing() {
        assert_eq!(between(&outcome("a", b"x"), &outcome("a", b"x")), "");
    }

    #[test]
    fn an_answer_and_a_byte_are_told() {
        let text = between(&outcome("a", b"x"), &outcome("b", b"y"));
        assert!(text.contains("answer 0") && text.contains("FILES/top: 1 and 1 bytes"), "{text}");
    }

    #[test]
    fn a_file_on_one_side_is_told() {
        let mut other = outcome("a", b"x");
        other.files.clear();
        assert_eq!(between(&outcome("a", b"x"), &other), "FILES/top is missing under the broker\n");
    }
}
