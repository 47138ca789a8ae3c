//! Queues of taps, by `/dev/net/tun` (Documentation/networking/tuntap.rst).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};

use super::link::Tun;
use super::name::InterfaceName;
use super::rtnl::Client;
use super::{Error, Interface, Wanted};
use crate::sys;

/// Where queues of taps come from (admin-guide/devices.txt: character device 10:200).
const DEVICE: &str = "/dev/net/tun";

/// `IFF_*` of include/uapi/linux/if_tun.h, as `ifr_flags` has them: 16 bits.
pub(super) mod flags {
    pub const TAP: u16 = 0x0002;
    pub const MULTI_QUEUE: u16 = 0x0100;
    pub const NO_PI: u16 = 0x1000;
    pub const VNET_HDR: u16 = 0x4000;
    pub const TUN_EXCL: u16 = 0x8000;
}

/// Makes a tap of this name, or of the first name that is free for a pattern. It lives until its last queue is closed.
///
/// # Errors
/// [`Error::MayNotMake`], [`Error::Busy`]: somebody made one in the meantime, [`Error::Intruder`]; and others.
pub(super) fn make(name: &InterfaceName, wanted: Wanted) -> Result<Interface, Error> {
    let multi_queue = wanted.queues > 1;
    let first = Queue::open(name, wanted, multi_queue)?;
    // Never one that somebody else made between the look-up and now.
    let made = sys::tun::set_interface(first.descriptor.as_fd(), name.as_str(), first.flags | flags::TUN_EXCL);
    let made = made.map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM) => Error::MayNotMake { name: name.clone(), multi_queue },
        Some(libc::EBUSY) => Error::Busy { name: name.clone() },
        _ => Error::Attach { name: name.clone(), source },
    })?;
    let made = known(name, made)?;
    let failed = |source| Error::Attach { name: made.clone(), source };
    // A tap without an owner is everybody's who may open the device, and whoever gets a queue of it can make it persist.
    let owner = rustix::process::geteuid().as_raw();
    sys::tun::set_owner(first.descriptor.as_fd(), owner).map_err(failed)?;
    let interface = attach_more(made, first.descriptor, wanted, multi_queue)?;
    // Until it had an owner somebody may have attached, and have done to it whatever a queue's holder can.
    let tap = look_again(&interface.name)?;
    let is_ours = tap.owner.user == Some(owner);
    if tap.persists || !is_ours || multi_queue && !has_only(&tap, wanted) {
        return Err(Error::Intruder { name: interface.name });
    }
    Ok(interface)
}

fn look_again(name: &InterfaceName) -> Result<Tun, Error> {
    let link = Client::open().and_then(|client| client.find(name));
    let link = link.map_err(|source| Error::Ask { name: name.clone(), source })?;
    Ok(link.ok_or_else(|| Error::Replaced { name: name.clone(), found: "nothing".to_owned() })?.tun)
}

/// Whether a tap made for several queues has no queues but those that were opened here.
fn has_only(tap: &Tun, wanted: Wanted) -> bool {
    tap.queues == u32::from(wanted.queues) && tap.detached == 0
}

/// Attaches to the tap of this name, which is there, and was made for several queues or was not.
///
/// # Errors
/// The kernel's answer to the first queue as it is, which only the caller can tell the reason of; or [`Error`].
pub(super) fn attach(
    name: &InterfaceName,
    wanted: Wanted,
    multi_queue: bool,
    refused: impl FnOnce(io::Error) -> Error,
) -> Result<Interface, Error> {
    let first = Queue::open(name, wanted, multi_queue)?;
    let attached = sys::tun::set_interface(first.descriptor.as_fd(), name.as_str(), first.flags).map_err(refused)?;
    let attached = known(name, attached)?;
    let interface = attach_more(attached, first.descriptor, wanted, multi_queue)?;
    // Somebody else may have attached since it was looked at.
    if multi_queue && !has_only(&look_again(&interface.name)?, wanted) {
        return Err(Error::Busy { name: interface.name });
    }
    Ok(interface)
}

fn attach_more(name: InterfaceName, first: OwnedFd, wanted: Wanted, multi_queue: bool) -> Result<Interface, Error> {
    let mut queues = vec![first];
    for number in 2..=usize::from(wanted.queues) {
        let queue = Queue::open(&name, wanted, multi_queue)?;
        let attached = sys::tun::set_interface(queue.descriptor.as_fd(), name.as_str(), queue.flags);
        let found = attached.map_err(|source| Error::Queue { name: name.clone(), number, source })?;
        if found != name.as_str() {
            return Err(Error::Replaced { name, found });
        }
        queues.push(queue.descriptor);
    }
    Ok(Interface { name, queues })
}

/// A descriptor that is no interface's queue yet.
struct Queue {
    descriptor: OwnedFd,
    flags: u16,
}

impl Queue {
    fn open(name: &InterfaceName, wanted: Wanted, multi_queue: bool) -> Result<Self, Error> {
        let descriptor = open_device().map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Error::NoDevice { source },
            Some(libc::EMFILE | libc::ENFILE) => Error::Descriptors { device: DEVICE.to_owned(), source },
            _ => Error::Device { source },
        })?;
        let mut flags = flags::TAP | flags::NO_PI;
        if wants_vnet_header(descriptor.as_fd(), name, wanted.vnet_hdr)? {
            flags |= flags::VNET_HDR;
        }
        if multi_queue {
            flags |= flags::MULTI_QUEUE;
        }
        Ok(Self { descriptor, flags })
    }
}

/// Whether the queue shall have `IFF_VNET_HDR`.
///
/// # Errors
/// [`Error::NoVnetHeader`]: it shall, and the kernel lacks it.
pub(super) fn wants_vnet_header(
    queue: BorrowedFd<'_>,
    name: &InterfaceName,
    wanted: Option<bool>,
) -> Result<bool, Error> {
    if wanted == Some(false) {
        return Ok(false);
    }
    // A kernel that cannot tell has none, as for QEMU (tap_open in net/tap-linux.c).
    let has = sys::tun::features(queue).is_ok_and(|features| features & u32::from(flags::VNET_HDR) != 0);
    if wanted == Some(true) && !has {
        return Err(Error::NoVnetHeader { name: name.clone() });
    }
    Ok(has)
}

/// Opens the device as QEMU does, which sets `O_NONBLOCK` afterwards.
fn open_device() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::openat(CWD, DEVICE, flags, Mode::empty())?)
}

/// The name that the kernel tells, which is one by its own rules.
fn known(name: &InterfaceName, told: String) -> Result<InterfaceName, Error> {
    InterfaceName::new(&told).map_err(|_| Error::Replaced { name: name.clone(), found: told })
}
