//! How each network will be opened: decided and checked, with nothing changed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use super::{Options, Plan};
use crate::emulator::{Card, DatagramNetwork, Network, Script, Source, Vhost};
use crate::open::net::address::MacAddress;
use crate::open::net::name::InterfaceName;
use crate::open::net::way::{self, Way};
use crate::open::net::{self, datagrams, vhost};
use crate::operator_program;

/// What QEMU runs where `script=` and `downscript=` are not given (`net/tap.c`, `meson.build`).
const UP_SCRIPT: &str = "/etc/qemu-ifup";
const DOWN_SCRIPT: &str = "/etc/qemu-ifdown";

/// The address of QEMU's first card; the others count on in the last byte (`qemu_macaddr_default_if_unset`).
const DEFAULT_ADDRESS: &str = "52:54:00:12:34:56";

/// A network that the broker will open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedNetwork {
    /// What the command line says of it.
    pub network: Network,
    /// How its queues are opened; none: they were handed in.
    pub way: Option<Way>,
    /// Whether vhost-net is opened too.
    pub vhost: bool,
    /// What is run when the interface is open, with its name.
    pub up: Option<OsString>,
    /// What is run when the guest has ended.
    pub down: Option<OsString>,
}

/// A network whose socket the broker will open for a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedDatagrams {
    /// What the command line says of it.
    pub network: DatagramNetwork,
    /// Between which addresses, all known.
    pub ends: datagrams::Ends,
}

impl Plan {
    /// Plans for the networks of the command line.
    pub(super) fn plan_networks(&mut self, options: &Options) -> Result<(), super::Error> {
        let list = options.bridge_acl.as_ref().map(|path| self.absolute(path.as_os_str()));
        for network in self.command.networks.clone() {
            let option = network.option.clone();
            let planned = plan(network, list.as_deref(), &mut self.notices);
            let planned = planned.and_then(|planned| self.check_alone(planned));
            self.networks.push(planned.map_err(|source| super::Error::Network { option, source: source.into() })?);
        }
        for network in self.command.datagrams.clone() {
            let ends = datagrams::Ends::look_up(&network.addresses).map_err(|source| super::Error::Network {
                option: network.option.clone(),
                source: Box::new(source.into()),
            })?;
            self.datagrams.push(PlannedDatagrams { network, ends });
        }
        if std::process::id() == 1 && self.networks.iter().any(|network| network.down.is_some()) {
            let why = "broker is process 1 here, with which all others end";
            self.notices.push(format!("the network scripts for the guest's end (downscript=) will not run: {why}"));
        }
        Ok(())
    }

    /// That no other network has the same interface.
    fn check_alone(&self, planned: PlannedNetwork) -> Result<PlannedNetwork, Error> {
        let taken = |name| self.networks.iter().any(|other| other.interface() == Some(name));
        match planned.interface().filter(|name| taken(name)) {
            Some(name) => Err(Error::Twice(name.clone())),
            None => Ok(planned),
        }
    }
}

impl PlannedNetwork {
    /// The interface, if its name is known yet.
    fn interface(&self) -> Option<&InterfaceName> {
        match self.way.as_ref()? {
            Way::Make(name) => Some(name).filter(|name| !name.as_str().contains('%')),
            Way::Tap(name) | Way::Macvtap { name, .. } => Some(name),
            Way::Join { .. } | Way::Help { .. } => None,
        }
    }
}

fn plan(network: Network, list: Option<&Path>, notices: &mut Vec<String>) -> Result<PlannedNetwork, Error> {
    let (way, up, down) = match &network.source {
        Source::Tap { interface, script, downscript } => {
            let way = Way::to_tap(interface.as_deref(), network.queues)?;
            let is_macvtap = match &way {
                Way::Macvtap { name, address } => check_cards(name, *address, &network.cards).map(|()| true)?,
                _ => false,
            };
            (Some(way), up_script(script, is_macvtap)?, down_script(downscript, is_macvtap))
        }
        Source::Bridge { bridge, helper } => (Some(Way::to_bridge(bridge, helper.as_deref(), list)?), None, None),
        Source::Handed => (None, None, None),
    };
    let vhost = plan_vhost(&network, notices)?;
    Ok(PlannedNetwork { network, way, vhost, up, down })
}

/// A macvtap passes frames for its own address only.
fn check_cards(name: &InterfaceName, address: [u8; 6], cards: &[Card]) -> Result<(), Error> {
    let Some(card) = cards.iter().find(|card| card.address != Some(address)) else { return Ok(()) };
    let wanted = MacAddress(address).to_string();
    let card_has =
        card.address.map_or(format!("QEMU's default address ({DEFAULT_ADDRESS} is the first one's)"), |own| {
            MacAddress(own).to_string()
        });
    // `-net nic` has another word for it.
    let key = if card.option.trim_start_matches('-').starts_with("net ") { "macaddr" } else { "mac" };
    Err(Error::Address { card: card.option.clone(), key, card_has, macvtap: name.clone(), wanted })
}

/// The script that is run at the start; one that cannot be run is an error now.
fn up_script(script: &Script, is_macvtap: bool) -> Result<Option<OsString>, Error> {
    let path = match script {
        Script::None => return Ok(None),
        Script::Default if is_macvtap => return Ok(None),
        Script::Default => OsString::from(UP_SCRIPT),
        Script::Named(path) => path.clone(),
    };
    match operator_program::check(&path) {
        Ok(()) => Ok(Some(path)),
        Err(source) => Err(Error::Script { path, source }),
    }
}

/// The script that is run at the end; QEMU's own only where it is installed.
fn down_script(script: &Script, is_macvtap: bool) -> Option<OsString> {
    match script {
        Script::None => None,
        Script::Default => {
            let there = !is_macvtap && operator_program::check(OsStr::new(DOWN_SCRIPT)).is_ok();
            there.then(|| DOWN_SCRIPT.into())
        }
        Script::Named(path) => Some(path.clone()),
    }
}

/// Whether vhost-net will be used. The device is opened to see, for a node may be there without its module.
fn plan_vhost(network: &Network, notices: &mut Vec<String>) -> Result<bool, Error> {
    match (network.vhost, || vhost::open(1)) {
        (Vhost::Off, _) => Ok(false),
        (Vhost::On, open) => Ok(open().map(|_| true)?),
        (Vhost::Try, open) => {
            let refused = open().err();
            notices.extend(refused.iter().map(|error| format!("{}: vhost-net is not used: {error}", network.option)));
            Ok(refused.is_none())
        }
    }
}

/// Why a network cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The interface.
    #[error(transparent)]
    Way(#[from] way::Error),
    /// vhost-net.
    #[error(transparent)]
    Vhost(#[from] net::Error),
    /// Addresses of datagrams.
    #[error(transparent)]
    Datagrams(#[from] datagrams::Error),
    /// An interface that has another guest's card already: this one's.
    #[error("the interface {0} is named twice; give each network one of its own (ifname=)")]
    Twice(InterfaceName),
    /// A card with another address than its macvtap.
    #[error(
        "the macvtap {macvtap} passes frames for its own address {wanted} only, but the card `{card}` has {card_has}; \
         write {key}={wanted} there"
    )]
    Address {
        /// The option that makes the card.
        card: String,
        /// The key by which it is given one.
        key: &'static str,
        /// What its address is.
        card_has: String,
        /// The interface.
        macvtap: InterfaceName,
        /// The interface's address.
        wanted: String,
    },
    /// A script that cannot be run.
    #[error(
        "cannot run the network script {}: {source}; name another one, or say script=no if nothing is to be run",
        path.to_string_lossy()
    )]
    Script {
        /// Its name.
        path: OsString,
        /// What the kernel said.
        source: io::Error,
    },
}
