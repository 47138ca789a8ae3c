//! Taps and macvtaps, made or already there.

use netlink_packet_route::link::InfoKind;

use super::link::Link;
use super::name::InterfaceName;
use super::rtnl::Client;
use super::{Error, Interface, Wanted, macvtap, tun};

/// What an interface's name stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing: a tap of this name would be made.
    Nothing,
    /// A tap that somebody made persistent; `multi_queue`: it was made for several queues.
    Tap {
        /// Made with `IFF_MULTI_QUEUE`.
        multi_queue: bool,
    },
    /// A macvtap (or ipvtap), with the address that its guest must use.
    Macvtap {
        /// The interface's MAC address.
        address: [u8; 6],
    },
}

/// Looks `name` up, and changes nothing.
///
/// # Errors
/// It is an interface of another kind.
pub fn look_up(name: &InterfaceName) -> Result<Found, Error> {
    Ok(find(name)?.map_or(Found::Nothing, |(found, _)| found))
}

/// Opens the queues of the interface `name`: of a tap or macvtap that is there, else of a new tap, which stays down. A
/// name with `%d` in it is a pattern for a new one (`tap%d` is what QEMU takes where none is given).
///
/// # Errors
/// [`Error`]; then nothing is left open, and no new tap.
pub fn open(name: &InterfaceName, wanted: Wanted) -> Result<Interface, Error> {
    match find(name)? {
        None => tun::make(name, wanted),
        Some((Found::Macvtap { .. }, link)) => macvtap::open(&link, wanted),
        Some((_, link)) => attach(name, &link, wanted),
    }
}

fn find(name: &InterfaceName) -> Result<Option<(Found, Link)>, Error> {
    if name.as_str().contains('%') {
        return Ok(None);
    }
    let ask = |source| Error::Ask { name: name.clone(), source };
    let Some(link) = Client::open().and_then(|client| client.find(name)).map_err(ask)? else {
        return Ok(None);
    };
    let found = match (&link.kind, link.address) {
        (Some(InfoKind::Tun), _) if link.tun.is_tap => Found::Tap { multi_queue: link.tun.multi_queue },
        (Some(InfoKind::MacVtap | InfoKind::IpVtap), Some(address)) => Found::Macvtap { address },
        _ => return Err(Error::NotATap { name: name.clone(), found: link.description() }),
    };
    Ok(Some((found, link)))
}

/// Attaches to a tap that is there. Its flag for several queues must be given exactly if it was made with it, even for one
/// queue (`EINVAL` else: `tun_set_iff`, drivers/net/tun.c).
fn attach(name: &InterfaceName, link: &Link, wanted: Wanted) -> Result<Interface, Error> {
    let name = || name.clone();
    if wanted.queues > 1 && !link.tun.multi_queue {
        return Err(Error::SingleQueue { name: name(), queues: wanted.queues });
    }
    // The kernel would give the queues to both, and each guest some of the frames.
    if link.tun.queues > 0 || link.tun.detached > 0 {
        return Err(Error::Busy { name: name() });
    }
    let refused = |source: std::io::Error| match source.raw_os_error() {
        Some(libc::EPERM) => Error::Owner { name: name(), owner: link.tun.owner },
        Some(libc::EBUSY) => Error::Busy { name: name() },
        _ => Error::Attach { name: name(), source },
    };
    tun::attach(&name(), wanted, link.tun.multi_queue, refused)
}
