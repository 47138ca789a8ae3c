use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use protocol::UnixName;
use rustix::net::{SocketFlags, socket_with};

use super::*;

fn v4() -> SocketAddress {
    SocketAddress::V4 { ip: [127, 0, 0, 1], port: 1 }
}

fn v6() -> SocketAddress {
    SocketAddress::V6 { ip: [0; 16], port: 1, scope: 0 }
}

fn unix() -> Result<SocketAddress, protocol::UnixNameError> {
    UnixName::new(*b"a").map(SocketAddress::Unix)
}

fn fresh(family: AddressFamily, kind: SocketType) -> Result<OwnedFd, rustix::io::Errno> {
    socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

#[test]
fn options_are_told_as_they_are() {
    let socket = fresh(AddressFamily::INET6, SocketType::STREAM).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    sockopt::set_ipv6_v6only(&socket, true).unwrap();
    let (found, state) = examine(socket.as_fd(), &v6()).unwrap();
    let kind = SocketKind::Stream;
    assert_eq!(found, Socket { kind, nonblocking: true, reuse_address: true, keep_alive: false, v6_only: true });
    assert_eq!(state, State::Fresh);
}

#[test]
fn the_family_must_be_the_addresss() {
    let inet = fresh(AddressFamily::INET, SocketType::STREAM).unwrap();
    let inet6 = fresh(AddressFamily::INET6, SocketType::STREAM).unwrap();
    let local = fresh(AddressFamily::UNIX, SocketType::STREAM).unwrap();
    assert_eq!(examine(inet.as_fd(), &v6()), Err(Errno::EAFNOSUPPORT));
    assert_eq!(examine(inet6.as_fd(), &v4()), Err(Errno::EAFNOSUPPORT));
    assert_eq!(examine(inet.as_fd(), &unix().unwrap()), Err(Errno::EAFNOSUPPORT));
    assert_eq!(examine(local.as_fd(), &v4()), Err(Errno::EINVAL));
    let packets = fresh(AddressFamily::UNIX, SocketType::SEQPACKET).unwrap();
    assert_eq!(examine(packets.as_fd(), &unix().unwrap()), Err(Errno::EPERM));
    let (file, _) = rustix::pipe::pipe().unwrap();
    assert_eq!(examine(file.as_fd(), &v4()), Err(Errno::ENOTSOCK));
}

#[test]
fn states_of_streams_are_told_apart() {
    let state = |socket: BorrowedFd<'_>, address: &SocketAddress| examine(socket, address).unwrap().1;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(state(listener.as_fd(), &v4()), State::Listening);
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(state(stream.as_fd(), &v4()), State::Connected);
    let bound = fresh(AddressFamily::INET, SocketType::STREAM).unwrap();
    rustix::net::bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    assert_eq!(state(bound.as_fd(), &v4()), State::Named);
    let (local, _peer) = UnixStream::pair().unwrap();
    assert_eq!(state(local.as_fd(), &unix().unwrap()), State::Connected);
    let local = fresh(AddressFamily::UNIX, SocketType::STREAM).unwrap();
    assert_eq!(state(local.as_fd(), &unix().unwrap()), State::Fresh);
}

#[test]
fn packets_go_on_after_a_pair_has_taken_the_place() {
    let (end, _other) = UnixDatagram::pair().unwrap();
    assert_eq!(examine(end.as_fd(), &v6()).unwrap().1, State::Packets);
    let real = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(examine(real.as_fd(), &v4()).unwrap().1, State::Packets);
    assert_eq!(examine(real.as_fd(), &v6()), Err(Errno::EAFNOSUPPORT));
}

#[test]
fn what_the_kernel_would_refuse_is_not_asked_for() {
    let kind = SocketKind::Stream;
    let socket = Socket { kind, nonblocking: true, reuse_address: true, keep_alive: false, v6_only: false };
    let first = |purpose, state| step(purpose, Turn::First, v4(), (socket, state));
    let again = |purpose, state| step(purpose, Turn::Again, v4(), (socket, state));
    let bind = Step::Ask(RequestBody::Bind { address: v4(), socket });
    let connect = Step::Ask(RequestBody::Connect { address: v4(), socket });
    for state in [State::Fresh, State::Packets] {
        assert_eq!((first(Purpose::Bind, state), first(Purpose::Connect, state)), (bind.clone(), connect.clone()));
        assert_eq!((again(Purpose::Bind, state), again(Purpose::Connect, state)), (bind.clone(), connect.clone()));
    }
    for state in [State::Named, State::Connected, State::Listening] {
        assert_eq!(first(Purpose::Bind, state), Step::Refuse(Errno::EINVAL));
    }
    assert_eq!(first(Purpose::Connect, State::Named), Step::Refuse(Errno::EALREADY));
    assert_eq!(first(Purpose::Connect, State::Connected), Step::Refuse(Errno::EISCONN));
    assert_eq!(again(Purpose::Bind, State::Named), Step::Done);
    assert_eq!(again(Purpose::Connect, State::Named), Step::Refuse(Errno::EINPROGRESS));
    assert_eq!(again(Purpose::Connect, State::Connected), Step::Done);
    assert_eq!(again(Purpose::Bind, State::Listening), Step::Refuse(Errno::EINVAL));
}
