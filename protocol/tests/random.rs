//! Random and mutated packets: never a panic, and whatever is understood has exactly these bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not the functions beside them"
)]

mod common;

use std::fmt::Debug;
use std::os::fd::AsFd;

use common::{bytes_of, raw_client, samples, send_raw};
use protocol::codec::decode;
use protocol::{Error, Hello, MAX_MESSAGE, Message, Reply, Request, Welcome};

/// xorshift64 (Marsaglia, 2003): the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

fn try_as<M: Message + Debug>(bytes: &[u8]) -> bool {
    match decode::<M>(bytes) {
        Ok(message) => {
            assert_eq!(bytes_of(&message), bytes, "{message:?} has two encodings");
            true
        }
        Err(violation) => {
            assert!(!violation.to_string().is_empty());
            false
        }
    }
}

fn try_all(bytes: &[u8]) -> usize {
    let understood = [try_as::<Hello>, try_as::<Welcome>, try_as::<Request>, try_as::<Reply>];
    understood.iter().filter(|try_it| try_it(bytes)).count()
}

fn seeds() -> Vec<Vec<u8>> {
    let (hello, welcome) = samples::greetings();
    let requests = samples::requests();
    let replies = samples::replies();
    let mut seeds = vec![bytes_of(&hello), bytes_of(&welcome)];
    seeds.extend(requests.iter().map(|(_, request)| bytes_of(request)));
    seeds.extend(replies.iter().map(|(_, reply)| bytes_of(reply)));
    seeds
}

/// Changes, inserts, or removes a few bytes.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let byte = random.byte();
        match (random.below(3), bytes.get_mut(at)) {
            (0, Some(old)) => *old = byte,
            (1, Some(_)) => drop(bytes.remove(at)),
            _ => bytes.insert(at, byte),
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..200_000 {
        let length = random.below(40);
        try_all(&random.bytes(length));
    }
    for _ in 0..200 {
        let length = random.below(MAX_MESSAGE + 10);
        try_all(&random.bytes(length));
    }
}

#[test]
fn mutated_messages_never_panic_and_have_one_encoding() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let seeds = seeds();
    let understood: usize = (0..200_000)
        .map(|round| {
            let mut bytes = seeds[round % seeds.len()].clone();
            mutate(&mut random, &mut bytes);
            try_all(&bytes)
        })
        .sum();
    assert!(understood > 1000, "only {understood} mutations were messages: the test tests little");
}

#[test]
fn a_session_survives_random_packets_or_is_poisoned() {
    let mut random = Random(0xda94_2042_e4dd_58b5);
    let seeds = seeds();
    let (mut understood, mut refused) = (0, 0);
    for round in 0..5_000 {
        let (client, mut server) = raw_client();
        let mut bytes = seeds[round % seeds.len()].clone();
        if random.below(4) > 0 {
            mutate(&mut random, &mut bytes);
        }
        let descriptors = random.below(8).saturating_sub(5);
        send_raw(&client, &bytes, client.as_fd(), descriptors);
        match server.try_recv() {
            Ok(Some(_)) => {
                assert_eq!(descriptors, 0);
                understood += 1;
            }
            Err(Error::Violation(_)) => {
                assert!(matches!(server.try_recv(), Err(Error::Poisoned)));
                refused += 1;
            }
            other => panic!("{bytes:x?} with {descriptors} descriptors: {other:?}"),
        }
    }
    assert!(understood > 100 && refused > 100, "{understood} understood, {refused} refused");
}
