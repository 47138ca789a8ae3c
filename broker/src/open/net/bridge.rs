//! New taps on bridges.

use netlink_packet_route::link::{InfoKind, LinkAttribute};

use super::link::Link;
use super::name::InterfaceName;
use super::rtnl::Client;
use super::{Error, Interface, Wanted, tun};

/// The first byte of a tap's MAC address on a bridge. A bridge takes the lowest address of its ports for its own, unless
/// it was given one, and must not change it when a guest comes or goes (libvirt and QEMU's helper use the same).
const HIGH_FIRST_BYTE: u8 = 0xfe;

/// A bridge that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its interface index.
    pub index: u32,
    /// Its name, then its other names (`IFLA_ALT_IFNAME`), each of which an access list may mention.
    pub names: Vec<String>,
    /// Its MTU, in bytes.
    pub mtu: u32,
}

/// Finds the bridge that has `name` or has it as another name.
///
/// # Errors
/// There is no such interface, or it is no bridge.
pub fn look_up(name: &InterfaceName) -> Result<Bridge, Error> {
    let ask = |source| Error::Ask { name: name.clone(), source };
    let found = Client::open().and_then(|client| client.find(name)).map_err(ask)?;
    let link = found.ok_or_else(|| Error::NoBridge { name: name.clone() })?;
    if link.kind != Some(InfoKind::Bridge) {
        return Err(Error::NotABridge { name: name.clone(), found: link.description() });
    }
    let Link { index, mtu, name: own, other_names, .. } = link;
    Ok(Bridge { index, names: std::iter::once(own.as_str().to_owned()).chain(other_names).collect(), mtu })
}

/// Makes a tap (`tap%d`), gives it the bridge's MTU and a MAC address that begins with 0xFE, adds it to the bridge by
/// index, and brings it up. It is gone when the last of its descriptors is closed.
///
/// # Errors
/// [`Error`]; then no tap is left.
pub fn join(bridge: &Bridge, wanted: Wanted) -> Result<Interface, Error> {
    let interface = tun::make(&InterfaceName::tap_pattern(), wanted)?;
    let name = &interface.name;
    let failed = |step| move |source| Error::Join { step, tap: name.clone(), bridge: name_of(bridge), source };
    let client = Client::open().map_err(failed("look at"))?;
    let gone = || std::io::Error::from_raw_os_error(libc::ENODEV);
    let tap = client.find(name).and_then(|found| found.ok_or_else(gone)).map_err(failed("look at"))?;
    let mut address = tap.address.unwrap_or_default();
    if let Some(first) = address.first_mut() {
        *first = HIGH_FIRST_BYTE;
    }
    client.set(tap.index, vec![LinkAttribute::Mtu(bridge.mtu)]).map_err(failed("set the MTU of"))?;
    let address = LinkAttribute::Address(address.to_vec());
    client.set(tap.index, vec![address]).map_err(failed("set the MAC address of"))?;
    // By index: the name may stand for another bridge by now, which no access list was asked about.
    client.set(tap.index, vec![LinkAttribute::Controller(bridge.index)]).map_err(failed("add"))?;
    client.bring_up(tap.index).map_err(failed("bring up"))?;
    let joined = client.at(tap.index).map_err(failed("look at"))?;
    if joined.master != Some(bridge.index) {
        return Err(Error::NoPort { tap: name.clone(), bridge: name_of(bridge) });
    }
    Ok(interface)
}

/// That `tap` is a port of the bridge of this index, which was asked for as `bridge`.
///
/// # Errors
/// [`Error::NoPort`], [`Error::Ask`].
pub fn check_port(tap: &InterfaceName, index: u32, bridge: &InterfaceName) -> Result<(), Error> {
    let found = Client::open().and_then(|client| client.find(tap));
    let found = found.map_err(|source| Error::Ask { name: tap.clone(), source })?;
    if found.is_some_and(|link| link.master == Some(index)) {
        return Ok(());
    }
    Err(Error::NoPort { tap: tap.clone(), bridge: bridge.as_str().to_owned() })
}

/// Whether this process has the right to make a tap and to add it to a bridge: `CAP_NET_ADMIN` over its network namespace.
#[must_use]
pub fn may_join() -> bool {
    Client::open().is_ok_and(|client| client.may_change())
}

fn name_of(bridge: &Bridge) -> String {
    bridge.names.first().cloned().unwrap_or_default()
}
