//! What the integration tests share: packets as a hostile peer would send them.

// Each test program uses its own part of this file.
#![allow(dead_code)]

pub mod fake_broker;
pub mod samples;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use protocol::codec::encode;
use protocol::{
    AccessMode, ClientHandshake, ClientSession, Error, MAX_MESSAGE, Message, Name, OpenBits, OpenFlags, RequestBody,
    ServerHandshake, ServerSession, SocketMode, Status, Step, Violation, socketpair,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Most descriptors that Linux takes in one packet: `SCM_MAX_FD` (`include/net/scm.h`).
pub const SCM_MAX_FD: usize = 253;

/// A connected pair: the hostile or honest peer's bare socket, and the socket under test.
pub fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(SocketMode::NonBlocking).unwrap()
}

/// Sends `bytes` as one packet together with `count` duplicates of `descriptor`.
pub fn send_raw(socket: impl AsFd, bytes: &[u8], descriptor: BorrowedFd<'_>, count: usize) {
    let descriptors = vec![descriptor; count];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if count > 0 {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let iov = [IoSlice::new(bytes)];
    let sent = sendmsg(socket, &iov, &mut control, SendFlags::NOSIGNAL).unwrap();
    assert_eq!(sent, bytes.len());
}

/// Sends `bytes` as one packet.
pub fn send_bytes(socket: impl AsFd, bytes: &[u8]) {
    let socket = socket.as_fd();
    send_raw(socket, bytes, socket, 0);
}

/// The bytes of `message`.
pub fn bytes_of(message: &impl Message) -> Vec<u8> {
    encode(message, &mut [0; MAX_MESSAGE]).unwrap().to_vec()
}

/// A harmless request.
pub fn unlink(name: &str) -> RequestBody {
    RequestBody::Unlink { name: Name::new(name.as_bytes()).unwrap() }
}

/// A request for a descriptor.
pub fn open(name: &[u8]) -> RequestBody {
    let flags = OpenFlags::new(AccessMode::ReadWrite, OpenBits::CLOEXEC);
    RequestBody::Open { name: Name::new(name).unwrap(), flags }
}

/// A welcomed client's bare socket, and the session that the broker has with it.
pub fn raw_client() -> (OwnedFd, ServerSession) {
    let (client, server) = pair();
    let server = ServerHandshake::new(server).unwrap();
    send_bytes(&client, &bytes_of(&protocol::Hello::default()));
    (client, server.accept().unwrap())
}

/// A broker's bare socket, and the session of a client that it has welcomed.
pub fn raw_server() -> (OwnedFd, ClientSession) {
    let (client, server) = pair();
    let client = ClientHandshake::start(client).unwrap();
    send_bytes(&server, &bytes_of(&protocol::Welcome::default()));
    (server, client.finish().unwrap())
}

/// Both sides of an honest session over sockets of the given mode.
pub fn sessions(mode: SocketMode) -> (ClientSession, ServerSession) {
    let (client, server) = socketpair(mode).unwrap();
    let client = ClientHandshake::start(client).unwrap();
    let Step::Ready(server) = ServerHandshake::new(server).unwrap().try_accept().unwrap() else {
        panic!("the hello was sent");
    };
    let Step::Ready(client) = client.try_finish().unwrap() else {
        panic!("the welcome was sent");
    };
    (client, server)
}

/// A status in which every field has a number of its own.
pub fn status() -> Status {
    Status {
        grants: 3,
        commits: 1,
        files_created: 2,
        files_allowed: 32,
        bytes_created: 393_216,
        bytes_allowed: 1 << 40,
    }
}

/// The violation that `result` is.
#[track_caller]
pub fn violation<T: std::fmt::Debug>(result: Result<T, Error>) -> Violation {
    match result {
        Err(Error::Violation(violation)) => violation,
        other => panic!("not a violation: {other:?}"),
    }
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> usize {
    // The directory's own descriptor is counted each time, so differences are right.
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
