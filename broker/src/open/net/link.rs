//! What the kernel tells of an interface.

use std::fmt;

use netlink_packet_core::{Nla, parse_u8, parse_u32};
use netlink_packet_route::link::{InfoData, InfoKind, InfoTun, LinkAttribute, LinkInfo, LinkMessage, Prop};

use super::name::InterfaceName;

/// Attributes of a tap, `IFLA_TUN_*` of include/uapi/linux/if_link.h (Linux 4.17), which the crates leave as numbers.
mod attributes {
    pub const OWNER: u16 = 1;
    pub const GROUP: u16 = 2;
    pub const TYPE: u16 = 3;
    pub const PERSIST: u16 = 6;
    pub const MULTI_QUEUE: u16 = 7;
    pub const NUM_QUEUES: u16 = 8;
    pub const NUM_DISABLED_QUEUES: u16 = 9;
}

/// An interface, as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index, which no other interface of its network namespace ever gets while it lives.
    pub index: u32,
    /// Its name.
    pub name: InterfaceName,
    /// Its other names (`IFLA_ALT_IFNAME`).
    pub other_names: Vec<String>,
    /// What kind of virtual interface it is; hardware has none.
    pub kind: Option<InfoKind>,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Its hardware address, if that is a MAC address.
    pub address: Option<[u8; 6]>,
    /// The index of the bridge, or the like, that it is a port of.
    pub master: Option<u32>,
    /// What only taps have.
    pub tun: Tun,
}

/// What the kernel says of a tap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tun {
    /// Whether it carries Ethernet frames, and not IP packets.
    pub is_tap: bool,
    /// Whether it was made for several queues.
    pub multi_queue: bool,
    /// Whether it stays when nobody has it open.
    pub persists: bool,
    /// Queues that are attached to it; only told of one for several queues.
    pub queues: u32,
    /// Queues that are detached, and that whoever has them open may attach again; told of as the others.
    pub detached: u32,
    /// Who may attach to it.
    pub owner: Owner,
}

/// Who may attach to a tap without `CAP_NET_ADMIN`: everybody, if neither is set, else whoever is both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Option<u32>,
    /// The group.
    pub group: Option<u32>,
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.user, self.group) {
            (Some(user), Some(group)) => write!(formatter, "user {user} in group {group}"),
            (Some(user), None) => write!(formatter, "user {user}"),
            (None, Some(group)) => write!(formatter, "group {group}"),
            (None, None) => formatter.write_str("everybody"),
        }
    }
}

impl Link {
    /// What it is, for messages.
    pub fn description(&self) -> String {
        match &self.kind {
            None => "a network card or a loopback".to_owned(),
            Some(InfoKind::Tun) if self.tun.is_tap => "a tap".to_owned(),
            Some(InfoKind::Tun) => "a tun (IP packets, no Ethernet frames)".to_owned(),
            Some(kind) => format!("an interface of kind {kind}"),
        }
    }

    /// Takes what is needed from the kernel's message; `None` if it makes no sense.
    pub(super) fn read(message: LinkMessage) -> Option<Self> {
        let name = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => InterfaceName::new(name).ok(),
            _ => None,
        })?;
        let mut link = Self {
            index: message.header.index,
            name,
            other_names: Vec::new(),
            kind: None,
            mtu: 0,
            address: None,
            master: None,
            tun: Tun::default(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(bytes) => link.address = bytes.try_into().ok(),
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::PropList(properties) => {
                    link.other_names = properties.into_iter().filter_map(other_name).collect()
                }
                LinkAttribute::LinkInfo(infos) => link.read_info(infos)?,
                _ => {}
            }
        }
        (link.index != 0).then_some(link)
    }

    fn read_info(&mut self, infos: Vec<LinkInfo>) -> Option<()> {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind),
                LinkInfo::Data(InfoData::Tun(attributes)) => {
                    attributes.iter().try_for_each(|attribute| self.tun.read(attribute))?;
                }
                _ => {}
            }
        }
        Some(())
    }
}

impl Tun {
    /// The crate leaves these attributes as numbers and bytes: one byte, or four in the host's order (`tun_fill_info`,
    /// drivers/net/tun.c).
    fn read(&mut self, attribute: &InfoTun) -> Option<()> {
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        match attribute.kind() {
            attributes::OWNER => self.owner.user = Some(parse_u32(&value).ok()?),
            attributes::GROUP => self.owner.group = Some(parse_u32(&value).ok()?),
            attributes::TYPE => self.is_tap = libc::c_int::from(parse_u8(&value).ok()?) == libc::IFF_TAP,
            attributes::MULTI_QUEUE => self.multi_queue = parse_u8(&value).ok()? != 0,
            attributes::PERSIST => self.persists = parse_u8(&value).ok()? != 0,
            attributes::NUM_DISABLED_QUEUES => self.detached = parse_u32(&value).ok()?,
            attributes::NUM_QUEUES => self.queues = parse_u32(&value).ok()?,
            _ => {}
        }
        Some(())
    }
}

fn other_name(property: Prop) -> Option<String> {
    match property {
        Prop::AltIfName(name) => Some(name),
        _ => None,
    }
}
