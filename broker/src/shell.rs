//! Names in commands that an operator is told to type.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// `name` as one word of a shell that expands nothing in it, and that moves no cursor when it is shown: a name may come
/// from a header that an attacker wrote. Where plain quotes cannot do that it is `$'...'` (POSIX.1-2024; bash, zsh).
#[must_use]
pub fn word(name: &OsStr) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:@%,=".contains(letter);
    let is_shown = |letter: char| letter.is_ascii_graphic() || letter == ' ' || letter.is_alphanumeric();
    match name.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Some(text) if text.chars().all(is_shown) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => escaped(name.as_bytes()),
    }
}

fn escaped(name: &[u8]) -> String {
    let mut word = String::from("$'");
    for byte in name {
        match byte {
            b'\\' | b'\'' => word.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => word.push(char::from(*byte)),
            // Three digits, as no digit that follows can be taken for a fourth. Writing to a string does not fail.
            _ => _ = write!(word, "\\{byte:03o}"),
        }
    }
    word.push('\'');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_quoted_name_for_one_word() {
        for (name, expected) in [
            ("/srv/images/base-1.qcow2", "/srv/images/base-1.qcow2"),
            ("my disk", "'my disk'"),
            ("größe", "'größe'"),
            ("$(reboot)", "'$(reboot)'"),
            ("a'; reboot; '", r"'a'\''; reboot; '\'''"),
            ("", "''"),
            ("it's\n1", r"$'it\'s\0121'"),
            ("\u{1b}[2J", r"$'\033[2J'"),
            ("\u{202e}x", r"$'\342\200\256x'"),
            ("a\\\u{7f}", r"$'a\\\177'"),
        ] {
            assert_eq!(word(OsStr::new(name)), expected);
        }
        assert_eq!(word(OsStr::from_bytes(b"\xff1")), r"$'\3771'");
    }

    #[test]
    fn bash_reads_back_every_byte() {
        let name: Vec<u8> = (1..=255).collect();
        let line = format!("printf %s {}", word(OsStr::from_bytes(&name)));
        let output = std::process::Command::new("bash").args(["-c", &line]).env("LC_ALL", "C").output().unwrap();
        assert_eq!(output.stdout, name);
    }
}
