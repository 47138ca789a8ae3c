//! Networks: `-netdev`, `-nic`, `-net`.
//!
//! Where the caller has one open, the word stays as it is, and so it does where QEMU makes a stream socket by address. A tap,
//! and a bridge, are opened by the broker before QEMU exists: [`Network`] says what is to be opened, and gives the word that
//! QEMU gets in place of the one typed. Sockets of datagrams are a relay's ([`DatagramNetwork`]). Every other backend that
//! opens something by itself is refused.

mod cards;
mod datagrams;
mod rewrite;
mod socket;
mod tap;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::os::fd::RawFd;

use self::rewrite::Kept;

use super::address;
use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::resource::Kind;
use super::value::{Pairs, is_help};

pub(super) use self::cards::connect;
pub use self::datagrams::{Addresses, DatagramNetwork, HostPort};
pub(super) use self::tap::number;

/// A network backend whose descriptors the broker opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The option that names it, as typed, for messages.
    pub option: String,
    /// What it leads to.
    pub source: Source,
    /// Queues of the interface, one descriptor each: `queues=`, or the number of descriptors that were handed in. From 1
    /// to 256.
    pub queues: u16,
    /// Whether vhost-net is opened, once a queue. Where `vhostfd=` hands it in, that is [`Vhost::Off`].
    pub vhost: Vhost,
    /// `vnet_hdr=`, where it is said.
    pub vnet_hdr: Option<bool>,
    /// The cards that are connected to it at the start, be it through a hub.
    pub cards: Vec<Card>,
    /// The place in `argv` of the word that is rewritten.
    pub word: usize,
    /// What is kept of that word.
    kept: Kept,
}

/// What a network backend leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `-netdev tap`: an interface that is there, or a new tap.
    Tap {
        /// `ifname=`, a name that an interface can have, or one with `%d` in it; QEMU takes `tap%d` where it is not given.
        interface: Option<String>,
        /// `script=`.
        script: Script,
        /// `downscript=`.
        downscript: Script,
    },
    /// `-netdev bridge`, or `-netdev tap,helper=`: a new tap on a bridge.
    Bridge {
        /// `br=`, else `br0`: a name that an interface can have.
        bridge: String,
        /// `helper=`, where it is said: a program, or a command for the shell if it holds a blank or a tab.
        helper: Option<OsString>,
    },
    /// `fd=` or `fds=`: only vhost descriptors are opened.
    Handed,
}

/// A program that is run when an interface is there, or before it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// Not said: QEMU's own, `/etc/qemu-ifup` or `/etc/qemu-ifdown`.
    Default,
    /// `no`, or nothing.
    None,
    /// This one.
    Named(OsString),
}

/// Whether vhost-net is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vhost {
    /// Not.
    Off,
    /// `vhost=on` or `vhostforce=on`: it must be there.
    On,
    /// `vhost=try`, a word of broker's own: where it is there.
    Try,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The option that makes it, as typed, for messages.
    pub option: String,
    /// The MAC address that the guest gets; QEMU's default one where it is not said, or zero.
    pub address: Option<[u8; 6]>,
}

impl Network {
    /// The word that is executed in place of the one at [`Network::word`], with the numbers of the descriptors: one a queue
    /// of the interface (of [`Source::Handed`] none, they stand there), and one a queue of vhost-net (none: it is not used).
    #[must_use]
    pub fn rewritten(&self, queues: &[RawFd], vhosts: &[RawFd]) -> OsString {
        let queues = if self.source == Source::Handed { &[] } else { queues };
        self.kept.with(queues, vhosts, self.vhost)
    }
}

/// Backends that open something by themselves, at least in some of their forms (`NetClientDriver` in `qapi/net.json`).
const REFUSED: &[&str] = &[
    "user",
    "l2tpv3",
    "socket",
    "stream",
    "dgram",
    "vde",
    "netmap",
    "vhost-vdpa",
    "af-xdp",
    "passt",
    "vmnet-host",
    "vmnet-shared",
    "vmnet-bridged",
];

/// Keys that name nothing by themselves, of the backends and cards that are served.
const HARMLESS_KEYS: &[&str] = &[
    "id",
    "type",
    "model",
    "mac",
    "macaddr",
    "name",
    "addr",
    "vectors",
    "netdev",
    "hubid",
    "chardev",
    "br", // of a tap that is handed in, QEMU ignores it
    "queues",
    "sndbuf",
    "vnet_hdr",
    "poll-us",
    "vhost",
    "vhostforce",
    "server",
    "addr.type",
    "local.type",
    "x-svq",
    "vhostdev",
    "reconnect",
    "reconnect-ms",
    "listen",
    "connect",
];

/// Keys whose value is a descriptor or, after the `s`, a list of them.
const DESCRIPTOR_KEYS: &[(&str, bool)] =
    &[("fd", false), ("fds", true), ("vhostfd", false), ("vhostfds", true), ("addr.str", false), ("local.str", false)];

const HAND_IN: &str =
    "use tap, bridge or stream, or -nic none, or hand an open one over: tap,fd=N or stream,addr.type=fd,addr.str=N";

/// `-netdev`, `-nic` and `-net`.
///
/// # Errors
/// [`Error::NotServed`] for every backend that opens something itself, but for tap, bridge, and connected sockets; of those,
/// what [`tap::read`], [`socket::stream`] and [`socket::plain`] say.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    draft.network |= !group.from_file;
    if ["type", "model"].iter().any(|key| pairs.get(key).is_some_and(is_help)) {
        draft.line.informational = true;
        // QEMU would open the backend before it lists the cards.
        let word = group.word.and_then(|word| draft.line.argv.get_mut(word));
        if let Some(word) = word.filter(|_| group.name == "nic" && matches!(kind(pairs), "tap" | "bridge")) {
            *word = "model=help".into();
        }
        return Ok(());
    }
    if let Some(network) = datagrams::read(draft, group)? {
        draft.line.datagrams.push(network);
        return Ok(());
    }
    let kind = kind(pairs);
    let served = match kind {
        "none" | "nic" | "hubport" | "vhost-user" => true,
        "tap" | "bridge" => match tap::read(draft, group)? {
            None => true,
            Some(network) => {
                draft.line.networks.push(network);
                return Ok(());
            }
        },
        "socket" => {
            socket::plain(draft, option, pairs)?;
            pairs.get("mcast").is_none() && pairs.get("udp").is_none()
        }
        "stream" => {
            socket::stream(draft, option, pairs)?;
            true
        }
        "dgram" => pairs.get("local.type").is_some_and(|t| t == "fd"),
        "vhost-vdpa" => {
            if let Some(device) = pairs.name("vhostdev") {
                draft.file(option, device, Kind::Device, OpenedBy::QemuOpen)?;
            }
            true
        }
        _ => false,
    };
    if !served && !REFUSED.contains(&kind) {
        return Err(Error::not_known(option, format!("the network backend {kind}"), HAND_IN));
    }
    if !served {
        return Err(Error::not_served(option, format!("the network backend {kind}"), HAND_IN));
    }
    read_keys(draft, option, pairs)
}

/// The backend; `-nic` without one is user networking (`net_param_nic` in `net/net.c`).
fn kind(pairs: &Pairs) -> &str {
    pairs.text("type").unwrap_or("user")
}

fn read_keys(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    for (key, value) in pairs.iter() {
        match DESCRIPTOR_KEYS.iter().find(|(k, _)| *k == key) {
            Some((_, true)) => draft.descriptors(option, value)?,
            Some((_, false)) => draft.descriptor(option, value)?,
            None if HARMLESS_KEYS.contains(&key) || address::is_member("addr.", key) => {}
            None => {
                let what = format!("{key}={}", value.to_string_lossy());
                return Err(Error::not_served(option, what, HAND_IN));
            }
        }
    }
    Ok(())
}
