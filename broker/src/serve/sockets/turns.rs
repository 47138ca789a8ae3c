//! Which of the character devices of UDP a call is for, where several send to one address.
//!
//! QEMU opens one device after the other, and binds the socket of each before it connects it (`inet_dgram_saddr` in its
//! `util/qemu-sockets.c`). The C library connects such sockets too, unbound, to put the addresses of a name in order.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{DatagramPurpose, SocketGrant, SocketPlace};

/// What the emulator has done with sockets of datagrams.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where a socket was bound that is not connected yet.
    bound: Option<(IpAddr, u16)>,
    /// The devices whose sockets were connected, in that order, as places among what is granted.
    connected: Vec<usize>,
}

impl Turns {
    /// A device that binds a socket to `address`. Which of several it is shows when the socket is connected.
    pub(super) fn bind(&self, granted: &[Arc<SocketGrant>], address: (IpAddr, u16)) -> Option<Arc<SocketGrant>> {
        let found = granted.iter().find(|grant| covers(grant, DatagramPurpose::Bind, address))?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bound = Some(address);
        Some(Arc::clone(found))
    }

    /// The device whose socket is connected to `address`: one that was bound as the last socket was, and that has none
    /// yet. A call that binds nothing before it is the C library's, or is made again because an agent died.
    pub(super) fn connect(&self, granted: &[Arc<SocketGrant>], address: (IpAddr, u16)) -> Option<Arc<SocketGrant>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let covering = |purpose, at| (0..granted.len()).filter(move |place| is_at(granted, *place, purpose, at));
        let mut candidates = covering(DatagramPurpose::Connect, address);
        let first = candidates.clone().next()?;
        let chosen = match state.bound.take() {
            None => candidates.clone().find(|place| state.connected.last() == Some(place)).unwrap_or(first),
            Some(own) => {
                let bound = |place: &usize| is_at(granted, *place, DatagramPurpose::Bind, own);
                let is_next = |place: &usize| bound(place) && !state.connected.contains(place);
                let chosen = candidates.find(is_next).unwrap_or(first);
                state.connected.retain(|place| *place != chosen);
                state.connected.push(chosen);
                chosen
            }
        };
        granted.get(chosen).map(Arc::clone)
    }
}

fn is_at(granted: &[Arc<SocketGrant>], place: usize, purpose: DatagramPurpose, address: (IpAddr, u16)) -> bool {
    granted.get(place).is_some_and(|grant| covers(grant, purpose, address))
}

fn covers(grant: &SocketGrant, purpose: DatagramPurpose, (ip, port): (IpAddr, u16)) -> bool {
    matches!(&grant.place, SocketPlace::Datagram(place) if place.covers(purpose, ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::OnceLock;

    use super::super::{DatagramPlace, HostAddresses, SocketRole};
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn device(option: &str, own: Option<u16>, remote: u16) -> Arc<SocketGrant> {
        let side = |port| HostAddresses { host: "here".into(), addresses: vec![HERE], port };
        let place = DatagramPlace { remote: side(remote), own: own.map(side), end: OnceLock::new() };
        Arc::new(SocketGrant { option: option.into(), role: SocketRole::Datagram, place: SocketPlace::Datagram(place) })
    }

    #[test]
    fn devices_with_one_peer_have_an_end_each() {
        let granted = [device("a", Some(1), 9), device("b", Some(2), 9), device("c", None, 9), device("d", None, 9)];
        let turns = Turns::default();
        let open = |own| {
            assert!(turns.bind(&granted, own).is_some());
            let opened = turns.connect(&granted, (HERE, 9)).unwrap();
            // A question of the C library's between two devices takes no turn.
            assert_eq!(turns.connect(&granted, (HERE, 9)).unwrap().option, opened.option);
            opened.option.clone()
        };
        assert_eq!([open((HERE, 2)), open((ANY, 0)), open((HERE, 1)), open((ANY, 0))], ["b", "c", "a", "d"]);
    }

    #[test]
    fn what_is_not_named_is_not_found() {
        let granted = [device("a", Some(1), 9)];
        let turns = Turns::default();
        assert!(turns.bind(&granted, (ANY, 0)).is_none() && turns.connect(&granted, (HERE, 1)).is_none());
        assert_eq!(turns.connect(&granted, (HERE, 9)).unwrap().option, "a");
    }
}
