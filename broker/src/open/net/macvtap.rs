//! Macvtaps and ipvtaps: each has a character device of its own, every open of which is a queue of it (drivers/net/tap.c).
//!
//! The device is told by its number, which sysfs shows. A sysfs shows the network namespace of whoever mounted it, and
//! `/dev/tapN` is named by an interface index, which every network namespace counts anew: neither is believed unseen.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::address::MacAddress;
use super::link::Link;
use super::name::InterfaceName;
use super::tun::{flags, wants_vnet_header};
use super::{Error, Interface, Wanted};
use crate::open::pin::reopen;
use crate::sys;

/// More bytes than any of the files of sysfs that are read here holds.
const LONGEST_LINE: usize = 64;

/// Opens the queues of a macvtap.
///
/// # Errors
/// [`Error`]; then no queue is left open.
pub(super) fn open(link: &Link, wanted: Wanted) -> Result<Interface, Error> {
    let name = link.name.clone();
    let number = device_number(link).map_err(|source| Error::Unshown { name: name.clone(), source })?;
    let node = find_node(link, number)?;
    let queues: Result<Vec<OwnedFd>, Error> = (0..wanted.queues).map(|_| open_queue(&node, link, wanted)).collect();
    let queues = queues?;
    if let Some(first) = queues.first() {
        lock(first, &name)?;
    }
    Ok(Interface { name, queues })
}

/// The kernel gives queues to everybody, and each guest some of the frames. So the device is locked, for as long as the
/// emulator has it open; a node of the broker's own making is not the one that others lock.
fn lock(queue: &OwnedFd, name: &InterfaceName) -> Result<(), Error> {
    let locked = rustix::fs::flock(queue, FlockOperation::NonBlockingLockExclusive);
    locked.map_err(|errno| match errno {
        rustix::io::Errno::WOULDBLOCK => Error::Busy { name: name.clone() },
        other => Error::Macvtap { name: name.clone(), source: other.into() },
    })
}

/// Opens one queue and sets its flags, as libvirt does (`virNetDevMacVLanTapSetup`, src/util/virnetdevmacvlan.c): it has
/// `IFF_VNET_HDR` from the start, and the kernel wants all flags at once.
fn open_queue(node: &OwnedFd, link: &Link, wanted: Wanted) -> Result<OwnedFd, Error> {
    let name = &link.name;
    let queue =
        reopen(node.as_fd(), OFlags::RDWR | OFlags::NONBLOCK).map_err(|source| match source.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Error::Descriptors { device: node_path(link), source },
            _ => Error::Node { name: name.clone(), node: node_path(link), source },
        })?;
    let failed = |source| Error::Macvtap { name: name.clone(), source };
    let (found, _) = sys::tun::interface(queue.as_fd()).map_err(failed)?;
    if found != name.as_str() {
        return Err(Error::Replaced { name: name.clone(), found });
    }
    let mut set = flags::TAP | flags::NO_PI;
    if wants_vnet_header(queue.as_fd(), name, wanted.vnet_hdr)? {
        set |= flags::VNET_HDR;
    }
    if wanted.queues > 1 {
        set |= flags::MULTI_QUEUE;
    }
    sys::tun::set_interface(queue.as_fd(), name.as_str(), set).map_err(failed)?;
    Ok(queue)
}

/// Major and minor number of the interface's device, from a sysfs of this network namespace.
fn device_number(link: &Link) -> io::Result<(u32, u32)> {
    // Only root may mount one. Whoever may not looks at /sys, which proves that it is the right one by what it shows.
    let sysfs = match mount_apart("sysfs", MountAttrFlags::MOUNT_ATTR_NODEV) {
        Ok(sysfs) => sysfs,
        Err(_) => rustix::fs::openat(CWD, "/sys", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
    };
    let name = &link.name;
    let index = read_line(&sysfs, &format!("class/net/{name}/ifindex"))?;
    let address = read_line(&sysfs, &format!("class/net/{name}/address"))?;
    if index != link.index.to_string() || link.address.map(|own| MacAddress(own).to_string()) != Some(address) {
        return Err(io::Error::other(format!("it shows an interface {name} of another network namespace")));
    }
    let kind = link.kind.as_ref().map(ToString::to_string).unwrap_or_default();
    let number = read_line(&sysfs, &format!("class/net/{name}/{kind}/tap{index}/dev"))?;
    let (major, minor) = number.split_once(':').unwrap_or_default();
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => Ok((major, minor)),
        _ => Err(io::Error::other(format!("it shows {number:?} for a device number"))),
    }
}

fn read_line(folder: &OwnedFd, path: &str) -> io::Result<String> {
    let file = rustix::fs::openat(folder, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| explain(path, error))?;
    let mut bytes = [0; LONGEST_LINE];
    let length = rustix::io::read(&file, &mut bytes).map_err(|error| explain(path, error))?;
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    Ok(text.trim_end().to_owned())
}

fn explain(path: impl Display, error: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// The interface's node in `/dev`; where that is missing or another's, a node that nobody else ever sees, which takes root.
fn find_node(link: &Link, number: (u32, u32)) -> Result<OwnedFd, Error> {
    let source = match node_in_dev(link, number) {
        Ok(node) => return Ok(node),
        Err(source) => source,
    };
    make_node(number).map_err(|_| {
        let (name, node, (major, minor)) = (link.name.clone(), node_path(link), number);
        Error::NoNode { name, node, major, minor, source }
    })
}

/// The name that the kernel gives it (`macvtap_device_event`, drivers/net/macvtap.c).
fn node_path(link: &Link) -> String {
    format!("/dev/tap{}", link.index)
}

fn node_in_dev(link: &Link, number: (u32, u32)) -> io::Result<OwnedFd> {
    // Opening a queue of another's interface would take frames from it, so the node is looked at first.
    let node = rustix::fs::openat(CWD, node_path(link), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let status = rustix::fs::fstat(&node)?;
    let found = (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev));
    if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice || found != number {
        return Err(io::Error::other(format!("it is {}:{}", found.0, found.1)));
    }
    Ok(node)
}

/// Makes a node in a file system of its own that is mounted nowhere, and gone with the last descriptor.
fn make_node((major, minor): (u32, u32)) -> io::Result<OwnedFd> {
    let folder = mount_apart("tmpfs", MountAttrFlags::empty())?;
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(&folder, "tap", FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, device)?;
    Ok(rustix::fs::openat(&folder, "tap", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Mounts a new file system where no path leads to it. `EPERM`: no `CAP_SYS_ADMIN`.
fn mount_apart(kind: &str, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = attributes | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
