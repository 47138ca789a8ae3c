//! QEMU's JSON: objects as option values, and `json:{...}` image names.
//!
//! QEMU's parser takes single-quoted strings besides JSON's own (`qobject/json-lexer.c`). It refuses an
//! object that holds a key twice; here the last wins, and QEMU still refuses to start.

use std::ffi::OsStr;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::error::Error;
use super::value::Pairs;

/// Reads a JSON object into pairs with dotted keys, the form that `key=value` syntax gives:
/// `{"a":{"b":true},"c":["x"]}` is `a.b=on,c.0=x`. Null is the empty value.
///
/// # Errors
/// [`Error::Malformed`] if the text is not UTF-8, not JSON, not an object, or holds a NUL character.
pub(super) fn pairs(option: &str, text: &OsStr) -> Result<Pairs, Error> {
    let value: Value = read(option, text)?;
    if !value.is_object() {
        return Err(Error::malformed(option, "the JSON value must be an object, {...}"));
    }
    let mut pairs = Pairs::default();
    flatten(&mut pairs, "", &value);
    Ok(pairs)
}

/// Reads a JSON object into its members, in the order written; a key may come several times.
///
/// # Errors
/// As [`pairs`].
pub(super) fn members(option: &str, text: &OsStr) -> Result<Vec<(String, Value)>, Error> {
    read(option, text).map(|Members(list)| list)
}

fn read<T: DeserializeOwned>(option: &str, text: &OsStr) -> Result<T, Error> {
    let text = text.to_str().ok_or_else(|| Error::malformed(option, "JSON must be UTF-8 text"))?;
    if text.contains("\\u0000") {
        return Err(Error::malformed(option, "a name cannot hold a NUL character"));
    }
    let read = serde_json::from_str(&double_quoted(text));
    read.map_err(|error| Error::malformed(option, format!("not valid JSON: {error}")))
}

/// The members of an object, as they stand.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Members;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut list = Vec::new();
        while let Some(member) = map.next_entry()? {
            list.push(member);
        }
        Ok(Members(list))
    }
}

fn flatten(pairs: &mut Pairs, at: &str, value: &Value) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                flatten(pairs, &below(at, key), member);
            }
        }
        Value::Array(members) => {
            for (index, member) in members.iter().enumerate() {
                flatten(pairs, &below(at, &index.to_string()), member);
            }
        }
        Value::Null => pairs.push(at, ""),
        Value::Bool(on) => pairs.push(at, if *on { "on" } else { "off" }),
        Value::Number(number) => pairs.push(at, number.to_string()),
        Value::String(text) => pairs.push(at, text),
    }
}

fn below(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// Turns QEMU's single-quoted strings, and its `\'` escape, into JSON's own.
fn double_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                out.push('"');
            }
            (Some(open), _) if open == c => {
                quote = None;
                out.push('"');
            }
            (Some(_), '"') => out.push_str("\\\""),
            (Some(_), '\\') => match chars.next() {
                Some('\'') => out.push('\''),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> Result<Vec<String>, Error> {
        let pairs = pairs("-x", OsStr::new(text))?;
        let mut list: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={}", v.to_str().unwrap())).collect();
        list.sort();
        Ok(list)
    }

    #[test]
    fn nested_objects_and_lists_become_dotted_keys() {
        assert_eq!(
            flat(r#"{"a":{"b":true,"c":null},"d":["x",{"e":-1}],"f":false}"#).unwrap(),
            ["a.b=on", "a.c=", "d.0=x", "d.1.e=-1", "f=off"]
        );
    }

    #[test]
    fn single_quotes_are_strings_too() {
        assert_eq!(flat(r"{'a':'b'}").unwrap(), ["a=b"]);
        assert_eq!(flat(r#"{'a':'say "hi"'}"#).unwrap(), [r#"a=say "hi""#]);
        assert_eq!(flat(r#"{"a":"it's"}"#).unwrap(), ["a=it's"]);
        assert_eq!(flat(r#"{"a":"it\'s",'b':'\'\\\u00e9'}"#).unwrap(), [r"a=it's", r"b='\é"]);
    }

    #[test]
    fn members_come_in_the_order_written() {
        let found = members("-x", OsStr::new("{'b':{'c':1},\"a\":null,'b':\"x\"}")).unwrap();
        let found: Vec<String> = found.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        assert_eq!(found, [r#"b:{"c":1}"#, "a:null", r#"b:"x""#]);
        for text in ["[1]", "'a'", "{'a':'b}", "{}x"] {
            assert!(members("-x", OsStr::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_or_no_json_is_refused() {
        for text in ["[1]", "{", "{}x", "'a'", "{'a':'b}", r#"{"a":"\u0000"}"#] {
            assert!(flat(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let text = format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000));
        assert!(flat(&text).is_err());
    }
}
