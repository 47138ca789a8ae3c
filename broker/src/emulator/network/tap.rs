//! `tap` and `bridge`: what the broker opens for them.
//!
//! Source: `net_init_tap` and `net_init_bridge` in QEMU's `net/tap.c`, the same in 7.2 and 10.0. What QEMU would refuse is
//! refused here with its words, for nothing is to be opened, and no script to run, for a start that fails.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::super::draft::{Draft, Group};
use super::super::error::Error;
use super::super::json;
use super::super::value::Pairs;
use super::rewrite::Kept;
use super::{DESCRIPTOR_KEYS, Network, Script, Source, Vhost, kind};
use crate::open::net::name::InterfaceName;

/// The most queues that an interface can have (`MAX_TAP_QUEUES` in the kernel's `drivers/net/tun.c` and
/// `include/linux/if_tap.h`).
const MAX_QUEUES: u16 = 256;

/// The bridge that QEMU takes where none is named (`DEFAULT_BRIDGE_INTERFACE` in `include/net/net.h`).
const DEFAULT_BRIDGE: &str = "br0";

/// Keys of a tap (`NetdevTapOptions` in `qapi/net.json`).
const TAP_KEYS: &[&str] = &[
    "ifname",
    "fd",
    "fds",
    "script",
    "downscript",
    "br",
    "helper",
    "sndbuf",
    "vnet_hdr",
    "vhost",
    "vhostfd",
    "vhostfds",
    "vhostforce",
    "queues",
    "poll-us",
];

/// Keys of a bridge (`NetdevBridgeOptions` in `qapi/net.json`).
const BRIDGE_KEYS: &[&str] = &["br", "helper"];

/// Keys that `-nic` takes for its card (`net_param_nic` in `net/net.c`).
const CARD_KEYS: &[&str] = &["model", "mac"];

/// A tap's key, those that QEMU does not take beside it, and QEMU's words for that. The first that applies counts.
const CONFLICTS: &[(&str, &[&str], &str)] = &[
    (
        "fd",
        &["ifname", "script", "downscript", "vnet_hdr", "helper", "queues", "fds", "vhostfds"],
        "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, fds=, and vhostfds= are invalid with fd=",
    ),
    (
        "fds",
        &["ifname", "script", "downscript", "vnet_hdr", "helper", "queues", "vhostfd"],
        "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, and vhostfd= are invalid with fds=",
    ),
    (
        "helper",
        &["ifname", "script", "downscript", "vnet_hdr", "queues", "vhostfds"],
        "ifname=, script=, downscript=, vnet_hdr=, queues=, and vhostfds= are invalid with helper=",
    ),
];

/// What the broker opens for a tap or bridge; `None` if everything is handed in.
///
/// # Errors
/// [`Error::Malformed`] for what QEMU would refuse, and for names that no interface can have; [`Error::NotServed`] where
/// something is to be opened for words that cannot be rewritten.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<Option<Network>, Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let bridge = kind(pairs) == "bridge";
    if !bridge {
        check_conflicts(group)?;
    }
    let vhost = if bridge { Vhost::Off } else { vhost(option, pairs)? };
    let has_descriptors = !bridge && (has(pairs, "fd") || has(pairs, "fds"));
    if has_descriptors && vhost == Vhost::Off {
        return Ok(None);
    }
    check_keys(group, if bridge { BRIDGE_KEYS } else { TAP_KEYS })?;
    let (word, kept) = kept(draft, group)?;
    let source = if has_descriptors { Source::Handed } else { source(option, pairs, bridge)? };
    for (key, is_list) in DESCRIPTOR_KEYS.iter().filter(|_| !bridge) {
        match pairs.get(key) {
            Some(value) if *is_list => draft.descriptors(option, value)?,
            Some(value) => draft.descriptor(option, value)?,
            None => {}
        }
    }
    Ok(Some(Network {
        option: option.clone(),
        source,
        queues: queues(option, pairs)?,
        vhost,
        vnet_hdr: pairs.switch(option, "vnet_hdr")?,
        cards: Vec::new(),
        word,
        kept,
    }))
}

fn has(pairs: &Pairs, key: &str) -> bool {
    pairs.get(key).is_some()
}

fn check_conflicts(group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let problem = |words: &str| Err(Error::malformed(option, words));
    if group.name == "net" && ["queues", "fds", "vhostfds"].iter().any(|key| has(pairs, key)) {
        return problem("Multiqueue tap cannot be used with hubs; use -netdev");
    }
    let conflict = CONFLICTS.iter().find(|(key, others, _)| has(pairs, key) && others.iter().any(|o| has(pairs, o)));
    if let Some((_, _, words)) = conflict {
        return problem(&format!("{words}; leave one side out"));
    }
    if has(pairs, "vhostfds") && !has(pairs, "fds") {
        return problem("vhostfds= is invalid if fds= wasn't specified; use vhost=on, and the broker opens them");
    }
    if has(pairs, "vhostfds") && count(pairs, "fds") != count(pairs, "vhostfds") {
        return problem("The number of fds passed does not match the number of vhostfds passed");
    }
    if has(pairs, "vhostfd") && queues(option, pairs)? > 1 {
        return problem(
            "vhostfd= is one descriptor for several queues; leave it out, and the broker opens one a queue",
        );
    }
    Ok(())
}

/// Number of descriptors in a list (`get_fds` in `net/tap.c`).
fn count(pairs: &Pairs, key: &str) -> usize {
    pairs.get(key).map_or(0, |list| list.as_bytes().split(|byte| *byte == b':').count())
}

/// Whether the broker opens vhost-net. `vhost=` decides; without it `vhostforce=on` does (`net_init_tap_one`).
fn vhost(option: &str, pairs: &Pairs) -> Result<Vhost, Error> {
    let force = pairs.switch(option, "vhostforce")?.unwrap_or(false);
    let tries = pairs.get("vhost").is_some_and(|value| value == "try");
    let said = if tries { None } else { pairs.switch(option, "vhost")? };
    let handed = has(pairs, "vhostfd") || has(pairs, "vhostfds");
    match said {
        _ if tries && handed => Err(Error::malformed(option, "vhost=try is without vhostfd=; say vhost=on")),
        _ if tries && force => Err(Error::malformed(option, "vhost=try and vhostforce=on exclude each other")),
        Some(false) if handed => Err(Error::malformed(option, "vhostfd(s)= is not valid without vhost; say vhost=on")),
        _ if handed => Ok(Vhost::Off),
        _ if tries => Ok(Vhost::Try),
        said => Ok(if said.unwrap_or(force) { Vhost::On } else { Vhost::Off }),
    }
}

/// Checks what the word consists of, apart from what a backend makes of its values.
pub(super) fn check_keys(group: &Group, keys: &[&str]) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let of_card = if group.name == "nic" { CARD_KEYS } else { &[] };
    let known = |key: &str| matches!(key, "type" | "id") || keys.contains(&key) || of_card.contains(&key);
    if let Some((key, _)) = pairs.iter().find(|(key, _)| !known(key)) {
        let problem = format!("Invalid parameter '{key}'; QEMU knows none of that name here, check its spelling");
        return Err(Error::malformed(option, problem));
    }
    if group.name == "netdev" && !has(pairs, "id") {
        return Err(Error::malformed(option, "Parameter 'id' is missing; add id=NAME"));
    }
    Ok(())
}

/// The place of the word, and what is kept of it.
fn kept(draft: &Draft<'_>, group: &Group) -> Result<(usize, Kept), Error> {
    let option = &group.option;
    let (at, word, is_json) = place(draft, group, "a tap or bridge")?;
    let kept = if is_json { Kept::of_json(option, word) } else { Kept::of_pairs(option, word) };
    Ok((at, kept?))
}

/// The place of the word that is to be rewritten, the word itself, and whether it is JSON; `what` it is, for messages.
///
/// # Errors
/// [`Error::NotServed`] if the options do not stand in a word of their own, or not all of them.
pub(super) fn place<'d>(draft: &'d Draft<'_>, group: &Group, what: &str) -> Result<(usize, &'d OsStr, bool), Error> {
    let option = &group.option;
    let word = group.word.and_then(|at| Some((at, draft.line.argv.get(at)?)));
    let Some((at, word)) = word else {
        let instead = "write it on the command line as -netdev, where the broker can put the descriptors in";
        return Err(Error::not_served(option, format!("{what} in a file"), instead));
    };
    let is_json = group.name == "netdev" && word.as_bytes().starts_with(b"{");
    let read = if is_json { json::pairs(option, word)? } else { Pairs::parse(option, word, Some("type"))? };
    if read != group.pairs {
        let instead = format!("write it in the -{} itself, where the broker can put the descriptors in", group.name);
        return Err(Error::not_served(option, format!("-set for {what} that the broker opens"), instead));
    }
    let id = group.pairs.iter().find(|(key, _)| *key == "id").filter(|_| !is_json);
    if id.is_some_and(|(_, id)| !is_identifier(id)) {
        let problem = "Parameter 'id' expects an identifier: letters, digits, -, . and _, a letter first";
        return Err(Error::malformed(option, problem));
    }
    Ok((at, word, is_json))
}

/// What QEMU takes for an id, but in JSON (`id_wellformed` in `util/id.c`).
fn is_identifier(id: &OsStr) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    id.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && id.as_bytes().iter().all(fits)
}

fn source(option: &str, pairs: &Pairs, bridge: bool) -> Result<Source, Error> {
    let helper = pairs.get("helper").map(OsStr::to_owned);
    if helper.as_ref().is_some_and(|helper| helper.is_empty()) {
        return Err(Error::malformed(option, "helper= names no program; leave it out, or name one"));
    }
    // QEMU ignores br= where no helper is asked for it.
    if bridge || helper.is_some() {
        let bridge = pairs.get("br").map_or(Ok(DEFAULT_BRIDGE.to_owned()), |name| interface(option, "br", name))?;
        return Ok(Source::Bridge { bridge, helper });
    }
    let named = pairs.name("ifname").map(|name| interface(option, "ifname", name)).transpose()?;
    if let Some(name) = named.as_ref().filter(|name| !is_pattern_fit(name)) {
        let problem =
            format!("ifname={name}: a name may hold one %d, for the number of a new interface, and no other %");
        return Err(Error::malformed(option, problem));
    }
    Ok(Source::Tap { interface: named, script: script(pairs, "script"), downscript: script(pairs, "downscript") })
}

fn interface(option: &str, key: &str, name: &OsStr) -> Result<String, Error> {
    let text = name.to_str().ok_or_else(|| {
        let problem = format!("{key}={} is not UTF-8 text; choose another name", name.to_string_lossy());
        Error::malformed(option, problem)
    })?;
    let name = InterfaceName::new(text).map_err(|invalid| Error::malformed(option, format!("{key}=: {invalid}")))?;
    Ok(name.as_str().to_owned())
}

/// Whether the kernel takes a `%` in a name for a number (`dev_alloc_name` in its `net/core/dev.c`), or there is none.
fn is_pattern_fit(name: &str) -> bool {
    name.split_once('%').is_none_or(|(_, rest)| rest.strip_prefix('d').is_some_and(|rest| !rest.contains('%')))
}

fn script(pairs: &Pairs, key: &str) -> Script {
    match pairs.get(key) {
        None => Script::Default,
        Some(name) if name.is_empty() || name == "no" => Script::None,
        Some(name) => Script::Named(name.to_owned()),
    }
}

fn queues(option: &str, pairs: &Pairs) -> Result<u16, Error> {
    let wanted = match pairs.get("queues") {
        None => u64::try_from(count(pairs, "fds").max(1)).ok(),
        Some(text) => number(text),
    };
    let wanted = wanted.ok_or_else(|| Error::malformed(option, "Parameter 'queues' expects a uint64 value"))?;
    let fits = u16::try_from(wanted).ok().filter(|queues| (1..=MAX_QUEUES).contains(queues));
    fits.ok_or_else(|| {
        let problem = format!("{wanted} queues; the kernel gives an interface 1 to {MAX_QUEUES} (MAX_TAP_QUEUES)");
        Error::malformed(option, problem)
    })
}

/// A number as `strtoull` reads it: decimal, hexadecimal behind `0x`, octal behind `0`.
pub(in super::super) fn number(text: &OsStr) -> Option<u64> {
    let text = text.to_str().filter(|text| !text.starts_with('+'))?;
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}
