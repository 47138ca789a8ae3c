//! The helper's life, once it has laid its rights down.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};

use super::arguments::{self, Arguments, DESCRIPTORS_LIMIT};
use super::privileges::{self, Rights};
use crate::bridge_acl::{self, AccessList, Caller};
use crate::open::net::{self, Wanted, bridge, vhost};
use crate::sys::process;

/// What goes with the descriptors: QEMU's helper sends one zero byte.
const BYTE: [u8; 1] = [0];

/// Looks the bridge up, asks the list, and hands over a tap on the bridge. Names are looked up once: what the list
/// allows, by any name of the bridge, is the bridge that the tap joins.
///
/// # Errors
/// [`Error`]. No interface is left: the tap goes with its last descriptor.
pub fn live(rights: Rights, words: impl Iterator<Item = OsString>) -> Result<(), Error> {
    let asked = Arguments::read(words)?;
    let socket = take_socket(asked.socket)?;
    let bridge = bridge::look_up(&asked.bridge)?;
    read_list(rights, &asked)?.check(&bridge.names, &Caller::of_this_process().map_err(Error::Caller)?)?;
    // With the caller's own rights: those of the helper are about networks.
    let vhosts = if asked.vhost { vhost::open(asked.queues)? } else { Vec::new() };
    privileges::take_up()?;
    if !bridge::may_join() {
        return Err(Error::NoRight);
    }
    let vnet_hdr = if asked.vnet_hdr { None } else { Some(false) };
    let interface = bridge::join(&bridge, Wanted { queues: asked.queues, vnet_hdr })?;
    hand_over(&socket, interface.queues.iter().chain(&vhosts))
}

/// The list that counts for this caller.
fn read_list(rights: Rights, asked: &Arguments) -> Result<AccessList, Error> {
    Ok(match &asked.list {
        Some(_) if rights.are_more_than_callers => return Err(Error::OwnList),
        Some(path) => AccessList::read(path)?,
        None => AccessList::of_this_host()?,
    })
}

/// The caller's socket: nothing else may be written to.
fn take_socket(number: RawFd) -> Result<OwnedFd, Error> {
    let socket = process::duplicate(number).map_err(|source| Error::Socket { number, source })?;
    match sockopt::socket_domain(&socket) {
        Ok(AddressFamily::UNIX) => Ok(socket),
        Ok(_) => Err(Error::Socket { number, source: rustix::io::Errno::AFNOSUPPORT.into() }),
        Err(errno) => Err(Error::Socket { number, source: errno.into() }),
    }
}

/// Sends all descriptors in one message.
fn hand_over<'d>(socket: &OwnedFd, descriptors: impl Iterator<Item = &'d OwnedFd>) -> Result<(), Error> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_LIMIT as usize))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Error::Send(io::ErrorKind::InvalidInput.into()));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&BYTE)], &mut control, SendFlags::NOSIGNAL);
    sent.map(|_| ()).map_err(|errno| Error::Send(errno.into()))
}

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Rights are left.
    #[error(transparent)]
    Privileges(#[from] privileges::Error),
    /// What is asked for is not understood.
    #[error(transparent)]
    Arguments(#[from] arguments::Error),
    /// Nothing to hand over on.
    #[error(
        "--fd={number} is no UNIX socket: {source}; let QEMU or libvirt start this program, or give it an end of a \
         socketpair(2)"
    )]
    Socket {
        /// Its number.
        number: RawFd,
        /// What the kernel says.
        source: io::Error,
    },
    /// Whoever could choose the list could allow himself anything.
    #[error(
        "--bridge-acl= is not for a caller to whom this program's file gives rights; the list is {}",
        bridge_acl::DEFAULT
    )]
    OwnList,
    /// `getgroups(2)`.
    #[error("cannot tell who asks: {0}")]
    Caller(io::Error),
    /// The list refuses, or does not count.
    #[error(transparent)]
    List(#[from] bridge_acl::Error),
    /// Started by an ordinary user, without a right from its file.
    #[error(
        "no right to add a tap to a bridge; as root: `setcap cap_net_admin+ep` or `chown root` and `chmod u+s` the \
         program broker-bridge-helper, on a file system that is not mounted nosuid"
    )]
    NoRight,
    /// Bridge, tap or vhost-net.
    #[error(transparent)]
    Network(#[from] net::Error),
    /// The other end is gone, for one.
    #[error("cannot hand the tap over: {0}; whoever started this program must wait for it")]
    Send(io::Error),
}
