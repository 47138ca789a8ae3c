//! No packet, however bogus, leaves a descriptor behind. Alone in its program, because it lowers
//! the limit of the whole process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not the functions beside them"
)]

mod common;

use std::os::fd::AsFd;

use common::{
    SCM_MAX_FD, bytes_of, open, open_descriptors, pair, raw_client, raw_server, send_raw, sessions, status, unlink,
};
use protocol::{
    Answer, ClientHandshake, Error, Outcome, Reply, ReplyOutcome, Request, RequestBody, RequestId, ServerHandshake,
    SocketMode, Violation,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beyond those open at start: enough for one session, its room for received
/// descriptors and one to send, not for anything that stays behind.
const SPARE: u64 = 12;

const ROUNDS: usize = 500;

fn exchange() -> Result<(), Error> {
    let (mut client, mut server) = sessions(SocketMode::NonBlocking);
    let (file, _) = pair();
    let id = client.request(&open(b"/a"))?;
    server.recv()?;
    server.reply(id, Answer::Descriptor(file.as_fd()))?;
    let (_, outcome) = client.recv()?;
    assert!(matches!(outcome, ReplyOutcome::Descriptor(_)), "{outcome:?}");
    Ok(())
}

/// Bogus packets to a broker that has welcomed the client, and one left unread in the queue.
fn flood_session(bytes: &[u8], count: usize) {
    let (client, mut server) = raw_client();
    send_raw(&client, bytes, client.as_fd(), count);
    send_raw(&client, bytes, client.as_fd(), count);
    assert!(matches!(server.try_recv(), Err(Error::Violation(_))));
    assert!(matches!(server.try_recv(), Err(Error::Poisoned)));
}

/// The same to both sides of a handshake.
fn flood_handshakes(bytes: &[u8], count: usize) {
    let (client, server) = pair();
    send_raw(&client, bytes, client.as_fd(), count);
    let accepted = ServerHandshake::new(server).unwrap().try_accept();
    assert!(matches!(accepted, Err(Error::Violation(_))));
    let (client, server) = pair();
    let client = ClientHandshake::start(client).unwrap();
    send_raw(&server, bytes, server.as_fd(), count);
    assert!(matches!(client.try_finish(), Err(Error::Violation(_))));
}

/// Bogus replies to a client that waits for one.
fn flood_client(bytes: &[u8], count: usize) {
    let (server, mut client) = raw_server();
    client.request(&RequestBody::Status).unwrap();
    send_raw(&server, bytes, server.as_fd(), count);
    assert!(matches!(client.try_recv(), Err(Error::Violation(_))));
    assert!(matches!(client.try_recv(), Err(Error::Poisoned)));
}

/// A grant that arrives while the client's table is full is a loss that shows.
fn grant_into_a_full_table() {
    let (mut client, mut server) = sessions(SocketMode::NonBlocking);
    let (file, _) = pair();
    let id = client.request(&open(b"/a")).unwrap();
    server.recv().unwrap();
    server.reply(id, Answer::Descriptor(file.as_fd())).unwrap();
    let mut filling = Vec::new();
    while let Ok(copy) = rustix::io::dup(&file) {
        filling.push(copy);
    }
    let lost = client.recv();
    assert!(matches!(lost, Err(Error::Violation(Violation::DescriptorsLost))), "{lost:?}");
}

#[test]
fn a_flood_of_bogus_descriptors_leaves_nothing_behind() {
    let before = open_descriptors();
    let current = u64::try_from(before).unwrap() + SPARE;
    let limit = Rlimit { current: Some(current), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let request = bytes_of(&Request { id: RequestId(1), body: unlink("/a") });
    let status = Reply { id: RequestId(1), outcome: Outcome::Status(status()) };
    let status = bytes_of(&status);
    let packets: [&[u8]; 5] = [&status, &request, b"\xff\xff\xff\xff\xff\xff", &[0; 100_000], b""];
    for round in 0..ROUNDS {
        for bytes in packets {
            for count in [1, 2, 5, SCM_MAX_FD] {
                flood_session(bytes, count);
                flood_handshakes(bytes, count);
                flood_client(bytes, count);
            }
        }
        assert_eq!(open_descriptors(), before, "round {round}");
    }
    grant_into_a_full_table();
    exchange().unwrap();
    assert_eq!(open_descriptors(), before);
}
