//! Addresses of sockets, as QEMU's options have them.
//!
//! Sources: `inet_parse`, `socket_parse`, `inet_listen_saddr` and `unix_listen_saddr` in `util/qemu-sockets.c`, and
//! `SocketAddress` in `qapi/sockets.json`, of QEMU 7.2 and 10.0. What they refuse has no address here: QEMU gets the words
//! and says so itself. Nothing is resolved here but the names of ports.

mod service;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::draft::Draft;
use super::endpoint::{Address, EndpointUse};
use super::error::Error;
use super::value::{Pairs, switch};

/// Bytes of `sun_path` in `sockaddr_un` (unix(7)).
const UNIX_NAME: usize = 108;

/// The protocol of a port that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// An address of the internet family as it was typed.
#[derive(Debug, Clone, Default)]
pub(super) struct Inet<'a> {
    pub(super) host: &'a str,
    /// A number, the name of a service, or empty for any.
    pub(super) port: &'a str,
    /// The last port of a range.
    pub(super) to: Option<i64>,
    pub(super) ipv4: Option<bool>,
    pub(super) ipv6: Option<bool>,
}

impl Inet<'_> {
    /// The address, or none if QEMU refuses it.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a number that is no port, for of such numbers the C library takes the low 16 bits.
    pub(super) fn address(
        &self,
        draft: &mut Draft<'_>,
        option: &str,
        transport: Transport,
    ) -> Result<Option<Address>, Error> {
        draft.line.internet = true;
        let Some(first_port) = service::port(draft, option, self.port, transport)? else { return Ok(None) };
        // QEMU keeps the end of a range in 16 bits.
        let Ok(last_port) = self.to.map_or(Ok(first_port), u16::try_from) else {
            return Err(Error::malformed(option, "to= is no port; write a number from 1 to 65535"));
        };
        if self.ipv4 == Some(false) && self.ipv6 == Some(false) || last_port < first_port {
            return Ok(None);
        }
        let Self { ipv4, ipv6, .. } = *self;
        Ok(Some(Address::Inet { host: self.host.to_owned(), first_port, last_port, ipv4, ipv6 }))
    }
}

/// A UNIX socket's address, or none if QEMU refuses it.
///
/// # Errors
/// [`Error::NotServed`] for an empty path, in place of which QEMU listens on one that nobody knows beforehand.
pub(super) fn unix(option: &str, path: &OsStr, in_abstract: bool, tight: bool) -> Result<Option<Address>, Error> {
    let length = path.len();
    if in_abstract {
        let mut name = path.as_bytes().to_vec();
        if !tight && length < UNIX_NAME {
            name.resize(UNIX_NAME - 1, 0);
        }
        return Ok((length < UNIX_NAME).then_some(Address::Abstract { name }));
    }
    if length == 0 {
        return Err(Error::not_served(option, "a UNIX socket without a name", "write its path"));
    }
    Ok((length <= UNIX_NAME).then(|| Address::Unix { path: path.to_owned() }))
}

/// Reads `HOST:PORT[,to=][,ipv4][,ipv6]...` (`inet_parse`).
///
/// # Errors
/// As [`Inet::address`]; [`Error::Malformed`] for what is not UTF-8; [`Error::NotServed`] for `mptcp`.
pub(super) fn inet_text(
    draft: &mut Draft<'_>,
    option: &str,
    text: &OsStr,
    transport: Transport,
) -> Result<Option<Address>, Error> {
    let Some((host, port, options)) = host_and_port(utf8(option, text)?) else { return Ok(None) };
    let mut inet = Inet { host, port, ..Inet::default() };
    // The first of several counts, and where it stands in a longer word, it counts too.
    if let Some((_, rest)) = options.split_once(",to=") {
        let number = rest.split(',').next().unwrap_or_default();
        let Ok(to) = number.trim_start().parse() else { return Ok(None) };
        inet.to = Some(to);
    }
    for (flag, value) in [(",ipv4", &mut inet.ipv4), (",ipv6", &mut inet.ipv6)] {
        match flag_in(options, flag) {
            Some(None) => return Ok(None),
            Some(on) => *value = on,
            None => {}
        }
    }
    if flag_in(options, ",mptcp").flatten() == Some(true) {
        return Err(refused_mptcp(option));
    }
    inet.address(draft, option, transport)
}

/// Room for a host and for a port in QEMU (`%64[^:]`, `%32[^,]`), in bytes.
const MAX_HOST: usize = 64;
const MAX_PORT: usize = 32;

/// The host before a colon, in brackets if it holds some, the port, and the options behind.
pub(super) fn host_and_port(text: &str) -> Option<(&str, &str, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:").filter(|(host, _)| !host.is_empty() && !host.contains(']'))?,
        None => text.split_once(':')?,
    };
    let (port, options) = rest.split_at_checked(rest.find(',').unwrap_or(rest.len()).min(MAX_PORT))?;
    (host.len() <= MAX_HOST && !port.is_empty()).then_some((host, port, options))
}

/// What a flag of `inet_parse` says: nothing, something that QEMU refuses, or on or off.
fn flag_in(options: &str, flag: &str) -> Option<Option<bool>> {
    let (_, rest) = options.split_once(flag)?;
    let (value, next) = rest.split_once(',').unwrap_or((rest, ""));
    Some(match value {
        _ if next.starts_with(',') => None,
        "" | "=on" => Some(true),
        "=off" => Some(false),
        _ => None,
    })
}

/// What the options of a socket name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// What QEMU refuses.
    Nothing,
    /// A socket that it makes.
    Address(Address),
    /// One that is open.
    Descriptor(OsString),
}

impl From<Option<Address>> for Named {
    fn from(address: Option<Address>) -> Self {
        address.map_or(Self::Nothing, Self::Address)
    }
}

/// The members of a `SocketAddress`.
const MEMBERS: &[&str] = &[
    "type",
    "host",
    "port",
    "numeric",
    "to",
    "ipv4",
    "ipv6",
    "keep-alive",
    "mptcp",
    "path",
    "abstract",
    "tight",
    "str",
];

/// True if `key` is a member of the address whose keys begin with `prefix`.
pub(super) fn is_member(prefix: &str, key: &str) -> bool {
    key.strip_prefix(prefix).is_some_and(|member| MEMBERS.contains(&member))
}

/// Reads a `SocketAddress` from the pairs that begin with `prefix` (`addr.` in `-netdev stream,addr.type=...`).
///
/// # Errors
/// As [`Inet::address`] and [`unix`]; [`Error::NotServed`] for another family, and for a member that is not known.
pub(super) fn of_pairs(draft: &mut Draft<'_>, option: &str, pairs: &Pairs, prefix: &str) -> Result<Named, Error> {
    let key = |member: &str| format!("{prefix}{member}");
    let text = |member: &str| pairs.get(&key(member)).map(|value| utf8(option, value)).transpose();
    let on = |member: &str| pairs.switch(option, &key(member));
    if let Some((odd, _)) = pairs.iter().find(|(odd, _)| odd.starts_with(prefix) && !is_member(prefix, odd)) {
        return Err(Error::not_served(option, odd, "leave it out: it is not known what QEMU would open for it"));
    }
    match pairs.text(&key("type")) {
        Some("unix") => match pairs.get(&key("path")) {
            Some(path) => {
                unix(option, path, on("abstract")?.unwrap_or(false), on("tight")?.unwrap_or(true)).map(Named::from)
            }
            None => Ok(Named::Nothing),
        },
        Some("inet") => {
            if on("mptcp")?.unwrap_or(false) {
                return Err(refused_mptcp(option));
            }
            let (Some(host), Some(port)) = (text("host")?, text("port")?) else { return Ok(Named::Nothing) };
            let to = text("to")?.map(str::parse).transpose();
            let Ok(to) = to else { return Ok(Named::Nothing) };
            let inet = Inet { host, port, to, ipv4: on("ipv4")?, ipv6: on("ipv6")? };
            inet.address(draft, option, Transport::Tcp).map(Named::from)
        }
        Some("fd") => Ok(pairs.get(&key("str")).map_or(Named::Nothing, |number| Named::Descriptor(number.to_owned()))),
        Some("vsock") => Err(Error::not_served(option, "a vsock address", "use type=unix or type=inet")),
        _ => Ok(Named::Nothing),
    }
}

/// Notes what `named` names, if it names something.
///
/// # Errors
/// As [`Draft::descriptor`].
pub(super) fn note(draft: &mut Draft<'_>, option: &str, use_: EndpointUse, named: Named) -> Result<(), Error> {
    match named {
        Named::Nothing => Ok(()),
        Named::Address(address) => {
            draft.endpoint(option, use_, Some(address));
            Ok(())
        }
        Named::Descriptor(number) => draft.descriptor(option, &number),
    }
}

/// What a socket that is `server` or not is for.
pub(super) fn stream(server: bool) -> EndpointUse {
    if server { EndpointUse::Listen } else { EndpointUse::Connect }
}

/// `value` as text.
///
/// # Errors
/// [`Error::Malformed`] if it is not UTF-8.
pub(super) fn utf8<'v>(option: &str, value: &'v OsStr) -> Result<&'v str, Error> {
    value.to_str().ok_or_else(|| Error::malformed(option, "the address is not UTF-8 text; write it anew"))
}

/// Refuses a key that is switched on.
///
/// # Errors
/// [`Error::NotServed`] if it is, [`Error::Malformed`] if it is no switch.
pub(super) fn refuse_switch(option: &str, pairs: &Pairs, key: &str, instead: &str) -> Result<(), Error> {
    match pairs.get(key).map(|value| switch(option, key, value)).transpose()? {
        Some(true) => Err(Error::not_served(option, format!("{key}=on"), instead)),
        _ => Ok(()),
    }
}

fn refused_mptcp(option: &str) -> Error {
    Error::not_served(option, "mptcp=on", "leave it out: the broker makes TCP sockets")
}
