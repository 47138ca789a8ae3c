//! Sockets of datagrams, opened with the operator's rights in the operator's network namespace, as QEMU opens them
//! (`net_init_dgram` in its `net/dgram.c`, `net_socket_udp_init` and `net_socket_mcast_create` in `net/socket.c`).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::host;
use crate::emulator::{Addresses, HostPort};
use crate::open::output::{self, Home};
use crate::readable::readable;

/// Between which addresses datagrams go; hosts are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ends {
    /// Among all in a group.
    Multicast {
        /// The group.
        group: SocketAddrV4,
        /// The address of the interface, if one is named.
        interface: Option<Ipv4Addr>,
    },
    /// From everybody to one address.
    Unicast {
        /// Where the socket is bound.
        local: SocketAddrV4,
        /// Whom everything is sent to.
        remote: SocketAddrV4,
    },
    /// The same on UNIX paths, relative to the folder of the start if they are relative.
    Unix {
        /// Where the socket is bound.
        local: OsString,
        /// Whom everything is sent to.
        remote: OsString,
    },
}

impl Ends {
    /// Looks the hosts up.
    ///
    /// # Errors
    /// [`Error::Host`], [`Error::NoGroup`], [`Error::Interface`], [`Error::NoLocal`].
    pub fn look_up(addresses: &Addresses) -> Result<Self, Error> {
        match addresses {
            Addresses::Multicast { group, interface } => {
                let group = socket_address(group)?;
                if !group.ip().is_multicast() {
                    return Err(Error::NoGroup { group: *group.ip() });
                }
                Ok(Self::Multicast { group, interface: interface.as_deref().map(interface_address).transpose()? })
            }
            Addresses::Unicast { local, remote } => {
                Ok(Self::Unicast { local: socket_address(local)?, remote: socket_address(remote)? })
            }
            Addresses::Inet { local, remote } => {
                let remote = socket_address(remote)?;
                match local {
                    _ if remote.ip().is_multicast() => {
                        let interface = local.as_ref().map(|local| interface_address(&local.host)).transpose()?;
                        Ok(Self::Multicast { group: remote, interface })
                    }
                    None => Err(Error::NoLocal),
                    Some(local) => Ok(Self::Unicast { local: socket_address(local)?, remote }),
                }
            }
            Addresses::Unix { local, remote } => Ok(Self::Unix { local: local.clone(), remote: remote.clone() }),
        }
    }

    /// Makes and binds the socket.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::BindInet`], [`Error::BindUnix`], [`Error::Join`].
    pub fn open(&self) -> Result<Socket, Error> {
        match self {
            Self::Multicast { group, interface } => {
                let socket = bind_inet(*group)?;
                join(socket.as_fd(), *group.ip(), *interface)
                    .map_err(|source| Error::Join { group: *group.ip(), source: source.into() })?;
                Ok(Socket { socket, peer: Peer::Inet(*group), file: None })
            }
            Self::Unicast { local, remote } => {
                Ok(Socket { socket: bind_inet(*local)?, peer: Peer::Inet(*remote), file: None })
            }
            Self::Unix { local, remote } => {
                let failed =
                    |path: &OsStr, source: Errno| Error::BindUnix { path: path.to_owned(), source: source.into() };
                let peer = UnixPeer::pin(remote).map_err(|source| failed(remote, source))?;
                let (socket, file) = bind_unix(local).map_err(|source| failed(local, source))?;
                Ok(Socket { socket, peer: Peer::Unix(peer), file: Some(file) })
            }
        }
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multicast { group, interface: None } => write!(formatter, "UDP group {group}"),
            Self::Multicast { group, interface: Some(address) } => write!(formatter, "UDP group {group} on {address}"),
            Self::Unicast { local, remote } => write!(formatter, "UDP at {local}, sent to {remote}"),
            Self::Unix { local, remote } => {
                let (local, remote) = (readable(local.as_bytes()), readable(remote.as_bytes()));
                write!(formatter, "UNIX datagrams at {local}, sent to {remote}")
            }
        }
    }
}

/// A socket that is bound.
#[derive(Debug)]
pub struct Socket {
    /// The socket.
    pub socket: OwnedFd,
    /// Whom everything is sent to.
    pub peer: Peer,
    /// The name that a UNIX socket was given.
    pub file: Option<SocketFile>,
}

/// The one address that a socket sends to.
#[derive(Debug)]
pub enum Peer {
    /// UDP.
    Inet(SocketAddrV4),
    /// A UNIX socket.
    Unix(UnixPeer),
    /// The one that the socket is connected to, from which alone it takes any.
    Connected,
}

/// A UNIX socket that is sent to: whichever has its name, in the folder that had its path at the start.
#[derive(Debug)]
pub struct UnixPeer {
    address: SocketAddrUnix,
    /// The folder, as an `O_PATH` descriptor; none: the address is the path as it was typed.
    folder: Option<OwnedFd>,
}

impl UnixPeer {
    /// Pins the folder of `path`, if it is there and the address has room for the socket's name beside it.
    ///
    /// # Errors
    /// `ENAMETOOLONG`, and `EINVAL` for a NUL.
    fn pin(path: &OsStr) -> Result<Self, Errno> {
        let typed = SocketAddrUnix::new(path)?;
        let Ok(Home { folder, name, .. }) = output::home(Path::new(path)) else {
            return Ok(Self { address: typed, folder: None });
        };
        let pinned = [format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes(), name.as_bytes()].concat();
        Ok(match SocketAddrUnix::new(pinned) {
            Ok(address) => Self { address, folder: Some(folder) },
            Err(_) => Self { address: typed, folder: None },
        })
    }

    /// Whom to send to.
    #[must_use]
    pub fn address(&self) -> &SocketAddrUnix {
        &self.address
    }

    /// The folder, whose number stands in the address.
    pub fn folder(&self) -> Option<BorrowedFd<'_>> {
        self.folder.as_ref().map(AsFd::as_fd)
    }

    /// Whether the address is read from the working folder.
    #[must_use]
    pub fn is_relative(&self) -> bool {
        !self.address.path_bytes().is_some_and(|path| path.starts_with(b"/"))
    }
}

impl Socket {
    /// The folders that it goes by.
    pub fn folders(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let peer = match &self.peer {
            Peer::Unix(peer) => peer.folder(),
            Peer::Inet(_) | Peer::Connected => None,
        };
        self.file.iter().map(SocketFile::folder).chain(peer)
    }
}

/// Makes a socket of UDP that is bound to `own`, and connected to `remote`, as QEMU's `-chardev udp` has it
/// (`inet_dgram_saddr` in its `util/qemu-sockets.c`).
///
/// # Errors
/// [`Error::Socket`], [`Error::Connect`].
pub fn connect(own: SocketAddr, remote: SocketAddr) -> Result<Socket, Error> {
    let family = if remote.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = datagram_socket(family).map_err(|source| Error::Socket(source.into()))?;
    sockopt::set_socket_reuseaddr(&socket, true)
        .and_then(|()| rustix::net::bind(&socket, &own))
        .and_then(|()| rustix::net::connect(&socket, &remote))
        .map_err(|source| Error::Connect { own, remote, source: source.into() })?;
    Ok(Socket { socket, peer: Peer::Connected, file: None })
}

/// The name that a UNIX socket has in the file system.
#[derive(Debug)]
pub struct SocketFile {
    home: Home,
    identity: (u64, u64),
}

impl SocketFile {
    /// The folder that it lies in.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.home.folder.as_fd()
    }

    /// Removes it, if it still is that socket's.
    pub fn remove(&self) {
        // Somebody else has removed or replaced it: then there is nothing to do.
        let _ = output::remove_file(&self.home, self.identity);
    }
}

fn socket_address(place: &HostPort) -> Result<SocketAddrV4, Error> {
    Ok(SocketAddrV4::new(host::look_up(&place.host)?, place.port))
}

fn interface_address(text: &str) -> Result<Ipv4Addr, Error> {
    host::read_address(text).ok_or_else(|| Error::Interface(text.to_owned()))
}

fn datagram_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

fn bind_inet(address: SocketAddrV4) -> Result<OwnedFd, Error> {
    let socket = datagram_socket(AddressFamily::INET).map_err(|source| Error::Socket(source.into()))?;
    sockopt::set_socket_reuseaddr(&socket, true)
        .and_then(|()| rustix::net::bind(&socket, &address))
        .map_err(|source| Error::BindInet { address, source: source.into() })?;
    Ok(socket)
}

/// Joins a group, whose datagrams this host's own members get too.
fn join(socket: BorrowedFd<'_>, group: Ipv4Addr, interface: Option<Ipv4Addr>) -> Result<(), Errno> {
    sockopt::set_ip_add_membership(socket, &group, &interface.unwrap_or(Ipv4Addr::UNSPECIFIED))?;
    sockopt::set_ip_multicast_loop(socket, true)?;
    interface.map_or(Ok(()), |address| sockopt::set_ip_multicast_if(socket, &address))
}

/// Binds a socket to `path`, in place of a socket that has that name. QEMU would remove whatever has it.
fn bind_unix(path: &OsStr) -> Result<(OwnedFd, SocketFile), Errno> {
    let home = output::home(Path::new(path)).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let status = || rustix::fs::statat(&home.folder, &home.name, AtFlags::SYMLINK_NOFOLLOW);
    if status().is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Socket) {
        rustix::fs::unlinkat(&home.folder, &home.name, AtFlags::empty())?;
    }
    let socket = datagram_socket(AddressFamily::UNIX)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Looked at by its path, the socket would be another one if the folder was replaced meanwhile.
    let found = status()?;
    let identity = (found.st_dev, found.st_ino);
    Ok((socket, SocketFile { home, identity }))
}

/// Why there is no socket of datagrams.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A host.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// Not of a group.
    #[error(
        "specified mcastaddr {group} (0x{:08x}) does not contain a multicast address; choose one from 224.0.0.0 to \
         239.255.255.255", u32::from(*group)
    )]
    NoGroup {
        /// Its address.
        group: Ipv4Addr,
    },
    /// The interface's address, of a group.
    #[error("localaddr '{0}' is not a valid IPv4 address; write the address of an interface")]
    Interface(String),
    /// `dgram` with one side.
    #[error("dgram requires local= parameter; add local.type=inet,local.host=HOST,local.port=PORT")]
    NoLocal,
    /// `socket(2)`.
    #[error("can't create datagram socket: {0}; raise the limit on open files (ulimit -n)")]
    Socket(io::Error),
    /// `bind(2)`.
    #[error("can't bind ip={} to socket: {source}; give an address of this host, and a port that is free", address.ip())]
    BindInet {
        /// To what.
        address: SocketAddrV4,
        /// What the kernel said.
        source: io::Error,
    },
    /// `bind(2)` of a path, or what comes before it.
    #[error(
        "can't bind unix={} to socket: {source}; give a path in a folder that you may write, and that no other file has",
        readable(path.as_bytes())
    )]
    BindUnix {
        /// To what.
        path: OsString,
        /// What the kernel said.
        source: io::Error,
    },
    /// `bind(2)` or `connect(2)`, of a character device.
    #[error("cannot send datagrams from {own} to {remote}: {source}; is the port free, and is there a route?")]
    Connect {
        /// Where it is bound.
        own: SocketAddr,
        /// Whom it sends to.
        remote: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// `setsockopt(2)`.
    #[error("can't add socket to multicast group {group}: {source}; is there an interface with a route to it?")]
    Join {
        /// The group.
        group: Ipv4Addr,
        /// What the kernel said.
        source: io::Error,
    },
}
