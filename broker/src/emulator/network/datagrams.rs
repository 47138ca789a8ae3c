//! `socket,udp=`, `socket,mcast=` and `dgram`: networks whose frames are datagrams of UDP, or of UNIX sockets.
//!
//! Who has such a socket can send to every address that the host reaches. So QEMU gets one end of a pair instead, and
//! a relay has the other end and the socket.
//!
//! Source: `net_init_socket` in QEMU's `net/socket.c` and `net_init_dgram` in its `net/dgram.c`, the same in 7.2 and 10.0;
//! both know IPv4 alone. What QEMU would refuse is refused with its words, before a socket is bound.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;

use super::super::draft::{Draft, Group};
use super::super::error::Error;
use super::super::value::Pairs;
use super::rewrite::Kept;
use super::tap::{check_keys, number, place};
use super::{HAND_IN, kind};

/// A network whose frames a relay carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatagramNetwork {
    /// The option that names it, as typed, for messages.
    pub option: String,
    /// Between which addresses.
    pub addresses: Addresses,
    /// The place in `argv` of the word that is rewritten.
    pub word: usize,
    /// What is kept of that word.
    kept: Kept,
    /// `dgram`, and not `socket`, which has another word for a descriptor.
    is_dgram: bool,
}

/// The addresses of a datagram network, host names not yet looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// `socket,mcast=`
    Multicast {
        /// The group.
        group: HostPort,
        /// `localaddr=`: the interface's own address.
        interface: Option<String>,
    },
    /// `socket,udp=`
    Unicast {
        /// `localaddr=`
        local: HostPort,
        /// Whom everything is sent to; frames are taken from everybody.
        remote: HostPort,
    },
    /// `dgram` with `remote.type=inet`: multicast if the remote address is that of a group.
    Inet {
        /// Where it is bound; of a group, the host is the interface's address.
        local: Option<HostPort>,
        /// As of [`Addresses::Unicast`].
        remote: HostPort,
    },
    /// `dgram` with `local.type=unix`
    Unix {
        /// The path that it is bound to, relative to the folder of the start if it is relative.
        local: OsString,
        /// The path that everything is sent to.
        remote: OsString,
    },
}

/// An IPv4 host and a port of UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; empty: all of this host's.
    pub host: String,
    /// The port; 0: any.
    pub port: u16,
}

impl DatagramNetwork {
    /// The word that is executed in place of the one at [`DatagramNetwork::word`]; `socket` is the end of a pair.
    #[must_use]
    pub fn rewritten(&self, socket: RawFd) -> OsString {
        self.kept.with_datagrams(socket, self.is_dgram)
    }
}

/// Keys of `socket` (`NetdevSocketOptions` in `qapi/net.json`).
const SOCKET_KEYS: &[&str] = &["fd", "listen", "connect", "mcast", "localaddr", "udp"];

/// Those of them that say what it is, exactly one.
const SOCKET_KINDS: &[&str] = &["fd", "listen", "connect", "mcast", "udp"];

/// Keys of both sides of `dgram`, with the type of side that has them (`SocketAddress` in `qapi/sockets.json`). QEMU
/// looks only at host, port and path, but wants the others to be what they are.
const INET_KEYS: &[&str] = &["type", "host", "port", "numeric", "to", "ipv4", "ipv6", "keep-alive", "mptcp"];
const UNIX_KEYS: &[&str] = &["type", "path", "abstract", "tight"];

/// The longest path that a UNIX socket can have with the NUL behind it, in bytes (`sun_path`, unix(7)).
const MAX_PATH: usize = 108;

/// What the relay carries for a network; `None` if it is none of datagrams, or the caller has its socket open.
///
/// # Errors
/// [`Error::Malformed`] for what QEMU would refuse; [`Error::NotServed`] if the word cannot be rewritten.
pub(super) fn read(draft: &Draft<'_>, group: &Group) -> Result<Option<DatagramNetwork>, Error> {
    let pairs = &group.pairs;
    let has = |key| pairs.get(key).is_some();
    let is_dgram = kind(pairs) == "dgram";
    let addresses = match kind(pairs) {
        "socket" if has("udp") || has("mcast") => socket(group)?,
        "dgram" if group.name == "netdev" && pairs.get("local.type").is_none_or(|kind| kind != "fd") => dgram(group)?,
        _ => return Ok(None),
    };
    let (word, typed, is_json) = place(draft, group, "datagrams")?;
    let kept = Kept::of_datagrams(&group.option, typed, is_json)?;
    Ok(Some(DatagramNetwork { option: group.option.clone(), addresses, word, kept, is_dgram }))
}

fn socket(group: &Group) -> Result<Addresses, Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let problem = |words: &str| Err(Error::malformed(option, words));
    check_keys(group, SOCKET_KEYS)?;
    if SOCKET_KINDS.iter().filter(|key| pairs.get(key).is_some()).count() != 1 {
        return problem("exactly one of listen=, connect=, mcast= or udp= is required; leave the others out");
    }
    let local = pairs.get("localaddr").map(|text| utf8(option, "localaddr", text)).transpose()?;
    if let Some(group) = pairs.get("mcast") {
        let group = host_port(option, utf8(option, "mcast", group)?)?;
        return Ok(Addresses::Multicast { group, interface: local.map(str::to_owned) });
    }
    let Some(local) = local else { return problem("localaddr= is mandatory with udp=; add localaddr=HOST:PORT") };
    let local = host_port(option, local)?;
    let remote = utf8(option, "udp", pairs.get("udp").unwrap_or_default())?;
    Ok(Addresses::Unicast { local, remote: host_port(option, remote)? })
}

fn dgram(group: &Group) -> Result<Addresses, Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let problem = |words: &str| Err(Error::malformed(option, words));
    check_dgram_keys(group)?;
    let (local, remote) = (side_kind(option, pairs, "local")?, side_kind(option, pairs, "remote")?);
    match (local, remote) {
        (None, Some("inet")) => Ok(Addresses::Inet { local: None, remote: inet(option, pairs, "remote")? }),
        (None, _) => problem("dgram requires local= parameter; add local.type= and what belongs to it"),
        (Some(_), None) => problem("type=inet or type=unix requires remote parameter; add remote.type="),
        (Some(local), Some(remote)) if local != remote => problem("remote and local types must be the same"),
        (Some("unix"), _) => {
            Ok(Addresses::Unix { local: path(option, pairs, "local")?, remote: path(option, pairs, "remote")? })
        }
        (Some("inet"), _) => {
            let local = Some(inet(option, pairs, "local")?);
            Ok(Addresses::Inet { local, remote: inet(option, pairs, "remote")? })
        }
        (Some(_), _) => Err(Error::not_served(option, "another type than inet, unix and fd", HAND_IN)),
    }
}

/// Checks that each side has the keys of its type and no others.
fn check_dgram_keys(group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    for (key, value) in pairs.iter() {
        let Some((side, own)) = key.split_once('.').filter(|(side, _)| matches!(*side, "local" | "remote")) else {
            continue;
        };
        let keys = if side_kind(option, pairs, side)? == Some("unix") { UNIX_KEYS } else { INET_KEYS };
        if !keys.contains(&own) {
            return Err(unknown(option, key));
        }
        if matches!(own, "numeric" | "ipv4" | "ipv6" | "keep-alive" | "mptcp" | "abstract" | "tight") {
            super::super::value::switch(option, key, value)?;
        }
    }
    let outer = |key: &str| matches!(key, "type" | "id") || key.starts_with("local.") || key.starts_with("remote.");
    match pairs.iter().find(|(key, _)| !outer(key)) {
        Some((key, _)) => Err(unknown(option, key)),
        None if pairs.get("id").is_none() => Err(Error::malformed(option, "Parameter 'id' is missing; add id=NAME")),
        None => Ok(()),
    }
}

fn unknown(option: &str, key: &str) -> Error {
    Error::malformed(option, format!("Parameter '{key}' is unexpected; leave it out, or check its spelling"))
}

/// `local.type` or `remote.type`; none if nothing is said of that side.
fn side_kind<'p>(option: &str, pairs: &'p Pairs, side: &str) -> Result<Option<&'p str>, Error> {
    let prefix = format!("{side}.");
    if !pairs.iter().any(|(key, _)| key.starts_with(&prefix)) {
        return Ok(None);
    }
    let key = format!("{side}.type");
    let kind = pairs.get(&key).ok_or_else(|| missing(option, &key))?;
    utf8(option, &key, kind).map(Some)
}

fn missing(option: &str, key: &str) -> Error {
    Error::malformed(option, format!("Parameter '{key}' is missing; add it"))
}

fn inet(option: &str, pairs: &Pairs, side: &str) -> Result<HostPort, Error> {
    let text = |name: &str| {
        let key = format!("{side}.{name}");
        pairs.get(&key).ok_or_else(|| missing(option, &key)).and_then(|value| utf8(option, &key, value))
    };
    Ok(HostPort { host: text("host")?.to_owned(), port: port(option, text("port")?)? })
}

fn path(option: &str, pairs: &Pairs, side: &str) -> Result<OsString, Error> {
    let key = format!("{side}.path");
    let path = pairs.get(&key).ok_or_else(|| missing(option, &key))?;
    if path.is_empty() {
        return Err(Error::malformed(option, format!("{key}= names no socket; name one")));
    }
    if path.len() >= MAX_PATH {
        let problem = format!(
            "UNIX socket path '{}' is too long; Path must be less than {MAX_PATH} bytes",
            path.to_string_lossy()
        );
        return Err(Error::malformed(option, problem));
    }
    Ok(path.to_owned())
}

/// `HOST:PORT`, with or without a host (`parse_host_port` in `net/net.c`).
fn host_port(option: &str, text: &str) -> Result<HostPort, Error> {
    let Some((host, number)) = text.split_once(':') else {
        let problem = format!("host address '{text}' doesn't contain ':' separating host from port; write HOST:PORT");
        return Err(Error::malformed(option, problem));
    };
    Ok(HostPort { host: host.to_owned(), port: port(option, number)? })
}

fn port(option: &str, text: &str) -> Result<u16, Error> {
    number(OsStr::new(text))
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| Error::malformed(option, format!("port number '{text}' is invalid; give one from 0 to 65535")))
}

fn utf8<'v>(option: &str, key: &str, value: &'v OsStr) -> Result<&'v str, Error> {
    value.to_str().ok_or_else(|| Error::malformed(option, format!("{key}= is not UTF-8 text; write another address")))
}

#[cfg(test)]
mod tests;
