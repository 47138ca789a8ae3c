//! A relay's links between sockets of this test's own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::*;
use crate::open::net::datagrams::Ends;

/// A link of UDP on this host, the guest's end, and the socket that it sends to.
struct Scene {
    guest: UnixDatagram,
    relays: OwnedFd,
    host: Socket,
    peer: UdpSocket,
    at: SocketAddr,
}

fn scene() -> std::io::Result<Scene> {
    let (guest, relays) = UnixDatagram::pair()?;
    let (own, peer) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
    peer.set_nonblocking(true)?;
    guest.set_nonblocking(true)?;
    let SocketAddr::V4(address) = peer.local_addr()? else { return Err(std::io::ErrorKind::Unsupported.into()) };
    let at = own.local_addr()?;
    let host = Socket { socket: own.into(), peer: Peer::Inet(address), file: None };
    Ok(Scene { guest, relays: relays.into(), host, peer, at })
}

#[test]
fn datagrams_go_both_ways_and_keep_their_bounds() {
    let Scene { guest, relays, host, peer, at } = scene().unwrap();
    let mut link = Link::new(relays.as_fd(), &host);
    let mut buffer = vec![0; LONGEST];
    for length in [1, 60, 1514, 65_507] {
        guest.send(&vec![7; length]).unwrap();
        peer.send_to(&vec![9; length], at).unwrap();
        link.carry();
        assert_eq!(peer.recv_from(&mut buffer).unwrap(), (length, at));
        assert!(buffer[..length].iter().all(|byte| *byte == 7));
        assert_eq!(guest.recv(&mut buffer).unwrap(), length);
        assert!(buffer[..length].iter().all(|byte| *byte == 9));
    }
    // Anybody may send to it, as to QEMU's own.
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    stranger.send_to(b"stranger", at).unwrap();
    link.carry();
    assert_eq!(guest.recv(&mut buffer).unwrap(), 8);
}

#[test]
fn an_empty_datagram_does_not_reach_the_guest_and_one_that_is_too_long_is_lost() {
    let Scene { guest, relays, host, peer, at } = scene().unwrap();
    let mut link = Link::new(relays.as_fd(), &host);
    peer.send_to(b"", at).unwrap();
    peer.send_to(b"next", at).unwrap();
    guest.send(&[1; 65_508]).unwrap();
    guest.send(b"next").unwrap();
    link.carry();
    let mut buffer = vec![0; LONGEST];
    assert_eq!(guest.recv(&mut buffer).unwrap(), 4);
    assert_eq!(peer.recv(&mut buffer).unwrap(), 4);
}

#[test]
fn one_datagram_waits_for_a_guest_that_takes_none() {
    let Scene { guest, relays, host, peer, at } = scene().unwrap();
    let mut link = Link::new(relays.as_fd(), &host);
    let mut sent = 0_u32;
    while link.to_guest.length == 0 {
        peer.send_to(&sent.to_be_bytes(), at).unwrap();
        sent += 1;
        link.carry();
    }
    assert_eq!(link.events(), [PollFlags::IN | PollFlags::OUT, PollFlags::empty()]);
    let mut taken = 0_u32;
    let mut number = [0; 4];
    while guest.recv(&mut number).is_ok() {
        assert_eq!(u32::from_be_bytes(number), taken);
        taken += 1;
        link.carry();
    }
    assert_eq!(taken, sent);
    assert_eq!(link.events(), [PollFlags::IN; 2]);
}

/// From `own` to `peer` in a folder.
fn ends(folder: &Path) -> Ends {
    Ends::Unix { local: folder.join("own").into(), remote: folder.join("peer").into() }
}

#[test]
fn a_folder_that_takes_the_peers_place_gets_nothing() {
    let folder = std::env::temp_dir().join(format!("relay-pin-{}", std::process::id()));
    let (named, moved) = (folder.join("named"), folder.join("moved"));
    std::fs::create_dir_all(&named).unwrap();
    let host = ends(&named).open().unwrap();
    std::fs::rename(&named, &moved).unwrap();
    std::fs::create_dir(&named).unwrap();
    let stranger = UnixDatagram::bind(named.join("peer")).unwrap();
    let peer = UnixDatagram::bind(moved.join("peer")).unwrap();
    let (guest, relays) = UnixDatagram::pair().unwrap();
    let relays = OwnedFd::from(relays);
    guest.send(b"frame").unwrap();
    Link::new(relays.as_fd(), &host).carry();
    let mut buffer = [0; 8];
    for socket in [&stranger, &peer] {
        socket.set_nonblocking(true).unwrap();
    }
    assert_eq!(peer.recv(&mut buffer).unwrap(), 5);
    assert_eq!(stranger.recv(&mut buffer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_folder_that_comes_later_is_found() {
    let folder = std::env::temp_dir().join(format!("relay-later-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let later = folder.join("later");
    let host = Ends::Unix { local: folder.join("own").into(), remote: later.join("peer").into() }.open().unwrap();
    std::fs::create_dir(&later).unwrap();
    let peer = UnixDatagram::bind(later.join("peer")).unwrap();
    let (guest, relays) = UnixDatagram::pair().unwrap();
    let relays = OwnedFd::from(relays);
    guest.send(b"frame").unwrap();
    Link::new(relays.as_fd(), &host).carry();
    peer.set_nonblocking(true).unwrap();
    assert_eq!(peer.recv(&mut [0; 8]).unwrap(), 5);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_unix_socket_whose_queue_is_full_is_tried_again() {
    let folder = std::env::temp_dir().join(format!("relay-test-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("peer");
    let (guest, relays) = UnixDatagram::pair().unwrap();
    let relays = OwnedFd::from(relays);
    let host = ends(&folder).open().unwrap();
    let mut link = Link::new(relays.as_fd(), &host);
    // Nobody is there yet.
    guest.send(b"lost").unwrap();
    link.carry();
    assert!(!link.tries_again());
    let peer = UnixDatagram::bind(&path).unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut sent = 0_u32;
    while !link.tries_again() {
        guest.send(&sent.to_be_bytes()).unwrap();
        sent += 1;
        link.carry();
    }
    assert_eq!(link.events(), [PollFlags::empty(), PollFlags::IN]);
    let mut taken = 0;
    let mut number = [0; 4];
    while peer.recv(&mut number).is_ok() {
        assert_eq!(u32::from_be_bytes(number), taken);
        taken += 1;
        link.carry();
    }
    assert_eq!(taken, sent);
    std::fs::remove_dir_all(&folder).unwrap();
}
