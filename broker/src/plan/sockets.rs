//! Sockets that QEMU makes by address: names of hosts become addresses, and the folders of UNIX sockets are pinned.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use caps::Capability;
use protocol::Errno;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use super::{Options, Plan};
use crate::confine::capabilities;
use crate::confine::landlock::NetworkRights;
use crate::emulator::{Address, Endpoint, EndpointUse};
use crate::open::access::needs_override;
use crate::paths::absolute;
use crate::serve::sockets::path::{SocketHome, SocketPath};
use crate::serve::sockets::{DatagramPlace, HostAddresses, SocketGrant, SocketPlace, SocketRole};
use crate::sys::process;

/// Ports of one range that Landlock gets a rule each for; where there are more, it leaves binding to the policy.
const PORTS_WITH_RULES: usize = 512;

impl Plan {
    /// Plans for the streams of the command line, and for those that the operator grants beside them.
    pub(super) fn plan_sockets(&mut self, options: &Options) {
        // QEMU would remove the path of a socket that it was handed. Whoever bound it does that.
        let handed = self.command.descriptors.iter().filter_map(|number| path_of_handed(*number));
        self.absent.extend(handed.map(|path| (path, Errno::from_io(&rustix::io::Errno::NOENT.into()))));
        let endpoints: Vec<Endpoint> = self.command.endpoints.iter().chain(&options.endpoints).cloned().collect();
        for endpoint in endpoints {
            let (role, place) = match &endpoint.use_ {
                EndpointUse::Listen => (SocketRole::Listen, self.place_socket(SocketRole::Listen, &endpoint)),
                EndpointUse::Connect => (SocketRole::Connect, self.place_socket(SocketRole::Connect, &endpoint)),
                EndpointUse::Datagram(own) => {
                    let remote = self.place_datagram(SocketRole::Connect, &endpoint.option, &endpoint.address);
                    let Some(remote) = remote else { continue };
                    let own =
                        own.as_ref().and_then(|own| self.place_datagram(SocketRole::Listen, &endpoint.option, own));
                    let place = DatagramPlace { remote, own, end: OnceLock::new() };
                    (SocketRole::Datagram, SocketPlace::Datagram(place))
                }
            };
            if let SocketPlace::Path(SocketPath { home: Ok(home), .. }) = &place {
                self.keeps_override |= takes_override(home, role);
            }
            if let (SocketPlace::Path(path), SocketRole::Listen, Some(user)) = (&place, role, &self.image_user) {
                self.notices.push(format!(
                    "{}: the socket {} will belong to the images' user (uid {}), who can then use it; name a folder that this \
                     user cannot enter",
                    endpoint.option,
                    path.name.escape_ascii(),
                    user.ids().0
                ));
            }
            self.sockets.push(Arc::new(SocketGrant { option: endpoint.option, role, place }));
        }
    }

    fn place_socket(&mut self, role: SocketRole, endpoint: &Endpoint) -> SocketPlace {
        match &endpoint.address {
            Address::Unix { path } => SocketPlace::Path(SocketPath {
                name: path.as_bytes().to_vec(),
                absolute: absolute(&self.working_directory, path.as_bytes()),
                home: find_home(Path::new(path), role),
            }),
            Address::Abstract { name } => SocketPlace::Abstract(name.clone()),
            Address::Inet { host, first_port, last_port, ipv4, ipv6 } => {
                let mut addresses = resolve(host, role).unwrap_or_else(|error| {
                    self.notices.push(format!(
                        "{}: the name {host} stands for no address ({error}); no socket is granted there",
                        endpoint.option
                    ));
                    Vec::new()
                });
                addresses.retain(|ip| is_wanted(*ip, role, *ipv4, *ipv6));
                // As QEMU sets IPV6_V6ONLY (inet_listen_saddr in util/qemu-sockets.c), which is not the emulator's to say.
                let only_v6 = *ipv4 == Some(false) || (*ipv6 == Some(true) && *ipv4 != Some(true));
                SocketPlace::Inet { host: host.clone(), addresses, ports: *first_port..=*last_port, only_v6 }
            }
        }
    }

    /// A side of a socket of datagrams; there are none but of the internet.
    fn place_datagram(&mut self, role: SocketRole, option: &str, address: &Address) -> Option<HostAddresses> {
        let Address::Inet { host, first_port, ipv4, ipv6, .. } = address else { return None };
        let mut addresses = resolve(host, role).unwrap_or_else(|error| {
            self.notices
                .push(format!("{option}: the name {host} stands for no address ({error}); no socket is granted there"));
            Vec::new()
        });
        addresses.retain(|ip| is_wanted(*ip, role, *ipv4, *ipv6));
        Some(HostAddresses { host: host.clone(), addresses, port: *first_port })
    }

    /// What the broker may do with sockets.
    #[must_use]
    pub fn network_rights(&self) -> NetworkRights {
        let mut rights = NetworkRights { sockets: !self.sockets.is_empty(), ..NetworkRights::default() };
        let mut bind = BTreeSet::new();
        let mut few = true;
        for grant in &self.sockets {
            match (&grant.place, grant.role) {
                (SocketPlace::Abstract(_), SocketRole::Connect) => rights.abstract_sockets = true,
                (SocketPlace::Inet { ports, .. }, SocketRole::Connect) => rights.connect.extend(ports.clone()),
                (SocketPlace::Inet { ports, .. }, SocketRole::Listen) => {
                    few &= ports.clone().count() <= PORTS_WITH_RULES;
                    bind.extend(ports.clone().take(PORTS_WITH_RULES));
                }
                (SocketPlace::Abstract(_) | SocketPlace::Path(_) | SocketPlace::Datagram(_), _)
                | (SocketPlace::Inet { .. }, SocketRole::Datagram) => {}
            }
        }
        rights.bind = few.then_some(bind);
        rights
    }

    /// Whether the broker has to keep `CAP_NET_BIND_SERVICE`: a port is named that takes it, and the operator has it.
    #[must_use]
    pub fn binds_low_ports(&self) -> bool {
        let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let first_free: u16 = first_free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
        let is_low = |grant: &Arc<SocketGrant>| match &grant.place {
            SocketPlace::Inet { ports, .. } if grant.role == SocketRole::Listen => {
                *ports.end() != 0 && *ports.start() < first_free
            }
            _ => false,
        };
        self.sockets.iter().any(is_low) && capabilities::holds(Capability::CAP_NET_BIND_SERVICE).unwrap_or(false)
    }

    /// Whether some socket is bound by a path that is relative to the folder of the start.
    #[must_use]
    pub fn binds_relative_paths(&self) -> bool {
        let bound = self.sockets.iter().filter(|grant| grant.role == SocketRole::Listen);
        bound.filter_map(|grant| grant.path()).any(|path| !path.name.starts_with(b"/"))
    }
}

/// Addresses by a name, in the order in which the host prefers them. QEMU asks itself, and gets the same answer.
///
/// # Errors
/// The C library's: the name is unknown, or no name server answers.
fn resolve(host: &str, role: SocketRole) -> std::io::Result<Vec<IpAddr>> {
    use std::net::{Ipv4Addr, Ipv6Addr};
    if host.is_empty() {
        // getaddrinfo(3): the wildcard address for a server, the loopback address for a client.
        return Ok(match role {
            SocketRole::Listen => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            SocketRole::Connect | SocketRole::Datagram => {
                vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]
            }
        });
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for found in (host, 0).to_socket_addrs()? {
        let ip = found.ip().to_canonical();
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    Ok(addresses)
}

/// Whether `ipv4=` and `ipv6=` let an address of this family be used (`inet_ai_family_from_address`, QEMU's
/// `util/qemu-sockets.c`): one that is on alone leaves the other family out, but that a client reaches a host which has
/// IPv4 only over IPv6 sockets too, by mapped addresses (`AI_V4MAPPED`).
fn is_wanted(ip: IpAddr, role: SocketRole, ipv4: Option<bool>, ipv6: Option<bool>) -> bool {
    let (own, other) = if ip.is_ipv4() { (ipv4, ipv6) } else { (ipv6, ipv4) };
    let mapped = ip.is_ipv4() && role == SocketRole::Connect;
    own != Some(false) && (own == Some(true) || other != Some(true) || mapped)
}

/// The path that an inherited UNIX socket is bound to.
fn path_of_handed(number: RawFd) -> Option<Vec<u8>> {
    let socket = process::duplicate(number).ok()?;
    let address = rustix::net::SocketAddrUnix::try_from(rustix::net::getsockname(&socket).ok()?).ok()?;
    Some(address.path_bytes()?.to_owned()).filter(|path| !path.is_empty())
}

/// Pins the folder of a UNIX socket.
fn find_home(path: &Path, role: SocketRole) -> Result<SocketHome, rustix::io::Errno> {
    let path = match role {
        SocketRole::Listen => path.to_owned(),
        SocketRole::Connect | SocketRole::Datagram => follow(path),
    };
    let name = path.file_name().ok_or(rustix::io::Errno::ISDIR)?;
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, folder, flags, Mode::empty())?;
    Ok(SocketHome::new(folder, name.to_owned()))
}

/// Whether file permissions alone would keep the broker from a socket that the operator, who is root, may use: of a server
/// that runs as another user, or in another user's folder, where such a server may come later.
fn takes_override(home: &SocketHome, role: SocketRole) -> bool {
    let denied = |descriptor: BorrowedFd<'_>| needs_override(descriptor, true).unwrap_or(false);
    if role == SocketRole::Listen {
        return denied(home.folder());
    }
    let own = rustix::process::geteuid().as_raw();
    let is_strangers = rustix::fs::fstat(home.folder()).is_ok_and(|status| status.st_uid != own);
    let holds = || capabilities::holds(Capability::CAP_DAC_OVERRIDE).unwrap_or(false);
    (is_strangers && holds()) || home.open().is_ok_and(|socket| denied(socket.as_fd()))
}

/// Where a link that stands for a server's socket leads now. Later ones are not followed.
fn follow(path: &Path) -> PathBuf {
    let is_link = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Symlink);
    let target = is_link.then(|| std::fs::canonicalize(path).ok()).flatten();
    target.unwrap_or_else(|| path.to_owned())
}

/// The hosts that the command line names, each with its addresses; for the sandbox's own table of names.
pub fn named_hosts(sockets: &[Arc<SocketGrant>]) -> Vec<(&str, &[IpAddr])> {
    let mut hosts: Vec<(&str, &[IpAddr])> = Vec::new();
    let named = sockets.iter().flat_map(|grant| match &grant.place {
        SocketPlace::Inet { host, addresses, .. } => vec![(host, addresses)],
        SocketPlace::Datagram(place) => {
            let sides = std::iter::once(&place.remote).chain(&place.own);
            sides.map(|side| (&side.host, &side.addresses)).collect()
        }
        SocketPlace::Path(_) | SocketPlace::Abstract(_) => Vec::new(),
    });
    for (host, addresses) in named {
        if host.parse::<IpAddr>().is_err() && !host.is_empty() && !hosts.iter().any(|(known, _)| known == host) {
            hosts.push((host, addresses));
        }
    }
    hosts
}

/// Whether the path of a socket that is bound has this name, as the emulator spells it.
pub fn spelled(sockets: &[Arc<SocketGrant>]) -> impl Iterator<Item = &OsStr> {
    let bound = sockets.iter().filter(|grant| grant.role == SocketRole::Listen);
    bound
        .filter_map(|grant| grant.path())
        .flat_map(|path| [&path.name, &path.absolute])
        .map(|name| OsStr::from_bytes(name))
}
