//! What a hostile peer can say out of turn: wrong greetings, ids, counts, and replies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not the functions beside them"
)]

mod common;

use std::os::fd::AsFd;

use common::{
    SCM_MAX_FD, bytes_of, pair, raw_client, raw_server, samples, send_bytes, send_raw, status, unlink, violation,
};
use protocol::{
    Answer, ClientHandshake, Errno, Error, MAX_IN_FLIGHT, Outcome, Reply, Request, RequestId, ServerHandshake, Success,
    Violation, Welcome,
};

fn request(id: u32) -> Vec<u8> {
    bytes_of(&Request { id: RequestId(id), body: unlink("/a") })
}

#[test]
fn greetings_that_are_none() {
    let refused = |bytes: &[u8], descriptors: usize| {
        let (client, server) = pair();
        send_raw(&client, bytes, client.as_fd(), descriptors);
        violation(ServerHandshake::new(server).unwrap().try_accept())
    };
    assert_eq!(refused(b"BRKR\x01", 0), Violation::Version { theirs: 1 });
    assert_eq!(refused(b"BRKR\x04 and more", 0), Violation::Version { theirs: 4 });
    assert_eq!(refused(b"BRKR\x03\x00", 0), Violation::TrailingBytes { count: 1 });
    assert_eq!(refused(&request(1), 0), Violation::NotThisProtocol);
    let found = 1;
    assert_eq!(refused(b"BRKR\x03", found), Violation::Descriptors { expected: 0, found });
}

#[test]
fn a_second_hello_is_no_request() {
    let (client, mut server) = raw_client();
    send_bytes(&client, b"BRKR\x03");
    assert_eq!(violation(server.try_recv()), Violation::BadValue);
}

#[test]
fn an_id_used_again() {
    let (client, mut server) = raw_client();
    send_bytes(&client, &request(5));
    send_bytes(&client, &request(5));
    assert!(server.try_recv().unwrap().is_some());
    assert_eq!(violation(server.try_recv()), Violation::ReusedId(RequestId(5)));
    assert!(matches!(server.reply(RequestId(5), Answer::Done), Err(Error::Poisoned)));

    // Once it is answered, an id is free.
    let (client, mut server) = raw_client();
    for _ in 0..2 {
        send_bytes(&client, &request(5));
        let (id, _) = server.try_recv().unwrap().unwrap();
        server.reply(id, Answer::Done).unwrap();
    }
}

#[test]
fn one_request_too_many() {
    let (client, mut server) = raw_client();
    for id in 0..=u32::try_from(MAX_IN_FLIGHT).unwrap() {
        send_bytes(&client, &request(id));
    }
    for _ in 0..MAX_IN_FLIGHT {
        assert!(server.try_recv().unwrap().is_some());
    }
    assert_eq!(server.in_flight(), MAX_IN_FLIGHT);
    assert_eq!(violation(server.try_recv()), Violation::TooManyInFlight);
}

#[test]
fn a_client_that_never_reads() {
    let (client, mut server) = raw_client();
    let seen = (0..1_000_000).find_map(|id| {
        send_bytes(&client, &request(id));
        let (id, _) = server.try_recv().unwrap().unwrap();
        server.reply(id, Answer::Done).err()
    });
    assert_eq!(violation(Err::<(), _>(seen.unwrap())), Violation::RepliesUnread);
    assert!(matches!(server.try_recv(), Err(Error::Poisoned)));
}

/// The violation that a client with request 1 (an unlink) in flight sees in one packet.
#[track_caller]
fn client_sees(reply: &Reply, descriptors: usize) -> Violation {
    let (server, mut client) = raw_server();
    assert_eq!(client.request(&unlink("/a")).unwrap(), RequestId(1));
    send_raw(&server, &bytes_of(reply), server.as_fd(), descriptors);
    let seen = violation(client.try_recv());
    assert!(matches!(client.request(&unlink("/a")), Err(Error::Poisoned)));
    seen
}

#[test]
fn replies_that_cannot_be() {
    let reply = |id, outcome| Reply { id: RequestId(id), outcome };
    let stray = client_sees(&reply(2, Outcome::Done), 0);
    assert_eq!(stray, Violation::UnknownReply(RequestId(2)));
    let wrong = client_sees(&reply(1, Outcome::Descriptor), 1);
    assert_eq!(wrong, Violation::WrongReply(RequestId(1)));
    for found in [0, 2] {
        let counted = client_sees(&reply(1, Outcome::Descriptor), found);
        assert_eq!(counted, Violation::Descriptors { expected: 1, found });
    }
    let surplus = client_sees(&reply(1, Outcome::Done), 1);
    assert_eq!(surplus, Violation::Descriptors { expected: 0, found: 1 });
}

#[test]
fn descriptors_come_with_grants_only() {
    let reply = |outcome| Reply { id: RequestId(1), outcome };
    for outcome in [Outcome::Done, Outcome::Errno(Errno::IO), Outcome::Status(status())] {
        for found in [1, 2, 4] {
            let seen = client_sees(&reply(outcome), found);
            assert_eq!(seen, Violation::Descriptors { expected: 0, found }, "{outcome:?}");
        }
        assert_eq!(client_sees(&reply(outcome), SCM_MAX_FD), Violation::DescriptorsLost, "{outcome:?}");
    }
}

/// For each kind of request, each success that is not its own, and its own.
#[test]
fn the_wrong_kind_of_success() {
    let (file, _) = pair();
    let successes = [
        (Success::Descriptor, Outcome::Descriptor),
        (Success::Done, Outcome::Done),
        (Success::Status, Outcome::Status(status())),
        (Success::Connection, Outcome::Connecting),
    ];
    for (name, Request { body, .. }) in samples::requests() {
        for (success, outcome) in successes {
            let (server, mut client) = raw_server();
            let id = client.request(&body).unwrap();
            let count = usize::from(matches!(outcome, Outcome::Descriptor | Outcome::Connecting));
            send_raw(&server, &bytes_of(&Reply { id, outcome }), file.as_fd(), count);
            // A connection that is there at once is a descriptor.
            let at_once = (success, body.success()) == (Success::Descriptor, Success::Connection);
            if success == body.success() || at_once {
                assert_eq!(client.try_recv().unwrap().map(|(id, _)| id), Some(id), "{name}");
                assert_eq!(client.in_flight(), 0);
            } else {
                assert_eq!(violation(client.try_recv()), Violation::WrongReply(id), "{name}: {outcome:?}");
                assert!(matches!(client.request(&body), Err(Error::Poisoned)));
            }
        }
    }
}

#[test]
fn a_welcome_that_allows_nothing() {
    let (client, server) = pair();
    let client = ClientHandshake::start(client).unwrap();
    send_bytes(&server, &bytes_of(&Welcome { max_in_flight: 0, ..Welcome::default() }));
    assert_eq!(violation(client.try_finish()), Violation::NothingAllowed);
}
