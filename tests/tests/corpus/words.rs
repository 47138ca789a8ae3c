//! A command line as a shell would split it.

use tests::{Error, Result};

/// The words of `text`: blanks part them; within single quotes all letters stand for themselves, within double quotes, and
/// outside of quotes, a backslash makes the next letter do so.
pub(crate) fn split(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' => words.extend(word.take()),
            '\'' | '"' => quoted(word.get_or_insert_default(), &mut letters, letter, text)?,
            '\\' => word.get_or_insert_default().extend(letters.next()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(word: &mut String, letters: &mut impl Iterator<Item = char>, quote: char, text: &str) -> Result<()> {
    while let Some(letter) = letters.next() {
        match letter {
            letter if letter == quote => return Ok(()),
            '\\' if quote == '"' => word.extend(letters.next()),
            letter => word.push(letter),
        }
    }
    Err(Error::Unexpected(format!("a quote has no end: {text}")))
}

#[test]
fn words_are_split_as_a_shell_does() {
    let words = split(r#"a 'b c' "d \"e\"" f\ g h'i'"j" ''"#).unwrap();
    assert_eq!(words, ["a", "b c", "d \"e\"", "f g", "hij", ""]);
    assert!(split("'").is_err());
}
