//! The blocking client: each method asks what it says, brings what was answered, and survives a refusal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not the functions beside them"
)]

mod common;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use common::fake_broker::FakeBroker;
use common::{bytes_of, pair, send_bytes, status};
use protocol::{
    AccessMode, Connection, ConnectionError, Errno, Error, FileMode, MAX_NAME, Name, NameError, OpenBits, OpenFlags,
    RequestBody, ServerHandshake, Violation, Welcome,
};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno as System;

const READ: OpenFlags = OpenFlags::new(AccessMode::Read, OpenBits::CLOEXEC);
const READ_WRITE: OpenFlags = OpenFlags::new(AccessMode::ReadWrite, OpenBits::CLOEXEC);

/// A connection to a broker of the test's own, the folder of its files, and what it was asked at the end.
fn connect(test: &str, commit_allowed: bool) -> (Connection, PathBuf, JoinHandle<Vec<RequestBody>>) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("connection").join(test);
    let (socket, serving) = FakeBroker::new(&folder, commit_allowed).serve();
    (Connection::new(socket).unwrap(), folder, serving)
}

/// The errno with which the broker refused.
#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, ConnectionError>) -> System {
    match result {
        Err(ConnectionError::Refused(errno)) => System::from_raw_os_error(errno.get().into()),
        other => panic!("not refused: {other:?}"),
    }
}

fn name(path: &Path) -> Name {
    Name::try_from(path).unwrap()
}

/// Access mode and `O_DIRECT` of an open file.
fn flags_of(descriptor: &OwnedFd) -> OFlags {
    fcntl_getfl(descriptor).unwrap() & (OFlags::RWMODE | OFlags::DIRECT)
}

#[test]
fn opens_are_file_descriptions_of_their_own() {
    let (mut broker, folder, serving) = connect("opens", false);
    let disk = folder.join("disk");
    let cached = broker.open(&disk, READ_WRITE).unwrap();
    let direct = broker.open(&disk, READ_WRITE.with(OpenBits::DIRECT)).unwrap();
    assert_eq!((flags_of(&cached), flags_of(&direct)), (OFlags::RDWR, OFlags::RDWR | OFlags::DIRECT));
    assert_eq!(fstat(&cached).unwrap().st_ino, fstat(&direct).unwrap().st_ino);
    drop(broker);
    let open = |flags| RequestBody::Open { name: name(&disk), flags };
    assert_eq!(serving.join().unwrap(), [open(READ_WRITE), open(READ_WRITE.with(OpenBits::DIRECT))]);
}

#[test]
fn a_new_file_is_created_once_and_unlinked() {
    let (mut broker, folder, serving) = connect("creates", false);
    let new = folder.join("new");
    let (exclusive, mode) = (READ_WRITE.with(OpenBits::EXCLUSIVE), FileMode::from_raw(0o600));
    let made = fstat(broker.create(&new, exclusive, mode).unwrap()).unwrap();
    assert_eq!(FileType::from_raw_mode(made.st_mode), FileType::RegularFile);
    assert_eq!(made.st_mode & 0o777, 0o600);
    assert_eq!(refusal(broker.create(&new, exclusive, mode)), System::EXIST);
    assert_eq!(fstat(broker.create(&new, READ_WRITE, mode).unwrap()).unwrap().st_ino, made.st_ino);
    broker.unlink(&new).unwrap();
    assert_eq!(refusal(broker.unlink(&new)), System::NOENT);
    drop(broker);
    let create = |flags| RequestBody::Create { name: name(&new), flags, mode };
    let unlink = RequestBody::Unlink { name: name(&new) };
    let asked = [create(exclusive), create(exclusive), create(READ_WRITE), unlink.clone(), unlink];
    assert_eq!(serving.join().unwrap(), asked);
}

#[test]
fn a_commit_has_a_beginning_and_an_end() {
    let (mut broker, folder, serving) = connect("commits", true);
    let base = folder.join("base");
    assert_eq!(refusal(broker.open(&base, READ_WRITE)), System::ACCESS);
    broker.commit_begin(&base).unwrap();
    assert_eq!(flags_of(&broker.open(&base, READ_WRITE).unwrap()), OFlags::RDWR);
    broker.commit_end(&base).unwrap();
    assert_eq!(refusal(broker.open(&base, READ_WRITE)), System::ACCESS);
    drop(broker);
    let asked = serving.join().unwrap();
    assert_eq!(asked[1], RequestBody::CommitBegin { name: name(&base) });
    assert_eq!(asked[3], RequestBody::CommitEnd { name: name(&base) });
    assert_eq!(asked.len(), 5);
}

#[test]
fn a_refusal_leaves_the_connection_as_it_was() {
    let (mut broker, folder, serving) = connect("refusals", false);
    assert_eq!(refusal(broker.commit_begin(folder.join("base"))), System::ACCESS);
    let medium = folder.join("medium");
    assert_eq!(refusal(broker.change_medium(&medium, READ_WRITE)), System::ACCESS);
    assert_eq!(refusal(broker.change_medium(folder.join("disk"), READ)), System::ACCESS);
    assert_eq!(flags_of(&broker.change_medium(&medium, READ).unwrap()), OFlags::RDONLY);
    assert_eq!(broker.status().unwrap(), status());
    drop(broker);
    assert_eq!(serving.join().unwrap().len(), 5);
}

#[test]
fn a_name_out_of_bounds_is_not_sent() {
    let (mut broker, _, serving) = connect("names", false);
    let too_long = "x".repeat(MAX_NAME + 1);
    for (name, expected) in [
        ("", NameError::Empty),
        ("a\0b", NameError::Nul { offset: 1 }),
        (&too_long, NameError::TooLong { length: 4096 }),
    ] {
        let refused = broker.open(name, READ);
        assert!(matches!(&refused, Err(ConnectionError::Name(error)) if *error == expected), "{refused:?}");
    }
    drop(broker);
    assert_eq!(serving.join().unwrap(), []);
}

#[test]
fn a_broker_that_goes_away_is_the_end() {
    let (client, server) = pair();
    let accepting = std::thread::spawn(|| ServerHandshake::new(server).unwrap().accept().unwrap());
    let mut broker = Connection::new(client).unwrap();
    drop(accepting.join().unwrap());
    for _ in 0..2 {
        let ended = broker.status();
        assert!(matches!(ended, Err(ConnectionError::Session(Error::Closed))), "{ended:?}");
    }
}

#[test]
fn a_broker_that_breaks_the_protocol_is_not_believed() {
    let (client, server) = pair();
    let welcome = bytes_of(&Welcome::default());
    // The reply to request 1 that is sent beforehand: an open is never merely done.
    send_bytes(&server, &welcome);
    send_bytes(&server, &[1, 1]);
    let mut broker = Connection::new(client).unwrap();
    let wrong = broker.open("/disk", READ);
    let Err(ConnectionError::Session(Error::Violation(seen))) = wrong else { panic!("{wrong:?}") };
    assert!(matches!(seen, Violation::WrongReply(id) if id.0 == 1), "{seen}");
    assert!(matches!(broker.status(), Err(ConnectionError::Session(Error::Poisoned))));
}

#[test]
fn a_refusal_becomes_the_systems_error() {
    let refused = std::io::Error::from(ConnectionError::Refused(Errno::ACCES));
    assert_eq!(refused.raw_os_error(), Some(13));
    let ended = std::io::Error::from(ConnectionError::Session(Error::Closed));
    assert_eq!(ended.raw_os_error(), None);
    assert!(ended.to_string().contains("closed the connection"), "{ended}");
}
