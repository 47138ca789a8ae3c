//! QEMU's `key=value,...` syntax.
//!
//! QEMU has two parsers for it, `opts_do_parse` (`util/qemu-option.c`) and `keyval_parse` (`util/keyval.c`).
//! The second accepts less; all that both accept means the same. So one reading serves, and what only
//! the first accepts QEMU itself refuses where it uses the second.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::error::Error;

/// The pairs of one option, in the order written. Nested keys are dotted: `file.driver`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    list: Vec<(String, OsString)>,
    /// A bare `help` or `?` stands in a place where QEMU prints help.
    pub(super) help: bool,
}

impl Pairs {
    /// Reads `text`. `implied` is the key of a first value that has none.
    ///
    /// A comma within a value is written twice. A bare word is a switch: `name` is `name=on`,
    /// `noname` is `name=off`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a key is not UTF-8.
    pub(super) fn parse(option: &str, text: &OsStr, implied: Option<&str>) -> Result<Self, Error> {
        let mut pairs = Self::default();
        walk(option, text, implied, |_, key, value| pairs.add(key, value))?;
        Ok(pairs)
    }

    /// Adds a pair after the others; it wins over an earlier one of the same key.
    pub(super) fn push(&mut self, key: impl Into<String>, value: impl Into<OsString>) {
        self.list.push((key.into(), value.into()));
    }

    /// Adds all of `others` after its own.
    pub(super) fn extend(&mut self, others: Self) {
        self.help |= others.help;
        self.list.extend(others.list);
    }

    /// Adds what was written: `word=value`, or a bare word.
    fn add(&mut self, word: String, value: Option<OsString>) {
        self.help |= value.is_none() && matches!(word.as_str(), "help" | "?");
        let off = value.is_none() && word.starts_with("no");
        self.push(key_of(word, value.is_some()), value.unwrap_or_else(|| if off { "off" } else { "on" }.into()));
    }

    /// The value of `key`; of several, the last.
    pub(super) fn get(&self, key: &str) -> Option<&OsStr> {
        self.list.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_os_str())
    }

    /// The value of `key` if it is there, not empty, and UTF-8.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.to_str().filter(|v| !v.is_empty())
    }

    /// The value of `key` if it is there and not empty.
    pub(super) fn name(&self, key: &str) -> Option<&OsStr> {
        self.get(key).filter(|v| !v.is_empty())
    }

    /// The value of `key` as a switch.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is none of QEMU's words for on and off.
    pub(super) fn switch(&self, option: &str, key: &str) -> Result<Option<bool>, Error> {
        self.get(key).map(|v| switch(option, key, v)).transpose()
    }

    /// All pairs, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.list.iter().map(|(k, v)| (k.as_str(), v.as_os_str()))
    }
}

/// Reads one of QEMU's words for a switch (`qapi_bool_parse`: on, yes, true, y; off, no, false, n).
///
/// # Errors
/// [`Error::Malformed`] on any other word.
pub(super) fn switch(option: &str, key: &str, value: &OsStr) -> Result<bool, Error> {
    match value.as_bytes() {
        b"on" | b"yes" | b"true" | b"y" => Ok(true),
        b"off" | b"no" | b"false" | b"n" => Ok(false),
        _ => Err(Error::malformed(option, format!("{key}={} is neither on nor off", value.to_string_lossy()))),
    }
}

/// True for the two words with which QEMU is asked for a list.
pub(super) fn is_help(value: &OsStr) -> bool {
    value == "help" || value == "?"
}

/// The pairs of `text`, each as its key and its bytes as they stand, doubled commas included.
///
/// # Errors
/// As [`Pairs::parse`].
pub(super) fn segments(option: &str, text: &OsStr, implied: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut list = Vec::new();
    walk(option, text, implied, |typed, word, value| list.push((key_of(word, value.is_some()), typed.to_vec())))?;
    Ok(list)
}

/// The key that a word before an equals sign, or a bare one, stands for.
fn key_of(word: String, has_value: bool) -> String {
    let off = word.strip_prefix("no").filter(|_| !has_value);
    off.map(str::to_owned).unwrap_or(word)
}

/// Calls `found` for each pair with its bytes, the word before its equals sign, and the value, which a bare word has not.
fn walk(
    option: &str,
    text: &OsStr,
    mut implied: Option<&str>,
    mut found: impl FnMut(&[u8], String, Option<OsString>),
) -> Result<(), Error> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let end = rest.iter().position(|b| matches!(b, b'=' | b',')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let (word, value, next) = match (after.split_first(), implied.take()) {
            (Some((b'=', value)), _) => {
                let (value, next) = split_value(value);
                (key(option, word)?, Some(value), next)
            }
            (_, Some(first)) => {
                let (value, next) = split_value(rest);
                (first.to_owned(), Some(value), next)
            }
            _ => (key(option, word)?, None, after.get(1..).unwrap_or_default()),
        };
        let (typed, _) = rest.split_at(rest.len() - next.len());
        found(without_separator(typed, next), word, value);
        rest = next;
    }
    Ok(())
}

/// A pair without the comma behind it. Of the commas at the end of the text, all but an odd one belong to the value.
fn without_separator<'t>(typed: &'t [u8], next: &[u8]) -> &'t [u8] {
    let commas = typed.iter().rev().take_while(|byte| **byte == b',').count();
    match typed.strip_suffix(b",") {
        Some(pair) if !next.is_empty() || commas % 2 == 1 => pair,
        _ => typed,
    }
}

fn key(option: &str, word: &[u8]) -> Result<String, Error> {
    String::from_utf8(word.to_vec()).map_err(|_| {
        let word = String::from_utf8_lossy(word);
        Error::malformed(option, format!("the key {word} is not UTF-8 text"))
    })
}

/// Splits a value off at the first single comma; returns it with doubled commas made single, and the rest.
fn split_value(text: &[u8]) -> (OsString, &[u8]) {
    let mut value = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b',' {
            match rest.split_first() {
                Some((b',', after)) => rest = after,
                _ => break,
            }
        }
        value.push(byte);
    }
    (OsString::from_vec(value), rest)
}

/// `text` with `prefix` put before the value of its last pair `key=value`; every other byte stays.
pub(super) fn with_prefix(text: &OsStr, key: &str, value: &str, prefix: &str) -> OsString {
    let bytes = text.as_bytes();
    let (mut at, mut place) = (0, None);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let end = rest.iter().position(|b| matches!(b, b'=' | b',')).unwrap_or(rest.len());
        at += end + 1;
        if rest.get(end) == Some(&b'=') {
            let after = rest.get(end + 1..).unwrap_or_default();
            let (found, next) = split_value(after);
            if rest.get(..end) == Some(key.as_bytes()) && found == value {
                place = Some(at);
            }
            at += after.len() - next.len();
        }
    }
    let (before, after) = bytes.split_at(place.unwrap_or(bytes.len()));
    let prefix = if place.is_some() { prefix } else { "" };
    OsString::from_vec([before, prefix.as_bytes(), after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, implied: Option<&str>) -> Vec<(String, String)> {
        Pairs::parse("-x", OsStr::new(text), implied)
            .unwrap()
            .iter()
            .map(|(k, v)| (k.to_owned(), v.to_str().unwrap().to_owned()))
            .collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn doubled_commas_are_one_comma_of_the_value() {
        assert_eq!(parse("file=a,,b,if=none", None), [pair("file", "a,b"), pair("if", "none")]);
        assert_eq!(parse("file=,,,,", None), [pair("file", ",,")]);
        assert_eq!(parse("file=a,,,if=none", None), [pair("file", "a,"), pair("if", "none")]);
    }

    #[test]
    fn only_the_first_value_takes_the_implied_key() {
        assert_eq!(
            parse("virtio-blk,drive=d,share", Some("driver")),
            [pair("driver", "virtio-blk"), pair("drive", "d"), pair("share", "on")]
        );
        assert_eq!(parse("a,,b,c=d", Some("path")), [pair("path", "a,b"), pair("c", "d")]);
        assert_eq!(parse("x=1,file", Some("path")), [pair("x", "1"), pair("file", "on")]);
    }

    #[test]
    fn segments_are_the_bytes_as_they_stand() {
        for (text, expected) in [
            ("tap,id=a,,b,novhost,x", vec![("type", "tap"), ("id", "id=a,,b"), ("vhost", "novhost"), ("x", "x")]),
            ("id=n,type=tap,", vec![("id", "id=n"), ("type", "type=tap")]),
            ("t,,,id=,,,,,b=", vec![("type", "t,,"), ("id", "id=,,,,"), ("b", "b=")]),
            ("a=b,,", vec![("a", "a=b,,")]),
            ("a=b,,,", vec![("a", "a=b,,")]),
            ("a=1,b,,c", vec![("a", "a=1"), ("b", "b"), ("", ""), ("c", "c")]),
        ] {
            let found = segments("-x", OsStr::new(text), Some("type")).unwrap();
            let expected: Vec<(String, Vec<u8>)> =
                expected.into_iter().map(|(key, typed)| (key.to_owned(), typed.into())).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn bare_words_are_switches() {
        assert_eq!(parse("readonly,nowait", None), [pair("readonly", "on"), pair("wait", "off")]);
    }

    #[test]
    fn an_equals_sign_may_stand_in_a_value_and_values_may_be_empty() {
        assert_eq!(parse("file=a=b,id=", None), [pair("file", "a=b"), pair("id", "")]);
        assert_eq!(parse("", None), []);
    }

    #[test]
    fn the_last_of_several_wins() {
        let pairs = Pairs::parse("-x", OsStr::new("file=a,file=b"), None).unwrap();
        assert_eq!(pairs.get("file").unwrap(), "b");
    }

    #[test]
    fn help_is_noticed_only_as_a_bare_word() {
        assert!(Pairs::parse("-x", OsStr::new("virtio-blk,help"), Some("driver")).unwrap().help);
        assert!(Pairs::parse("-x", OsStr::new("?"), None).unwrap().help);
        assert!(!Pairs::parse("-x", OsStr::new("file=help"), None).unwrap().help);
    }

    #[test]
    fn values_need_not_be_utf8_but_keys_must() {
        let odd = OsString::from_vec(b"file=\xff\xfe,,x".to_vec());
        let pairs = Pairs::parse("-x", &odd, None).unwrap();
        assert_eq!(pairs.get("file").unwrap().as_bytes(), b"\xff\xfe,x");
        assert_eq!(pairs.text("file"), None);
        let odd = OsString::from_vec(b"fi\xff=x".to_vec());
        assert!(Pairs::parse("-x", &odd, None).is_err());
    }

    #[test]
    fn switches_know_all_of_qemus_words_and_no_others() {
        let pairs = Pairs::parse("-x", OsStr::new("a=y,b=no,c=ON,d=1"), None).unwrap();
        assert_eq!(pairs.switch("-x", "a").unwrap(), Some(true));
        assert_eq!(pairs.switch("-x", "b").unwrap(), Some(false));
        assert_eq!(pairs.switch("-x", "z").unwrap(), None);
        assert!(pairs.switch("-x", "c").is_err());
        assert!(pairs.switch("-x", "d").is_err());
    }
}
