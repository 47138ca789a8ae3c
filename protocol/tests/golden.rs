//! The wire form does not change by accident: the bytes of every message are kept in `golden/`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not the functions beside them"
)]

mod common;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use common::{bytes_of, samples};
use protocol::codec::decode;
use protocol::{Message, Outcome, RequestBody};

fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The hex line of a golden file, with its spaces.
fn golden_line(name: &str) -> String {
    let path = manifest_dir().join(format!("tests/golden/{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = lines.next().expect("a line of hex").to_owned();
    assert_eq!(lines.next(), None, "{path:?} has one line of hex");
    line
}

fn golden_bytes(name: &str) -> Vec<u8> {
    let line = golden_line(name);
    let byte = |pair| u8::from_str_radix(pair, 16).unwrap();
    line.split_whitespace().map(byte).collect()
}

fn check<M: Message + PartialEq + Debug>(name: &str, message: &M) {
    let bytes = golden_bytes(name);
    assert_eq!(bytes_of(message), bytes, "{name} is sent in another way than before");
    assert_eq!(&decode::<M>(&bytes).unwrap(), message, "{name}");
}

#[test]
fn every_message_has_the_bytes_it_always_had() {
    let (hello, welcome) = samples::greetings();
    check("hello", &hello);
    check("welcome", &welcome);
    samples::requests().iter().for_each(|(name, request)| check(name, request));
    samples::replies().iter().for_each(|(name, reply)| check(name, reply));
}

/// A new kind of message does not compile here until it has a number, and fails until it has a
/// sample with golden bytes.
#[test]
fn every_kind_of_message_has_a_sample() {
    let kind = |body: &RequestBody| match body {
        RequestBody::Open { .. } => 0,
        RequestBody::Unlink { .. } => 1,
        RequestBody::Refused(_) => 2,
        RequestBody::Create { .. } => 3,
        RequestBody::CommitBegin { .. } => 4,
        RequestBody::CommitEnd { .. } => 5,
        RequestBody::ChangeMedium { .. } => 6,
        RequestBody::Status => 7,
        RequestBody::Resolve { .. } => 8,
        RequestBody::Bind { .. } => 9,
        RequestBody::Connect { .. } => 10,
    };
    let requests: BTreeSet<_> = samples::requests().iter().map(|(_, r)| kind(&r.body)).collect();
    assert!(requests.into_iter().eq(0..11));
    let kind = |outcome: &Outcome| match outcome {
        Outcome::Descriptor => 0,
        Outcome::Done => 1,
        Outcome::Errno(_) => 2,
        Outcome::Status(_) => 3,
        Outcome::Connecting => 4,
    };
    let replies: BTreeSet<_> = samples::replies().iter().map(|(_, r)| kind(&r.outcome)).collect();
    assert!(replies.into_iter().eq(0..5));
}

/// A golden file that no sample has any more would go on to vouch for bytes that nobody sends.
#[test]
fn every_golden_file_belongs_to_a_sample() {
    let mut samples = BTreeSet::from(["hello", "welcome"]);
    samples.extend(samples::requests().iter().map(|(name, _)| *name));
    samples.extend(samples::replies().iter().map(|(name, _)| *name));
    let files = std::fs::read_dir(manifest_dir().join("tests/golden")).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let names: BTreeSet<_> = files.iter().map(|file| file.strip_suffix(".hex").unwrap()).collect();
    assert_eq!(names, samples);
}

#[test]
fn the_documentation_shows_exactly_these_bytes() {
    let page = std::fs::read_to_string(manifest_dir().join("../docs/protocol.md")).unwrap();
    for entry in std::fs::read_dir(manifest_dir().join("tests/golden")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let line = golden_line(name);
        assert!(page.contains(&line), "docs/protocol.md does not show {name}: {line}");
    }
}
