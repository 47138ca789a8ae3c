//! Packets that a hostile client can send, over real sockets: each is named, and ends the session.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not the functions beside them"
)]

mod common;

use std::os::fd::AsFd;

use common::{SCM_MAX_FD, bytes_of, raw_client, samples, send_bytes, send_raw, unlink, violation};
use protocol::{Error, MAX_MESSAGE, MAX_NAME, Request, RequestId, Violation};
use rustix::net::{Shutdown, shutdown};

/// The violation that the broker sees in one packet of a welcomed client; the session must be
/// unusable after it, even for the valid request that follows.
#[track_caller]
fn broker_sees(bytes: &[u8], descriptors: usize) -> Violation {
    let (client, mut server) = raw_client();
    send_raw(&client, bytes, client.as_fd(), descriptors);
    send_bytes(&client, &request(1));
    let seen = violation(server.try_recv());
    assert!(matches!(server.try_recv(), Err(Error::Poisoned)));
    seen
}

fn request(id: u32) -> Vec<u8> {
    bytes_of(&Request { id: RequestId(id), body: unlink("/a") })
}

/// Request 1: unlink a name of `length` bytes, as a client without bounds of its own would send it.
fn unlink_of_length(length: usize) -> Vec<u8> {
    let mut bytes = vec![1, 1];
    let mut rest = length;
    while rest >= 0x80 {
        bytes.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

#[test]
fn descriptors_with_a_request() {
    for found in [1, 2, 3, 4] {
        for (name, request) in samples::requests() {
            let seen = broker_sees(&bytes_of(&request), found);
            assert_eq!(seen, Violation::Descriptors { expected: 0, found }, "{name}");
        }
    }
    for lost in [16, SCM_MAX_FD] {
        assert_eq!(broker_sees(&request(7), lost), Violation::DescriptorsLost);
    }
}

#[test]
fn packets_that_are_too_long() {
    assert_eq!(broker_sees(&[0; MAX_MESSAGE + 1], 0), Violation::Oversize);
    assert_eq!(broker_sees(&[0; 100_000], 0), Violation::Oversize);
    assert_eq!(broker_sees(&[0; 100_000], 1), Violation::Oversize);
    // The greatest packet is read, and found to be nonsense.
    let longest = [0xff; MAX_MESSAGE];
    assert!(matches!(broker_sees(&longest, 0), Violation::Malformed(_)));
}

#[test]
fn packets_that_are_too_short() {
    for (name, whole) in samples::requests() {
        let whole = bytes_of(&whole);
        for end in 1..whole.len() {
            assert!(matches!(broker_sees(&whole[..end], 0), Violation::Malformed(_)), "{name}: {end} bytes");
        }
    }
}

#[test]
fn packets_that_go_on() {
    let mut longer = request(1);
    longer.push(0);
    assert_eq!(broker_sees(&longer, 0), Violation::TrailingBytes { count: 1 });
    // Version 1 had a mode in an open.
    let open_with_mode = [1, 0, 1, b'a', 2, 0, 0];
    assert_eq!(broker_sees(&open_with_mode, 0), Violation::TrailingBytes { count: 1 });
    assert_eq!(broker_sees(&[1, 7, 0], 0), Violation::TrailingBytes { count: 1 }, "a status with a field");
}

#[test]
fn empty_packets() {
    assert_eq!(broker_sees(&[], 0), Violation::Empty);
    assert_eq!(broker_sees(&[], 1), Violation::Empty);
    assert_eq!(broker_sees(&[], SCM_MAX_FD), Violation::DescriptorsLost);
}

#[test]
fn an_empty_packet_of_a_peer_that_left_is_the_end() {
    let (client, mut server) = raw_client();
    send_bytes(&client, &[]);
    drop(client);
    assert!(matches!(server.try_recv(), Err(Error::Closed)));

    let (client, mut server) = raw_client();
    shutdown(&client, Shutdown::Write).unwrap();
    assert!(matches!(server.try_recv(), Err(Error::Closed)));

    // Descriptors are never part of an end.
    let (client, mut server) = raw_client();
    let file = std::fs::File::open("/dev/null").unwrap();
    send_raw(&client, &[], file.as_fd(), 1);
    drop(client);
    assert_eq!(violation(server.try_recv()), Violation::Empty);
}

#[test]
fn names_out_of_bounds() {
    for length in [0, MAX_NAME + 1, 5000] {
        assert_eq!(broker_sees(&unlink_of_length(length), 0), Violation::BadValue, "{length}");
    }
    assert_eq!(broker_sees(&[1, 1, 3, b'a', 0, b'b'], 0), Violation::BadValue);
    // A length far beyond the packet must not become an allocation.
    let claimed = [1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert!(matches!(broker_sees(&claimed, 0), Violation::Malformed(_)));

    let (client, mut server) = raw_client();
    send_bytes(&client, &unlink_of_length(MAX_NAME));
    assert!(server.try_recv().unwrap().is_some());
}

#[test]
fn values_out_of_bounds() {
    // An open, a create and a change of medium; only the create has a mode.
    for (kind, mode) in [(0, &[][..]), (3, &[0]), (6, &[])] {
        let asking = |access, bits: &[u8]| broker_sees(&[&[1, kind, 1, b'a', access], bits, mode].concat(), 0);
        assert_eq!(asking(3, &[0]), Violation::BadValue, "kind {kind}: access mode 3");
        assert_eq!(asking(0, &[1]), Violation::BadValue, "kind {kind}: bit 0");
        assert_eq!(asking(2, &[0x91, 0x40]), Violation::BadValue, "kind {kind}: bit 0 among others");
        assert_eq!(asking(0, &[0x80, 0x80, 1]), Violation::BadValue, "kind {kind}: bit 14");
        assert_eq!(asking(0, &[0x80, 0x80, 0x80, 0x80, 8]), Violation::BadValue, "kind {kind}: bit 31");
    }
    let mode_010000 = [1, 3, 1, b'a', 0, 0, 0x80, 0x20];
    assert_eq!(broker_sees(&mode_010000, 0), Violation::BadValue);
    assert_eq!(broker_sees(&[1, 11], 0), Violation::BadValue, "request kind 11");
    assert_eq!(broker_sees(&[1, 0xff, 0xff, 0xff, 0xff, 0xf], 0), Violation::BadValue, "the last request kind");
}

#[test]
fn sockets_out_of_bounds() {
    let socket = [0, 0, 0, 0, 0];
    for kind in [9, 10] {
        let asking = |address: &[u8], socket: &[u8]| broker_sees(&[&[1, kind], address, socket].concat(), 0);
        assert_eq!(asking(&[0, 0], &socket), Violation::BadValue, "kind {kind}: no name");
        assert_eq!(asking(&[0, 3, b'a', 0, b'b'], &socket), Violation::BadValue, "kind {kind}: a path with a NUL");
        let too_long = [&[0, 109][..], &[b'a'; 109]].concat();
        assert_eq!(asking(&too_long, &socket), Violation::BadValue, "kind {kind}: 109 bytes");
        assert_eq!(asking(&[3, 0], &socket), Violation::BadValue, "kind {kind}: family 3");
        let port_65536 = [1, 127, 0, 0, 1, 0x80, 0x80, 4];
        assert!(matches!(asking(&port_65536, &socket), Violation::BadValue | Violation::Malformed(_)), "kind {kind}");
        assert_eq!(asking(&[0, 1, b'a'], &[2, 0, 0, 0, 0]), Violation::BadValue, "kind {kind}: socket kind 2");
        for option in 1..5 {
            let mut socket = socket;
            socket[option] = 2;
            let seen = asking(&[0, 1, b'a'], &socket);
            assert!(
                matches!(seen, Violation::BadValue | Violation::Malformed(_)),
                "kind {kind}: option {option}: {seen}"
            );
        }
        assert_eq!(asking(&[0, 1, b'a'], &[0; 6]), Violation::TrailingBytes { count: 1 });

        // The longest name, and one of NULs alone, which is abstract.
        for name in [&[b'a'; 108][..], &[0; 108]] {
            let (client, mut server) = raw_client();
            send_bytes(&client, &[&[1, kind, 0, 108][..], name, &socket].concat());
            assert!(server.try_recv().unwrap().is_some());
        }
    }
}

#[test]
fn integers_not_in_their_shortest_form() {
    assert_eq!(broker_sees(&[0x81, 0, 1, 1, b'a'], 0), Violation::NotCanonical);
    assert_eq!(broker_sees(&[1, 1, 0x81, 0, b'a'], 0), Violation::NotCanonical);
}
