//! Sockets that are full, left by their peer, or not sockets at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not the functions beside them"
)]

mod common;

use std::os::fd::{AsFd, OwnedFd};

use common::{open, pair, raw_client, sessions, unlink};
use protocol::{
    Answer, Channel, Errno, Error, MAX_IN_FLIGHT, MAX_NAME, Outcome, Reply, ReplyOutcome, RequestId, SocketMode,
};

/// The reason why the broker may take a full socket for a violation.
#[test]
fn a_full_house_of_unread_grants_fits_the_socket() {
    let (mut client, mut server) = sessions(SocketMode::NonBlocking);
    for _ in 0..MAX_IN_FLIGHT {
        let id = client.request(&open(b"/disk")).unwrap();
        assert_eq!(server.recv().unwrap().0, id);
        let own = rustix::io::dup(server.as_fd()).unwrap();
        server.reply(id, Answer::Descriptor(own.as_fd())).unwrap();
    }
    assert!(matches!(client.request(&unlink("/a")), Err(Error::TooManyInFlight)));
    for _ in 0..MAX_IN_FLIGHT {
        assert!(matches!(client.recv().unwrap().1, ReplyOutcome::Descriptor(_)));
    }
    client.request(&unlink("/a")).unwrap();
}

#[test]
fn a_full_socket_sends_nothing_and_loses_nothing() {
    let (mut client, mut server) = sessions(SocketMode::NonBlocking);
    let longest = open(&[b'x'; MAX_NAME]);
    let mut sent = Vec::new();
    let stopped = loop {
        match client.request(&longest) {
            Ok(id) => sent.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(stopped, Error::Full | Error::TooManyInFlight), "{stopped}");
    assert_eq!(client.in_flight(), sent.len());
    for id in sent {
        assert_eq!(server.recv().unwrap(), (id, longest.clone()));
        server.reply(id, Answer::Errno(Errno::IO)).unwrap();
    }
    client.request(&longest).unwrap();
    assert_eq!(server.recv().unwrap().1, longest);
}

#[test]
fn a_blocking_send_waits_for_the_reader() {
    let (sender, receiver) = pair();
    let mut sender = Channel::new(sender).unwrap();
    let mut receiver = Channel::new(receiver).unwrap();
    let reply = Reply { id: RequestId(1), outcome: Outcome::Done };
    let mut queued = 0_usize;
    while sender.try_send(&reply, None).is_ok() {
        queued += 1;
    }
    assert!(matches!(sender.try_send(&reply, None), Err(Error::Full)));
    let reading = std::thread::spawn(move || (0..=queued).map(|_| receiver.recv::<Reply>().unwrap()).count());
    sender.send(&reply, None).unwrap();
    assert_eq!(reading.join().unwrap(), queued + 1);
}

#[test]
fn a_peer_that_left_is_closed_not_a_violation() {
    let (mut client, server) = sessions(SocketMode::NonBlocking);
    drop(server);
    assert!(matches!(client.request(&unlink("/a")), Err(Error::Closed)));
    for _ in 0..2 {
        assert!(matches!(client.recv(), Err(Error::Closed)));
    }
}

/// The kernel reports unread packets of ours as `ECONNRESET` before it gives what the peer sent.
#[test]
fn the_last_words_of_a_peer_that_left_are_heard() {
    let (mut client, mut server) = sessions(SocketMode::NonBlocking);
    let first = client.request(&unlink("/a")).unwrap();
    server.recv().unwrap();
    server.reply(first, Answer::Done).unwrap();
    client.request(&unlink("/last")).unwrap();
    drop(client);
    assert_eq!(server.recv().unwrap().1, unlink("/last"));
    assert!(matches!(server.recv(), Err(Error::Closed)));
}

#[test]
fn only_seqpacket_sockets_are_taken() {
    let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(Channel::new(stream.into()), Err(Error::NotSeqpacket)));
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    assert!(matches!(Channel::new(file), Err(Error::NotSeqpacket)));
}

#[test]
fn sessions_can_be_polled() {
    let (client, server) = raw_client();
    let readable = |fd: &dyn AsFd| {
        let fd = fd.as_fd();
        let mut set = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut set, Some(&now)).unwrap() == 1
    };
    assert!(!readable(&server));
    common::send_bytes(&client, b"x");
    assert!(readable(&server));
}
