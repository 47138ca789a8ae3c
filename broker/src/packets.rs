//! One-byte packets with descriptors, between the parts of one start. This is how the parts are put together;
//! what an emulator asks for crosses the boundary of the sandbox by the `protocol` crate alone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Descriptors in one packet at most: `SCM_MAX_FD`, include/net/scm.h.
pub const MAX_DESCRIPTORS: usize = 253;

/// A connected pair of sockets that keep packets apart.
///
/// # Errors
/// `EMFILE`: no descriptor is left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one byte and duplicates of `descriptors`, at most [`MAX_DESCRIPTORS`].
///
/// # Errors
/// `EPIPE`: the other side is gone.
pub fn send(socket: BorrowedFd<'_>, kind: u8, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL.into());
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&[kind])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one byte and the descriptors that came with it; `None` when the other side is gone.
///
/// # Errors
/// `EMFILE`: descriptors were lost for want of room in this process's table.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let mut byte = [0; 1];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(socket.as_fd(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let message = match received {
        Err(Errno::CONNRESET) => return Ok(None),
        other => other?,
    };
    let descriptors = ancillary
        .drain()
        .filter_map(|part| match part {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if message.bytes == 0 {
        return Ok(None);
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    let [kind] = byte;
    Ok(Some((kind, descriptors)))
}
