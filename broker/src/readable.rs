//! Text for messages, some of which somebody else has chosen.

/// `text` without what would move a terminal's cursor, or turn the letters of a line around: control letters, and those of
/// Unicode's property `Bidi_Control`, are written as escapes.
#[must_use]
pub fn readable(text: &[u8]) -> String {
    let mut shown = String::new();
    for letter in String::from_utf8_lossy(text).chars() {
        if letter.is_control() || is_bidi_control(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

fn is_bidi_control(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line_and_is_read_as_it_is_written() {
        assert_eq!(readable(b"a b\n\x1b[2J\x07"), r"a b\n\u{1b}[2J\u{7}");
        assert_eq!(readable("gr\u{fc}n \u{202e}dlo\u{85}".as_bytes()), "gr\u{fc}n \\u{202e}dlo\\u{85}");
    }
}
