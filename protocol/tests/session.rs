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

use common::{bytes_of, open, pair, samples, sessions, status, unlink, violation};
use protocol::{
    Answer, Channel, ClientHandshake, Errno, Error, Hello, Outcome, Reply, ReplyOutcome, Request, RequestId,
    ServerHandshake, SocketMode, Step, Success, Violation, Welcome,
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

/// For each kind of request: the successes that are not its own are refused and change nothing, its own arrives once.
#[test]
fn an_answer_must_fit_its_request() {
    let (own, _) = pair();
    let answer = |success| match success {
        Success::Descriptor => Answer::Descriptor(own.as_fd()),
        Success::Done => Answer::Done,
        Success::Status => Answer::Status(status()),
        Success::Connection => Answer::Connecting(own.as_fd()),
    };
    for (name, Request { body, .. }) in samples::requests() {
        let (mut client, mut server) = sessions(SocketMode::NonBlocking);
        let id = client.request(&body).unwrap();
        assert_eq!(server.recv().unwrap(), (id, body.clone()), "{name}");
        for other in [Success::Descriptor, Success::Done, Success::Status, Success::Connection] {
            // A connection that is there at once is a descriptor.
            let at_once = (other, body.success()) == (Success::Descriptor, Success::Connection);
            if other != body.success() && !at_once {
                assert!(matches!(server.reply(id, answer(other)), Err(Error::WrongAnswer(_))), "{name}: {other:?}");
            }
        }
        assert_eq!(server.in_flight(), 1);
        server.reply(id, answer(body.success())).unwrap();
        assert!(matches!(server.reply(id, answer(body.success())), Err(Error::NotInFlight(_))), "{name}");
        let (answered, outcome) = client.recv().unwrap();
        let arrived = match outcome {
            ReplyOutcome::Descriptor(_) => Success::Descriptor,
            ReplyOutcome::Connecting(_) => Success::Connection,
            ReplyOutcome::Done => Success::Done,
            ReplyOutcome::Status(arrived) => {
                assert_eq!(arrived, status());
                Success::Status
            }
            ReplyOutcome::Errno(errno) => panic!("{name}: {errno:?}"),
        };
        assert_eq!((answered, arrived), (id, body.success()), "{name}");
    }
}

#[test]
fn a_connection_may_be_there_at_once() {
    let (own, _) = pair();
    let connects = |request: &Request| request.body.success() == Success::Connection;
    let requests: Vec<_> = samples::requests().into_iter().filter(|(_, request)| connects(request)).collect();
    assert!(!requests.is_empty());
    for (name, Request { body, .. }) in requests {
        let (mut client, mut server) = sessions(SocketMode::NonBlocking);
        let id = client.request(&body).unwrap();
        server.recv().unwrap();
        server.reply(id, Answer::Descriptor(own.as_fd())).unwrap();
        let (answered, outcome) = client.recv().unwrap();
        assert!(answered == id && matches!(outcome, ReplyOutcome::Descriptor(_)), "{name}: {outcome:?}");
    }
}

#[test]
fn every_kind_of_request_can_be_refused() {
    for (name, Request { body, .. }) in samples::requests() {
        let (mut client, mut server) = sessions(SocketMode::NonBlocking);
        let id = client.request(&body).unwrap();
        server.recv().unwrap();
        server.reply(id, Answer::Errno(Errno::ACCES)).unwrap();
        let (answered, outcome) = client.recv().unwrap();
        assert_eq!(answered, id, "{name}");
        assert!(matches!(outcome, ReplyOutcome::Errno(Errno::ACCES)), "{name}: {outcome:?}");
    }
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
    raw.try_send(&Hello { version: 1, ..Hello::default() }, None).unwrap();
    let accepted = ServerHandshake::new(server).unwrap().accept();
    assert_eq!(violation(accepted), Violation::Version { theirs: 1 });
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
