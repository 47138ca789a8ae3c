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
        let mut rest = text.as_bytes();
        let mut implied = implied;
        while !rest.is_empty() {
            let end = rest.iter().position(|b| matches!(b, b'=' | b',')).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if let Some((b'=', value)) = after.split_first() {
                let (value, next) = split_value(value);
                pairs.push(key(option, word)?, value);
                rest = next;
            } else if let Some(first) = implied {
                let (value, next) = split_value(rest);
                pairs.push(first.to_owned(), value);
                rest = next;
            } else {
                pairs.push_switch(key(option, word)?);
                rest = after.get(1..).unwrap_or_default();
            }
            implied = None;
        }
        Ok(pairs)
    }

    /// Adds a pair after the others; it wins over an earlier one of the same key.
    pub(super) fn push(&mut self, key: impl Into<String>, value: impl Into<OsString>) {
        self.list.push((key.into(), value.into()));
    }

    fn push_switch(&mut self, word: String) {
        match word.strip_prefix("no") {
            Some(name) => self.push(name, "off"),
            None => {
                self.help |= matches!(word.as_str(), "help" | "?");
                self.push(word, "on");
            }
        }
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
