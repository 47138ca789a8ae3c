//! The word that QEMU gets in place of the one typed.
//!
//! What says how an interface is found or made goes, for the broker did that, and QEMU allows none of it beside a
//! descriptor. All else stays, in its order: of `key=value` pairs byte for byte, of JSON as the same values.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;

use serde_json::Value;

use super::super::error::Error;
use super::super::{json, value};
use super::Vhost;

/// Keys that QEMU does not get.
const DROPPED: &[&str] = &["ifname", "script", "downscript", "br", "helper", "vnet_hdr", "queues"];

/// Keys of datagram networks that QEMU does not get; those of `dgram` are objects in JSON, and dotted else.
const ADDRESSES: &[&str] = &["udp", "mcast", "localaddr", "local", "remote"];

/// What is kept of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// Each pair with its key, and its bytes as they were typed.
    Pairs(Vec<(String, Vec<u8>)>),
    /// The members of a JSON object.
    Json(Vec<(String, Value)>),
}

impl Kept {
    /// What is kept of `word`, in which a bridge becomes the tap that is made for it.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not what it was taken for when it was read first.
    pub(super) fn of_pairs(option: &str, word: &OsStr) -> Result<Self, Error> {
        let mut kept = value::segments(option, word, Some("type"))?;
        kept.retain(|(key, _)| !DROPPED.contains(&key.as_str()));
        for (_, typed) in kept.iter_mut().filter(|(key, _)| key == "type") {
            let as_typed = if typed.starts_with(b"type=") { "type=tap" } else { "tap" };
            *typed = as_typed.into();
        }
        Ok(Self::Pairs(kept))
    }

    /// The same of a JSON object.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a key comes twice, or a value is not of the type that QEMU demands.
    pub(super) fn of_json(option: &str, word: &OsStr) -> Result<Self, Error> {
        let mut kept = members(option, word)?;
        kept.iter().try_for_each(|(key, value)| check_type(option, key, value))?;
        kept.retain(|(key, _)| !DROPPED.contains(&key.as_str()));
        for (_, value) in kept.iter_mut().filter(|(key, _)| key == "type") {
            *value = "tap".into();
        }
        Ok(Self::Json(kept))
    }

    /// What is kept of the word of a datagram network: all but its addresses.
    ///
    /// # Errors
    /// As [`Kept::of_pairs`] and [`Kept::of_json`].
    pub(super) fn of_datagrams(option: &str, word: &OsStr, is_json: bool) -> Result<Self, Error> {
        if !is_json {
            let mut kept = value::segments(option, word, Some("type"))?;
            kept.retain(|(key, _)| !ADDRESSES.contains(&key.split('.').next().unwrap_or_default()));
            return Ok(Self::Pairs(kept));
        }
        let mut kept = members(option, word)?;
        for (key, value) in &kept {
            match value.as_object().filter(|_| matches!(key.as_str(), "local" | "remote")) {
                None => check_type(option, key, value)?,
                Some(address) => {
                    let mut texts =
                        address.iter().filter(|(key, _)| matches!(key.as_str(), "type" | "host" | "port" | "path"));
                    texts.try_for_each(|(key, value)| check_type(option, key, value))?;
                }
            }
        }
        kept.retain(|(key, _)| !ADDRESSES.contains(&key.as_str()));
        Ok(Self::Json(kept))
    }

    /// The word of a datagram network with the number of its socket; `dgram` has a word for it that `socket` has not.
    pub(super) fn with_datagrams(&self, socket: RawFd, is_dgram: bool) -> OsString {
        let number = socket.to_string();
        match self {
            Self::Pairs(kept) if is_dgram => {
                join_pairs(kept, None, &[("local.type", "fd".to_owned()), ("local.str", number)])
            }
            Self::Pairs(kept) => join_pairs(kept, None, &[("fd", number)]),
            Self::Json(kept) if is_dgram => {
                join_json(kept, None, vec![("local", serde_json::json!({"type": "fd", "str": number}))])
            }
            Self::Json(kept) => join_json(kept, None, vec![("fd", number.into())]),
        }
    }

    /// The word with the numbers of descriptors, which come last.
    pub(super) fn with(&self, queues: &[RawFd], vhosts: &[RawFd], vhost: Vhost) -> OsString {
        let mut added = Vec::new();
        if !queues.is_empty() {
            added.push((if queues.len() > 1 { "fds" } else { "fd" }, list(queues)));
        }
        if !vhosts.is_empty() {
            // With fds= QEMU takes the list alone, be there one in it.
            let many = vhosts.len() > 1 || self.has("fds");
            added.push((if many { "vhostfds" } else { "vhostfd" }, list(vhosts)));
        }
        let on = (vhost != Vhost::Off).then_some(!vhosts.is_empty());
        match self {
            Self::Pairs(kept) => join_pairs(kept, on, &added),
            Self::Json(kept) => {
                join_json(kept, on, added.into_iter().map(|(key, numbers)| (key, numbers.into())).collect())
            }
        }
    }

    fn has(&self, key: &str) -> bool {
        match self {
            Self::Pairs(kept) => kept.iter().any(|(own, _)| own == key),
            Self::Json(kept) => kept.iter().any(|(own, _)| own == key),
        }
    }
}

/// The members of a JSON object, none of which comes twice.
fn members(option: &str, word: &OsStr) -> Result<Vec<(String, Value)>, Error> {
    let members = json::members(option, word)?;
    for (at, (key, _)) in members.iter().enumerate() {
        if members.iter().take(at).any(|(earlier, _)| earlier == key) {
            return Err(Error::malformed(option, format!("JSON parse error, duplicate key; leave one {key} out")));
        }
    }
    Ok(members)
}

/// Checks the type of one of a tap's or bridge's values (`NetdevTapOptions` in `qapi/net.json`).
fn check_type(option: &str, key: &str, value: &Value) -> Result<(), Error> {
    let (fits, expected) = match key {
        "vhost" => (value.is_boolean() || value == "try", "boolean, or \"try\""),
        "vnet_hdr" | "vhostforce" => (value.is_boolean(), "boolean"),
        "queues" | "sndbuf" | "poll-us" => (value.is_u64(), "integer"),
        _ => (value.is_string(), "string"),
    };
    if fits {
        return Ok(());
    }
    Err(Error::malformed(option, format!("Invalid parameter type for '{key}', expected: {expected}")))
}

fn list(numbers: &[RawFd]) -> String {
    let numbers: Vec<String> = numbers.iter().map(RawFd::to_string).collect();
    numbers.join(":")
}

/// `on`: whether vhost-net is used, where that was the broker's to find out.
fn join_pairs(kept: &[(String, Vec<u8>)], on: Option<bool>, added: &[(&str, String)]) -> OsString {
    let mut words: Vec<Vec<u8>> = Vec::new();
    for (key, typed) in kept {
        let stays = key != "vhost" || on.is_none() || (on == Some(true) && typed != b"vhost=try");
        words.push(if stays { typed.clone() } else { switch(on).into() });
    }
    if on == Some(false) && !kept.iter().any(|(key, _)| key == "vhost") {
        words.push(switch(on).into());
    }
    words.extend(added.iter().map(|(key, numbers)| format!("{key}={numbers}").into_bytes()));
    OsString::from_vec(words.join(&b','))
}

fn switch(on: Option<bool>) -> &'static str {
    if on == Some(true) { "vhost=on" } else { "vhost=off" }
}

/// As [`join_pairs`].
fn join_json(kept: &[(String, Value)], on: Option<bool>, added: Vec<(&str, Value)>) -> OsString {
    let mut members = kept.to_vec();
    if let Some(on) = on {
        match members.iter_mut().find(|(key, _)| key == "vhost") {
            Some((_, value)) => *value = on.into(),
            None if !on => members.push(("vhost".to_owned(), false.into())),
            None => {}
        }
    }
    members.extend(added.into_iter().map(|(key, numbers)| (key.to_owned(), numbers)));
    let members: Vec<String> =
        members.into_iter().map(|(key, value)| format!("{}:{value}", Value::from(key))).collect();
    format!("{{{}}}", members.join(",")).into()
}

#[cfg(test)]
mod tests;
