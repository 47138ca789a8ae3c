//! Honest sessions over real sockets: handshake, requests, replies, descriptors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not the functions beside them"
)]

mod common;

use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;

use common::{bytes_of, open, pair, sessions, unlink, violation};
use protocol::{
    Answer, Channel, ClientHandshake, Errno, Error, Hello, Outcome, Reply, ReplyOutcome, RequestId, ServerHandshake,
    SocketMode, Step, Violation, Welcome,
};

#[test]
fn a_granted_descriptor_is_the_file_and_closes_on_exec() {
    for mode in [SocketMode::Blocking, SocketMode::NonBlocking] {
        let (mut client, mut server) = sessions(mode);
        let id = client.request(&open(b"/disk")).unwrap();
        let (asked, body) = server.recv().unwrap();
        assert_eq!((asked, body), (id, open(b"/disk")));
        let mut file = std::fs::File::from(rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        file.write_all(b"contents").unwrap();
        server.reply(id, Answer::Descriptor(file.as_fd())).unwrap();
        let (answered, outcome) = client.recv().unwrap();
        assert_eq!(answered, id);
        let ReplyOutcome::Descriptor(granted) = outcome else { panic!("{outcome:?}") };
        let flags = rustix::io::fcntl_getfd(&granted).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let mut granted = std::fs::File::from(granted);
        granted.rewind().unwrap();
        let mut text = String::new();
        granted.read_to_string(&mut text).unwrap();
        assert_eq!(text, "contents");
        assert_eq!((client.in_flight(), server.in_flight()), (0, 0));
    }
}

#[test]
fn nothing_waiting_is_none_whatever_the_mode() {
    for mode in [SocketMode::Blocking, SocketMode::NonBlocking] {
        let (mut client, mut server) = sessions(mode);
        assert!(server.try_recv().unwrap().is_none());
        assert!(client.try_recv().unwrap().is_none());
    }
}

#[test]
fn a_handshake_waits_for_its_peer() {
    let (client, server) = pair();
    let Step::Waiting(server) = ServerHandshake::new(server).unwrap().try_accept().unwrap() else {
        panic!("accepted without a hello");
    };
    let client = ClientHandshake::start(client).unwrap();
    let Step::Waiting(client) = client.try_finish().unwrap() else {
        panic!("finished without a welcome");
    };
    let serving = std::thread::spawn(|| server.accept());
    client.finish().unwrap();
    serving.join().unwrap().unwrap();
}

#[test]
fn replies_may_come_in_any_order() {
    let (mut client, mut server) = sessions(SocketMode::NonBlocking);
    let ids: Vec<_> = (0..3).map(|_| client.request(&unlink("/a")).unwrap()).collect();
    for _ in &ids {
        server.recv().unwrap();
    }
    for id in ids.iter().rev() {
        server.reply(*id, Answer::Errno(Errno::ACCES)).unwrap();
    }
    for id in ids.iter().rev() {
        let (answered, outcome) = client.recv().unwrap();
        assert_eq!(answered, *id);
        assert!(matches!(outcome, ReplyOutcome::Errno(Errno::ACCES)));
    }
}

#[test]
fn an_answer_must_fit_its_request() {
    let (mut client, mut server) = sessions(SocketMode::NonBlocking);
    let opening = client.request(&open(b"/disk")).unwrap();
    let removing = client.request(&unlink("/a")).unwrap();
    server.recv().unwrap();
    server.recv().unwrap();
    let (own, _) = pair();
    let grant = Answer::Descriptor(own.as_fd());
    assert!(matches!(server.reply(removing, grant), Err(Error::WrongAnswer(_))));
    assert!(matches!(server.reply(opening, Answer::Done), Err(Error::WrongAnswer(_))));
    server.reply(removing, Answer::Done).unwrap();
    assert!(matches!(server.reply(removing, Answer::Done), Err(Error::NotInFlight(_))));
    server.reply(opening, Answer::Errno(Errno::ACCES)).unwrap();
    assert_eq!(client.recv().unwrap().0, removing);
    assert_eq!(client.recv().unwrap().0, opening);
}

#[test]
fn a_descriptor_leaves_only_with_a_grant() {
    let (socket, _peer) = pair();
    let (own, _) = pair();
    let mut channel = Channel::new(socket).unwrap();
    let grant = Reply { id: RequestId(1), outcome: Outcome::Descriptor };
    let done = Reply { id: RequestId(1), outcome: Outcome::Done };
    assert!(matches!(channel.try_send(&grant, None), Err(Error::DescriptorMismatch)));
    let surplus = channel.try_send(&done, Some(own.as_fd()));
    assert!(matches!(surplus, Err(Error::DescriptorMismatch)));
}

#[test]
fn a_client_of_another_version_sees_the_end() {
    let (client, server) = pair();
    let mut raw = Channel::new(client).unwrap();
    raw.try_send(&Hello { version: 2, ..Hello::default() }, None).unwrap();
    let accepted = ServerHandshake::new(server).unwrap().accept();
    assert_eq!(violation(accepted), Violation::Version { theirs: 2 });
    assert!(matches!(raw.recv::<Welcome>(), Err(Error::Closed)));
}

#[test]
fn a_client_keeps_to_a_lower_limit() {
    let (client, server) = pair();
    let client = ClientHandshake::start(client).unwrap();
    let welcome = Welcome { max_in_flight: 1, ..Welcome::default() };
    common::send_bytes(&server, &bytes_of(&welcome));
    let mut client = client.finish().unwrap();
    client.request(&unlink("/a")).unwrap();
    assert!(matches!(client.request(&unlink("/a")), Err(Error::TooManyInFlight)));
}
