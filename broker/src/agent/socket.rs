//! A look at the socket that the emulator binds or connects, and what follows from it.
//!
//! Nothing here grants anything: the broker decides by the address, and makes a socket of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use protocol::{RequestBody, Socket, SocketAddress, SocketKind};
use rustix::fs::OFlags;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrV4, SocketAddrV6, SocketType};

use super::Turn;
use super::address::Purpose;
use crate::sys::net::is_filter_locked;

/// `sizeof(sa_family_t)`, with which each address starts, in bytes.
const FAMILY: u32 = 2;

/// What is done about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The broker is asked.
    Ask(RequestBody),
    /// It fails.
    Refuse(Errno),
    /// It succeeds: an agent before this one has put the socket in place, and died before it could answer.
    Done,
}

/// What is done about a call to bind or connect to `address` a socket in `state`, which the broker is told of as `socket`.
#[must_use]
pub fn step(purpose: Purpose, turn: Turn, address: SocketAddress, (socket, state): (Socket, State)) -> Step {
    match (turn, state, purpose) {
        (Turn::Again, State::Named, Purpose::Bind) | (Turn::Again, State::Connected, Purpose::Connect) => {
            return Step::Done;
        }
        (Turn::Again, State::Named, Purpose::Connect) => return Step::Refuse(Errno::EINPROGRESS),
        _ => {}
    }
    match (state.permits(purpose), purpose) {
        (Err(errno), _) => Step::Refuse(errno),
        (Ok(()), Purpose::Bind) => Step::Ask(RequestBody::Bind { address, socket }),
        (Ok(()), Purpose::Connect) => Step::Ask(RequestBody::Connect { address, socket }),
    }
}

/// What became of a socket so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Neither bound nor connected.
    Fresh,
    /// Bound, or about to be connected: it has an address of its own and no peer.
    Named,
    /// Connected.
    Connected,
    /// It listens.
    Listening,
    /// One that carries packets: these may be bound and connected at any time.
    Packets,
}

impl State {
    /// The kernel's answer to `purpose` on a socket in this state, unless it would do it.
    ///
    /// # Errors
    /// `EINVAL`: bound already. `EISCONN`: connected already. `EALREADY`: it is being connected, or it is bound, which
    /// nothing here does with a socket that it connects.
    fn permits(self, purpose: Purpose) -> Result<(), Errno> {
        match (self, purpose) {
            (Self::Fresh | Self::Packets, _) => Ok(()),
            (_, Purpose::Bind) => Err(Errno::EINVAL),
            (Self::Named, Purpose::Connect) => Err(Errno::EALREADY),
            (Self::Connected | Self::Listening, Purpose::Connect) => Err(Errno::EISCONN),
        }
    }
}

/// The emulator's socket, as the broker must make its own for `address`, and what became of it so far.
///
/// # Errors
/// What the kernel would say: `ENOTSOCK`, and `EINVAL` or `EAFNOSUPPORT` for an address of another family. `EPERM`: a socket
/// for neither streams nor datagrams.
fn examine(socket: BorrowedFd<'_>, address: &SocketAddress) -> Result<(Socket, State), Errno> {
    let family = sockopt::socket_domain(socket).map_err(errno)?;
    let kind = match sockopt::socket_type(socket).map_err(errno)? {
        SocketType::STREAM => SocketKind::Stream,
        SocketType::DGRAM => SocketKind::Datagram,
        _ => return Err(Errno::EPERM),
    };
    let wanted = match address {
        SocketAddress::Unix(_) => AddressFamily::UNIX,
        SocketAddress::V4 { .. } => AddressFamily::INET,
        SocketAddress::V6 { .. } => AddressFamily::INET6,
    };
    // Packets of the internet go through a pair of UNIX sockets, once the first call has put one of them in place.
    let replaced = kind == SocketKind::Datagram && family == AddressFamily::UNIX;
    if family != wanted && !replaced {
        return Err(if family == AddressFamily::UNIX { Errno::EINVAL } else { Errno::EAFNOSUPPORT });
    }
    let socket_of_broker = Socket {
        kind,
        nonblocking: rustix::fs::fcntl_getfl(socket).map_err(errno)?.contains(OFlags::NONBLOCK),
        reuse_address: sockopt::socket_reuseaddr(socket).map_err(errno)?,
        keep_alive: sockopt::socket_keepalive(socket).map_err(errno)?,
        v6_only: family == AddressFamily::INET6 && sockopt::ipv6_v6only(socket).map_err(errno)?,
    };
    Ok((socket_of_broker, state(socket, kind)?))
}

fn state(socket: BorrowedFd<'_>, kind: SocketKind) -> Result<State, Errno> {
    if kind == SocketKind::Datagram {
        return Ok(State::Packets);
    }
    if sockopt::socket_acceptconn(socket).map_err(errno)? {
        return Ok(State::Listening);
    }
    match rustix::net::getpeername(socket) {
        Ok(_) => return Ok(State::Connected),
        // EINVAL: a TCP socket that was connected, and shut down since.
        Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(errno(error)),
    }
    Ok(if has_name(socket)? { State::Named } else { State::Fresh })
}

/// Whether the socket has a port or a UNIX name of its own.
fn has_name(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let own = rustix::net::getsockname(socket).map_err(errno)?;
    if let Ok(own) = SocketAddrV4::try_from(own.clone()) {
        return Ok(own.port() != 0);
    }
    if let Ok(own) = SocketAddrV6::try_from(own.clone()) {
        return Ok(own.port() != 0);
    }
    // A UNIX socket without a name has an address of the family alone (unix(7)).
    Ok(own.addr_len() > FAMILY)
}

/// Has the descriptor `number` of `process` listen, by a copy, which stands for the same socket.
///
/// The kernel would also let a TCP socket listen that is not bound, at a free port of the operator's network, and `shutdown`
/// takes one that is still connecting back to there (`inet_shutdown` and `inet_autobind`, Linux's `net/ipv4/af_inet.c`). What
/// the broker has bound has a locked filter, which the emulator can give no socket; one that is connecting has it only
/// together with a filter that lets it hear its peer alone.
///
/// # Errors
/// As `listen(2)`. `EBADF`: not open. `EINVAL`: a TCP socket that the broker has not bound. `EPERM`: the kernel forbids to
/// look.
pub fn listen(process: BorrowedFd<'_>, number: i32, backlog: i32) -> Result<(), Errno> {
    let socket = copy(process, number)?;
    let is_unix = sockopt::socket_domain(&socket).map_err(errno)? == AddressFamily::UNIX;
    let is_bound = || is_filter_locked(socket.as_fd()).unwrap_or(false);
    if is_unix || is_bound() || sockopt::socket_acceptconn(&socket).map_err(errno)? {
        return rustix::net::listen(&socket, backlog).map_err(errno);
    }
    Err(Errno::EINVAL)
}

/// A copy of the descriptor `number` of `process`.
///
/// # Errors
/// `EBADF`: not open. `EPERM`: the kernel forbids to look at this process. `ESRCH`: it is gone.
pub(super) fn copy(process: BorrowedFd<'_>, number: i32) -> Result<OwnedFd, Errno> {
    rustix::process::pidfd_getfd(process, number, rustix::process::PidfdGetfdFlags::empty()).map_err(errno)
}

/// Examines the descriptor `number` of `process`, by a copy that is closed at once.
///
/// # Errors
/// As `examine`, and `EBADF`: not open. `EPERM`: the kernel forbids to look at this process. `ESRCH`: it is gone.
pub fn look_at(process: BorrowedFd<'_>, number: i32, address: &SocketAddress) -> Result<(Socket, State), Errno> {
    examine(copy(process, number)?.as_fd(), address)
}

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

#[cfg(test)]
mod tests;
