//! The system calls: one packet in, one packet out, and whether the peer is still there.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, sockopt,
};

use crate::error::Error;

/// Descriptors that the receive buffer has room for. One is the most that a message carries; the
/// rest is there to count a surplus. What does not fit is never installed in this process: the
/// kernel drops it and sets `MSG_CTRUNC` (unix(7)).
const DESCRIPTOR_ROOM: usize = 4;

/// Send buffer asked for on both ends of [`socketpair`], in bytes: Linux's default of
/// `net.core.wmem_default`. Named here so that an administrator who lowers the default does not
/// make a full house of unread replies (64 of them, below 1 KiB each as the kernel counts) overflow.
const SEND_BUFFER: usize = 212_992;

/// Whether plain reads and writes on a socket wait. Channels do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketMode {
    /// `recv` and `send` wait.
    Blocking,
    /// `recv` and `send` return `EAGAIN` instead of waiting (`SOCK_NONBLOCK`).
    NonBlocking,
}

/// Makes a connected pair of close-on-exec `SOCK_SEQPACKET` sockets.
///
/// # Errors
/// socketpair(2): `EMFILE` or `ENFILE` where descriptors run out, `ENOMEM`.
pub fn socketpair(mode: SocketMode) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = match mode {
        SocketMode::Blocking => SocketFlags::CLOEXEC,
        SocketMode::NonBlocking => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    };
    let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    sockopt::set_socket_send_buffer_size(&one, SEND_BUFFER)?;
    sockopt::set_socket_send_buffer_size(&other, SEND_BUFFER)?;
    Ok((one, other))
}

/// Makes sure that `socket` is a UNIX socket that keeps packets apart: on a stream the limits would mean nothing, and
/// no other family carries descriptors.
///
/// # Errors
/// [`Error::NotSeqpacket`]; [`Error::Inspect`] where getsockopt(2) fails, with `ENOTSOCK` above all.
pub(crate) fn require_seqpacket(socket: BorrowedFd<'_>) -> Result<(), Error> {
    let kind = sockopt::socket_type(socket).and_then(|kind| Ok((kind, sockopt::socket_domain(socket)?)));
    match kind {
        Ok((SocketType::SEQPACKET, AddressFamily::UNIX)) => Ok(()),
        Ok(_) | Err(Errno::NOTSOCK) => Err(Error::NotSeqpacket),
        Err(errno) => Err(Error::Inspect(errno.into())),
    }
}

/// What came with one recvmsg(2), before it is judged. Every descriptor is owned: those beyond
/// the first are closed already, and only counted.
pub(crate) struct Packet {
    /// Bytes in the buffer.
    pub length: usize,
    /// `MSG_TRUNC`: the packet was longer than the buffer.
    pub truncated: bool,
    /// `MSG_CTRUNC`: descriptors were lost.
    pub control_truncated: bool,
    /// How many descriptors came.
    pub count: usize,
    /// The first of them.
    pub descriptor: Option<OwnedFd>,
}

/// Receives one packet if one is waiting. At end of file the packet is empty.
///
/// # Errors
/// [`Error::Closed`] where the peer has gone and left nothing to read, [`Error::Receive`] else.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<Packet>, Error> {
    let received = match receive_once(socket, buffer) {
        // A peer that left with packets of ours unread. The kernel reports that before it gives
        // what the peer had sent, and reports it once: look again.
        Err(Errno::CONNRESET) => receive_once(socket, buffer),
        other => other,
    };
    match received {
        Ok(packet) => Ok(Some(packet)),
        Err(Errno::AGAIN) => Ok(None),
        Err(Errno::CONNRESET) => Err(Error::Closed),
        Err(errno) => Err(Error::Receive(errno.into())),
    }
}

fn receive_once(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Packet, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTOR_ROOM))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags))?;
    let mut count = 0;
    let mut first = None;
    for message in control.drain() {
        // Credentials come only where this side asked for them, and say nothing that is used.
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for descriptor in descriptors {
                count += 1;
                first.get_or_insert(descriptor);
            }
        }
    }
    Ok(Packet {
        length: received.bytes,
        truncated: received.flags.contains(ReturnFlags::TRUNC),
        control_truncated: received.flags.contains(ReturnFlags::CTRUNC),
        count,
        descriptor: first,
    })
}

/// Sends one packet without waiting, whole or not at all.
///
/// # Errors
/// [`Error::Full`], [`Error::Closed`] (never `SIGPIPE`), or [`Error::Send`].
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        // Without this check a grant could leave without its descriptor.
        return Err(Error::DescriptorMismatch);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match retry_on_intr(|| sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)) {
        Ok(_) => Ok(()),
        Err(Errno::AGAIN) => Err(Error::Full),
        Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Err(Error::Closed),
        Err(errno) => Err(Error::Send(errno.into())),
    }
}

/// Whether the peer has closed or shut down its end. An empty packet and end of file look alike to
/// recvmsg(2); only poll(2) tells them apart.
///
/// # Errors
/// [`Error::Poll`]
pub(crate) fn peer_is_gone(socket: BorrowedFd<'_>) -> Result<bool, Error> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let seen = wait_for(socket, PollFlags::RDHUP, Some(&now))?;
    Ok(seen.intersects(PollFlags::RDHUP | PollFlags::HUP))
}

/// Waits until a packet, or the end of the connection, can be received.
///
/// # Errors
/// [`Error::Poll`]
pub(crate) fn wait_readable(socket: BorrowedFd<'_>) -> Result<(), Error> {
    wait_for(socket, PollFlags::IN, None).map(drop)
}

/// Waits until a packet can be sent, or the peer is gone.
///
/// # Errors
/// [`Error::Poll`]
pub(crate) fn wait_writable(socket: BorrowedFd<'_>) -> Result<(), Error> {
    wait_for(socket, PollFlags::OUT, None).map(drop)
}

fn wait_for(socket: BorrowedFd<'_>, events: PollFlags, timeout: Option<&Timespec>) -> Result<PollFlags, Error> {
    let mut polled = PollFd::from_borrowed_fd(socket.as_fd(), events);
    retry_on_intr(|| poll(std::slice::from_mut(&mut polled), timeout)).map_err(|errno| Error::Poll(errno.into()))?;
    Ok(polled.revents())
}
