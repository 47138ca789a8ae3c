//! Sockets that the emulator may have bound or connected: those that the command line names, by address.

mod list;
pub mod make;
pub mod path;
mod turns;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocol::{Errno, Name, Socket, SocketAddress, SocketKind};

use super::policy::Decision;
use super::refusal::Refusal;
use super::work::Work;
use crate::paths::absolute;
use path::SocketPath;
use turns::Turns;

/// A socket that the emulator may have.
#[derive(Debug)]
pub struct SocketGrant {
    /// The option that names it, as typed; for messages.
    pub option: String,
    /// What it is for.
    pub role: SocketRole,
    /// Where it is bound, or what it is connected to.
    pub place: SocketPlace,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketRole {
    /// It takes connections.
    Listen,
    /// It is connected.
    Connect,
    /// It sends datagrams to one address, by the relay.
    Datagram,
}

impl SocketRole {
    /// What is done, in a word.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Connect => "connect",
            Self::Datagram => "datagrams",
        }
    }
}

/// An address, or several that one name stands for.
#[derive(Debug)]
pub enum SocketPlace {
    /// A UNIX socket with a path.
    Path(SocketPath),
    /// A UNIX socket of this abstract name.
    Abstract(Vec<u8>),
    /// TCP.
    Inet {
        /// The name, as typed.
        host: String,
        /// What it stands for, in the host's order.
        addresses: Vec<IpAddr>,
        /// Its ports; 0: any.
        ports: RangeInclusive<u16>,
        /// Whether a socket of IPv6 is to take no connection of IPv4.
        only_v6: bool,
    },
    /// UDP, by the relay.
    Datagram(DatagramPlace),
}

impl SocketPlace {
    /// Whether it is the UNIX socket of this absolute path, or, with a NUL before it, of this abstract name.
    #[must_use]
    pub fn is_unix(&self, address: &[u8]) -> bool {
        match self {
            Self::Path(path) => path.absolute == address,
            Self::Abstract(name) => address.strip_prefix(b"\0") == Some(name),
            Self::Inet { .. } | Self::Datagram(_) => false,
        }
    }
}

/// Where datagrams go, and the emulator's end of the pair that the relay carries them through.
#[derive(Debug)]
pub struct DatagramPlace {
    /// Whom everything is sent to.
    pub remote: HostAddresses,
    /// Where it is bound; none: anywhere.
    pub own: Option<HostAddresses>,
    /// Set when the relay has been started.
    pub end: OnceLock<OwnedFd>,
}

/// A host and a port of UDP.
#[derive(Debug)]
pub struct HostAddresses {
    /// The name, as typed.
    pub host: String,
    /// What it stands for, in the host's order.
    pub addresses: Vec<IpAddr>,
    /// The port; 0: any.
    pub port: u16,
}

impl DatagramPlace {
    /// Whether the emulator binds a socket for it to this address, or connects one.
    fn covers(&self, purpose: DatagramPurpose, ip: IpAddr, port: u16) -> bool {
        let place = match purpose {
            DatagramPurpose::Connect => Some(&self.remote),
            DatagramPurpose::Bind => self.own.as_ref(),
        };
        match place {
            Some(place) => place.addresses.contains(&ip) && place.port == port,
            None => ip.is_unspecified() && port == 0,
        }
    }
}

/// What the emulator does with a socket of datagrams.
#[derive(Debug, Clone, Copy)]
enum DatagramPurpose {
    Bind,
    Connect,
}

impl SocketGrant {
    /// The place in words.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.place {
            SocketPlace::Path(path) => format!("unix:{}", path.name.escape_ascii()),
            SocketPlace::Abstract(name) => format!("abstract:{}", name.escape_ascii()),
            SocketPlace::Inet { host, ports, .. } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let (first, last) = (ports.start(), ports.end());
                if first == last { format!("tcp:{host}:{first}") } else { format!("tcp:{host}:{first}-{last}") }
            }
            SocketPlace::Datagram(DatagramPlace { remote: HostAddresses { host, port, .. }, .. }) => {
                if host.contains(':') { format!("udp:[{host}]:{port}") } else { format!("udp:{host}:{port}") }
            }
        }
    }

    /// The path of a UNIX socket, if it has one.
    #[must_use]
    pub fn path(&self) -> Option<&SocketPath> {
        match &self.place {
            SocketPlace::Path(path) => Some(path),
            SocketPlace::Abstract(_) | SocketPlace::Inet { .. } | SocketPlace::Datagram(_) => None,
        }
    }

    /// Whether it stands for `address`, whose path, if it has one, is `absolute`.
    fn covers(&self, address: &SocketAddress, absolute: Option<&[u8]>) -> bool {
        match (&self.place, address) {
            (SocketPlace::Path(path), SocketAddress::Unix(_)) => absolute == Some(path.absolute.as_slice()),
            (SocketPlace::Abstract(wanted), SocketAddress::Unix(name)) => name.as_abstract() == Some(wanted.as_slice()),
            (SocketPlace::Inet { addresses, ports, .. }, _) => {
                ip_of(address).is_some_and(|(ip, port)| addresses.contains(&ip) && ports.contains(&port))
            }
            _ => false,
        }
    }
}

/// Address and port; a mapped IPv4 address (`::ffff:1.2.3.4`) stands for that one.
fn ip_of(address: &SocketAddress) -> Option<(IpAddr, u16)> {
    match address {
        SocketAddress::Unix(_) => None,
        SocketAddress::V4 { ip, port } => Some((IpAddr::from(*ip), *port)),
        SocketAddress::V6 { ip, port, .. } => Some((IpAddr::from(*ip).to_canonical(), *port)),
    }
}

/// All sockets that one guest may have.
#[derive(Debug)]
pub struct Sockets {
    granted: Vec<Arc<SocketGrant>>,
    turns: Turns,
    /// What relative names are read from.
    working_directory: PathBuf,
    /// How long a connection may take.
    patience: Duration,
}

impl Sockets {
    /// What is granted for the life of the guest; nothing is added later.
    #[must_use]
    pub fn new(granted: Vec<Arc<SocketGrant>>, working_directory: PathBuf, patience: Duration) -> Self {
        Self { granted, turns: Turns::default(), working_directory, patience }
    }

    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new(), PathBuf::from("/"), Duration::ZERO)
    }

    /// All of them, in the order of the command line.
    #[must_use]
    pub fn granted(&self) -> &[Arc<SocketGrant>] {
        &self.granted
    }

    /// Decides on a socket that is to be bound.
    #[must_use]
    pub fn decide_bind(&self, address: &SocketAddress, socket: Socket) -> Decision {
        if socket.kind == SocketKind::Datagram {
            let found = self.find_datagram(DatagramPurpose::Bind, address);
            return found.unwrap_or_else(|| Decision::Refuse(Refusal::datagram(address)));
        }
        match self.find(SocketRole::Listen, address) {
            Some(grant) => Decision::Work(Work::Bind(grant, address.clone(), socket)),
            None => Decision::Refuse(Refusal::unknown_address(address)),
        }
    }

    /// Decides on a socket that is to be connected.
    #[must_use]
    pub fn decide_connect(&self, address: &SocketAddress, socket: Socket) -> Decision {
        if socket.kind == SocketKind::Datagram {
            return match self.find_datagram(DatagramPurpose::Connect, address) {
                Some(decision) => decision,
                None if self.knows_host(address) => fail(rustix::io::Errno::NETUNREACH),
                None => Decision::Refuse(Refusal::datagram(address)),
            };
        }
        match self.find(SocketRole::Connect, address) {
            Some(grant) => Decision::Work(Work::Connect(grant, address.clone(), socket, self.patience)),
            None => Decision::Refuse(Refusal::unknown_address(address)),
        }
    }

    /// Decides on the removal of `name`, if it is that of a socket that the emulator may bind.
    #[must_use]
    pub fn decide_unlink(&self, name: &Name) -> Option<Decision> {
        let absolute = absolute(&self.working_directory, name.as_bytes());
        // QEMU removes the path of whatever it listened on, and takes an abstract name for one.
        let named =
            |grant: &&Arc<SocketGrant>| matches!(&grant.place, SocketPlace::Abstract(own) if own == name.as_bytes());
        if self.granted.iter().any(|grant| named(&grant)) {
            return Some(fail(rustix::io::Errno::NOENT));
        }
        let by_path = |grant: &&Arc<SocketGrant>| grant.path().is_some_and(|path| path.absolute == absolute);
        let grant = self.granted.iter().filter(|grant| grant.role == SocketRole::Listen).find(by_path)?;
        Some(Decision::Work(Work::RemoveSocket(Arc::clone(grant))))
    }

    /// Whether `absolute` is the path of a socket that the emulator may bind.
    #[must_use]
    pub fn has_path(&self, absolute: &[u8]) -> bool {
        self.granted.iter().filter_map(|grant| grant.path()).any(|path| path.absolute == absolute)
    }

    fn find(&self, role: SocketRole, address: &SocketAddress) -> Option<Arc<SocketGrant>> {
        let path = self.path_of(address);
        let mut granted = self.granted.iter().filter(|grant| grant.role == role);
        granted.find(|grant| grant.covers(address, path.as_deref())).map(Arc::clone)
    }

    /// The end of a pair, in place of a socket of datagrams. One that is bound says not yet whom it will be connected to, and
    /// is replaced once more then.
    fn find_datagram(&self, purpose: DatagramPurpose, address: &SocketAddress) -> Option<Decision> {
        let address = ip_of(address)?;
        let found = match purpose {
            DatagramPurpose::Bind => self.turns.bind(&self.granted, address),
            DatagramPurpose::Connect => self.turns.connect(&self.granted, address),
        };
        found.map(|grant| Decision::Work(Work::HandOver(grant)))
    }

    fn path_of(&self, address: &SocketAddress) -> Option<Vec<u8>> {
        match address {
            SocketAddress::Unix(name) if name.as_abstract().is_none() => {
                Some(absolute(&self.working_directory, name.as_bytes()))
            }
            _ => None,
        }
    }

    /// Whether something is granted at this address, whatever its port.
    fn knows_host(&self, address: &SocketAddress) -> bool {
        ip_of(address).is_some_and(|(ip, _)| {
            let at = |grant: &Arc<SocketGrant>| match &grant.place {
                SocketPlace::Inet { addresses, .. } => addresses.contains(&ip),
                SocketPlace::Datagram(place) => place.remote.addresses.contains(&ip),
                SocketPlace::Path(_) | SocketPlace::Abstract(_) => false,
            };
            self.granted.iter().any(at)
        })
    }
}

fn fail(errno: rustix::io::Errno) -> Decision {
    Decision::Fail(Errno::from_io(&errno.into()))
}

#[cfg(test)]
mod tests;
