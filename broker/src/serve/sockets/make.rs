//! New sockets, in the operator's network, in place of the emulator's own.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use protocol::{Socket, SocketAddress};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::path::{NotRemoved, SocketPath, is_socket};
use super::{SocketGrant, SocketPlace};
use crate::serve::refusal::Refusal;
use crate::serve::work::{Carried, Failure};
use crate::sys::net::{lock_filter, only_segments_from};

/// Makes a socket and binds it to `address`, which `grant` stands for.
///
/// # Errors
/// [`Failure`]: what `bind(2)` says, as the operator: `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, `ENOENT` ...
pub fn bind(grant: &SocketGrant, address: &SocketAddress, wanted: Socket) -> Result<Carried, Failure> {
    let socket = make(
        address,
        Socket { v6_only: wanted.v6_only || matches!(grant.place, SocketPlace::Inet { only_v6: true, .. }), ..wanted },
    )?;
    match &grant.place {
        SocketPlace::Path(path) => {
            let home = path.home.as_ref().map_err(|errno| *errno)?;
            // By the name on the command line, which is the one that others are told (unix(7), getsockname). Landlock has
            // the socket made in the pinned folder, wherever that name leads by now.
            let name = SocketAddrUnix::new(path.name.as_slice())?;
            match rustix::net::bind(&socket, &name) {
                // An agent that dies before it has handed a socket over leaves its name behind.
                Err(Errno::ADDRINUSE) if home.remove_dead()? => rustix::net::bind(&socket, &name)?,
                other => other?,
            }
            home.note_bound()?;
        }
        SocketPlace::Abstract(name) => rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?,
        SocketPlace::Inet { .. } => {
            with_inet(address, |address| rustix::net::bind(&socket, address))?;
            // By this the agent knows what may listen.
            lock_filter(socket.as_fd())?;
        }
        SocketPlace::Datagram(_) => return hand_over(grant),
    }
    Ok(Carried::Opened(socket))
}

/// The emulator's end of a pair, in the place of a socket of datagrams. Each time it is the same file description.
///
/// # Errors
/// `EPERM`: there is no relay.
pub fn hand_over(grant: &SocketGrant) -> Result<Carried, Failure> {
    match &grant.place {
        SocketPlace::Datagram(place) => {
            let end = place.end.get().ok_or(Errno::PERM)?;
            Ok(Carried::Opened(end.try_clone()?))
        }
        _ => Err(Errno::PERM.into()),
    }
}

/// Makes a socket and connects it to `address`, which `grant` stands for; one that blocks is waited for, as long as
/// `patience` lasts.
///
/// # Errors
/// [`Failure`]: what `connect(2)` says, as the operator: `ECONNREFUSED`, `EAGAIN`, `EHOSTUNREACH`, `ETIMEDOUT` ...
pub fn connect(
    grant: &SocketGrant,
    address: &SocketAddress,
    wanted: Socket,
    patience: Duration,
) -> Result<Carried, Failure> {
    let socket = make(address, wanted)?;
    if !wanted.nonblocking {
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience.max(Duration::from_millis(1))))?;
    }
    let connected = match &grant.place {
        SocketPlace::Path(path) => connect_path(&socket, path)?,
        SocketPlace::Abstract(name) => rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(name)?),
        SocketPlace::Inet { .. } => with_inet(address, |address| rustix::net::connect(&socket, address)),
        SocketPlace::Datagram(_) => return hand_over(grant),
    };
    match connected {
        Err(Errno::INPROGRESS) if wanted.nonblocking => {
            confine_to_peer(socket.as_fd(), address)?;
            return Ok(Carried::Connecting(socket));
        }
        // The time for sending is over (socket(7), SO_SNDTIMEO).
        Err(Errno::INPROGRESS | Errno::AGAIN) if !wanted.nonblocking => return Err(Errno::TIMEDOUT.into()),
        other => other?,
    }
    if !wanted.nonblocking {
        sockopt::set_socket_timeout(&socket, Timeout::Send, None)?;
    }
    Ok(Carried::Opened(socket))
}

/// Removes the path of a socket that the emulator may bind.
///
/// # Errors
/// [`Failure`]: `ENOENT`: there is nothing; `EACCES`: it is not this guest's to remove.
pub fn remove(grant: &SocketGrant) -> Result<Carried, Failure> {
    let home = grant.path().ok_or(Errno::NOENT)?.home.as_ref().map_err(|errno| *errno)?;
    home.remove().map(|()| Carried::SocketRemoved).map_err(|error| match error {
        NotRemoved::Errno(errno) => errno.into(),
        NotRemoved::NoSocket => Failure::Refused(Refusal::no_socket(&grant.option), Errno::ACCESS),
        NotRemoved::Strange => Failure::Refused(Refusal::strange_socket(&grant.option), Errno::ACCESS),
    })
}

/// A socket with the options that the emulator has set. Everything else is as new.
fn make(address: &SocketAddress, wanted: Socket) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddress::Unix(_) => AddressFamily::UNIX,
        SocketAddress::V4 { .. } => AddressFamily::INET,
        SocketAddress::V6 { .. } => AddressFamily::INET6,
    };
    let blocking = if wanted.nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | blocking, None)?;
    if wanted.reuse_address {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if wanted.keep_alive {
        sockopt::set_socket_keepalive(&socket, true)?;
    }
    if family == AddressFamily::INET6 {
        // What a new socket has is the host's to say (net.ipv6.bindv6only).
        sockopt::set_ipv6_v6only(&socket, wanted.v6_only)?;
    }
    Ok(socket)
}

/// Connects to whatever socket has the name now: a server that was started again has made it anew.
fn connect_path(socket: &OwnedFd, path: &SocketPath) -> Result<rustix::io::Result<()>, Failure> {
    let home = path.home.as_ref().map_err(|errno| *errno)?;
    let server = home.open()?;
    if !is_socket(&server) {
        // As connect(2) says of any other file. A link that came later leads nowhere either.
        return Err(Errno::CONNREFUSED.into());
    }
    // Not the path of the emulator's choice, nor one that somebody can turn elsewhere meanwhile.
    let link = format!("/proc/self/fd/{}", server.as_raw_fd());
    Ok(rustix::net::connect(socket, &SocketAddrUnix::new(link)?))
}

/// Does `work` with an address of IPv4 or IPv6; the scope of one is not taken from the emulator, which counts the
/// interfaces of another network.
fn with_inet(
    address: &SocketAddress,
    work: impl FnOnce(&std::net::SocketAddr) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let address = match address {
        SocketAddress::Unix(_) => return Err(Errno::AFNOSUPPORT),
        SocketAddress::V4 { ip, port } => SocketAddrV4::new((*ip).into(), *port).into(),
        SocketAddress::V6 { ip, port, .. } => SocketAddrV6::new((*ip).into(), *port, 0, 0).into(),
    };
    work(&address)
}

/// `shutdown` brings a TCP socket that is still connecting back to where it was before (`inet_shutdown`, Linux's
/// `net/ipv4/af_inet.c`), and `listen` would then make it a server at a port of the host. So it hears nobody but the peer
/// that it was meant for.
fn confine_to_peer(socket: BorrowedFd<'_>, address: &SocketAddress) -> Result<(), Failure> {
    let Some((ip, port)) = super::ip_of(address) else { return Ok(()) };
    // A connection to no address in particular is one to this host.
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        other => other,
    };
    match only_segments_from(socket, ip, port) {
        // Newer kernels want CAP_NET_ADMIN for a filter on a TCP socket (seen on 6.18.44), which the broker never has. The
        // agent then lets it not listen, for nothing of it is locked.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        other => Ok(other?),
    }
}
