//! Networks are opened here: the last that is done with the operator's rights before the broker is forked off.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::{Start, scripts};
use crate::open::net::datagrams::{self, Socket};
use crate::open::net::{self, Interface, Wanted, host, vhost, way};
use crate::plan::networks::PlannedNetwork;
use crate::relay;
use crate::serve::sockets::{DatagramPlace, HostAddresses, SocketGrant, SocketPlace};

impl Start {
    /// Opens the networks of the plan, runs their scripts, and puts the numbers of the descriptors into the emulator's
    /// arguments. The descriptors are for the emulator alone; all are closed when one network fails, and what was made goes
    /// with them.
    ///
    /// # Errors
    /// [`super::Error::Network`], [`super::Error::Relay`].
    pub fn open_networks(&mut self) -> Result<Vec<OwnedFd>, super::Error> {
        let daemonizes = self.plan.command.daemonize;
        let mut inherited = Vec::new();
        for planned in std::mem::take(&mut self.plan.networks) {
            let opened = open(&planned, daemonizes)
                .map_err(|source| Error { option: planned.network.option.clone(), source: source.into() })?;
            if let Some(word) = self.plan.command.argv.get_mut(planned.network.word) {
                *word = planned.network.rewritten(&numbers(&opened.queues), &numbers(&opened.vhosts));
            }
            inherited.extend(opened.queues.into_iter().chain(opened.vhosts).chain(opened.life));
        }
        inherited.extend(self.start_relay()?);
        Ok(inherited)
    }

    /// Character devices that send datagrams.
    fn datagram_devices(&self) -> Vec<(&SocketGrant, &DatagramPlace)> {
        let granted = self.plan.sockets.iter();
        granted
            .filter_map(|grant| match &grant.place {
                SocketPlace::Datagram(place) => Some((grant.as_ref(), place)),
                _ => None,
            })
            .collect()
    }

    /// Opens the sockets of datagrams, gives them to a relay, and puts the numbers of its ends into the arguments.
    fn start_relay(&mut self) -> Result<Vec<OwnedFd>, super::Error> {
        let planned = std::mem::take(&mut self.plan.datagrams);
        let mut sockets: Vec<Socket> = Vec::new();
        for one in &planned {
            match one.ends.open() {
                Ok(socket) => sockets.push(socket),
                Err(source) => {
                    sockets.iter().filter_map(|socket| socket.file.as_ref()).for_each(|file| file.remove());
                    let option = one.network.option.clone();
                    return Err(Error { option, source: Box::new(source.into()) }.into());
                }
            }
        }
        let devices = self.datagram_devices();
        for (grant, place) in &devices {
            match connect(place) {
                Ok(socket) => sockets.push(socket),
                Err(source) => {
                    sockets.iter().filter_map(|socket| socket.file.as_ref()).for_each(|file| file.remove());
                    let option = grant.option.clone();
                    return Err(Error { option, source: Box::new(source.into()) }.into());
                }
            }
        }
        if sockets.is_empty() {
            return Ok(Vec::new());
        }
        let relay::Ends { sockets: mut ends, life } = relay::start(sockets, self.plan.host.abi)?;
        for ((_, place), end) in devices.iter().zip(ends.split_off(planned.len())) {
            // It is set here alone.
            let _ = place.end.set(end);
        }
        for (one, end) in planned.iter().zip(&ends) {
            if let Some(word) = self.plan.command.argv.get_mut(one.network.word) {
                *word = one.network.rewritten(end.as_raw_fd());
            }
        }
        Ok(ends.into_iter().chain([life]).collect())
    }
}

/// A socket for a character device.
fn connect(place: &DatagramPlace) -> Result<Socket, datagrams::Error> {
    let unknown = |side: &HostAddresses| datagrams::Error::Host(host::Error::Name(side.host.clone()));
    let remote = place.remote.addresses.first().ok_or_else(|| unknown(&place.remote))?;
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let own = match &place.own {
        None => SocketAddr::new(any, 0),
        Some(own) => {
            let same = own.addresses.iter().find(|address| address.is_ipv4() == remote.is_ipv4());
            SocketAddr::new(*same.ok_or_else(|| unknown(own))?, own.port)
        }
    };
    datagrams::connect(own, SocketAddr::new(*remote, place.remote.port))
}

/// What one network gives the emulator.
struct Opened {
    queues: Vec<OwnedFd>,
    vhosts: Vec<OwnedFd>,
    /// Closed with the emulator's end, for which a script waits.
    life: Option<OwnedFd>,
}

fn open(planned: &PlannedNetwork, daemonizes: bool) -> Result<Opened, Cause> {
    let network = &planned.network;
    // First what makes nothing.
    let vhosts = if planned.vhost { vhost::open(network.queues)? } else { Vec::new() };
    let wanted = Wanted { queues: network.queues, vnet_hdr: network.vnet_hdr };
    let Some(way) = &planned.way else { return Ok(Opened { queues: Vec::new(), vhosts, life: None }) };
    let Interface { name, queues } = way.open(wanted)?;
    if let Some(script) = &planned.up {
        scripts::run_up(script, &name)?;
    }
    let life = match (&planned.down, queues.first()) {
        (Some(script), Some(queue)) => Some(scripts::await_down(script, &name, queue, daemonizes)?),
        _ => None,
    };
    Ok(Opened { queues, vhosts, life })
}

fn numbers(descriptors: &[OwnedFd]) -> Vec<RawFd> {
    descriptors.iter().map(AsRawFd::as_raw_fd).collect()
}

/// A network that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {source}")]
pub struct Error {
    /// The option that names it.
    option: String,
    /// Why not.
    source: Box<Cause>,
}

/// Why a network could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The interface.
    #[error(transparent)]
    Way(#[from] way::Error),
    /// vhost-net.
    #[error(transparent)]
    Vhost(#[from] net::Error),
    /// A socket of datagrams.
    #[error(transparent)]
    Datagrams(#[from] datagrams::Error),
    /// A script.
    #[error(transparent)]
    Script(#[from] scripts::Error),
}
