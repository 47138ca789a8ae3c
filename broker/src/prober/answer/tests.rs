//! Answers that no reader gives.

use super::*;
use crate::prober::header::Field;
use crate::prober::process::ANSWER_LIMIT;
use crate::prober::testing::{put, reference};

const ASKED: Question = Question { number: 7, stated: None };

fn encoded(number: u32, result: Result<Found, HeaderError>) -> Vec<u8> {
    postcard::to_stdvec(&Answer { number, result }).unwrap()
}

fn image(format: Format, references: Vec<Reference>) -> Found {
    Found { format, references, encrypted: false }
}

fn overlay(name: &str, format: Option<&str>) -> Found {
    image(Format::Qcow2, vec![reference(ReferenceRole::Backing, name, format)])
}

fn judged(found: Found, stated: Option<Format>) -> Result<Found, Error> {
    judge(&encoded(7, Ok(found)), Question { number: 7, stated })
}

/// A vmdk descriptor as large as one may be, with as many names as there may be, and a parent.
fn largest() -> Vec<u8> {
    let name = "x".repeat(47);
    let lines: String = (0..1024).map(|index| format!("RW 1 SPARSE \"{index:04}{name}\"\n")).collect();
    let mut text = format!("createType=\"vmfs\" parentFileNameHint=\"{}\"\n{lines}", "p".repeat(1023)).into_bytes();
    assert!(text.len() > 65535);
    // What the limit leaves of the last lines is none.
    text.truncate(65535);
    let end = text.iter().rposition(|byte| *byte == b'\n').unwrap();
    text.truncate(end);
    text
}

#[test]
fn the_longest_honest_answer_fits() {
    let mut buffer = vec![0; ANSWER_LIMIT];
    let question = Question { number: u32::MAX, stated: Some(Format::Vmdk) };
    let mut encoded = [0; QUESTION_LIMIT];
    let length = answer(&largest(), question.encode(&mut encoded), &mut Scratch::default(), &mut buffer);
    let found = judge(&buffer[..length], question).unwrap();
    assert!(found.references.len() > 960 && found.references.last().unwrap().name.len() == 1023);
    // Many short names weigh more than few long ones.
    let lines: String = (0..1025).map(|_| "RW 1 SPARSE \"x\"\n").collect();
    let image = format!("createType=\"vmfs\"\n{lines}").into_bytes();
    let length = answer(&image, question.encode(&mut encoded), &mut Scratch::default(), &mut buffer);
    assert_eq!(judge(&buffer[..length], question).unwrap().references.len(), 1025);
    assert_eq!(answer(&image, b"", &mut Scratch::default(), &mut buffer), 0);
}

#[test]
fn answers_that_no_reader_gives_are_refused() {
    use ReferenceRole::{Backing, DataFile, Extent};
    let named = |role| reference(role, "x", None);
    for found in [
        overlay(&"x".repeat(NAME_LIMIT + 1), None),
        overlay("", None),
        overlay("a\0b", None),
        overlay("x", Some("")),
        overlay("x", Some(&"q".repeat(FORMAT_LIMIT + 1))),
        overlay("x", Some("raw\0")),
        image(Format::Raw, vec![named(Backing)]),
        image(Format::Vdi, vec![named(Backing)]),
        image(Format::Vhdx, vec![named(Extent)]),
        image(Format::Vmdk, vec![named(DataFile)]),
        image(Format::Qcow2, vec![named(Extent)]),
        image(Format::Qcow2, vec![named(Backing), named(Backing)]),
        image(Format::Qcow2, vec![named(Backing), named(DataFile)]),
        image(Format::Qcow2, vec![named(DataFile), named(DataFile)]),
        image(Format::Vmdk, vec![named(Extent); REFERENCE_LIMIT + 1]),
        Found { encrypted: true, ..Found::raw() },
    ] {
        assert!(matches!(judged(found, None), Err(Error::Nonsense)));
    }
    assert!(matches!(judged(Found::raw(), Some(Format::Qcow2)), Err(Error::Nonsense)));
    assert!(judged(image(Format::Vmdk, vec![named(Extent), named(Extent), named(Backing)]), None).is_ok());
    assert!(judged(image(Format::Qcow2, vec![named(DataFile), named(Backing)]), Some(Format::Qcow2)).is_ok());
}

#[test]
fn an_answer_belongs_to_its_question() {
    for number in [0, 6, 8, u32::MAX] {
        assert!(matches!(judge(&encoded(number, Ok(Found::raw())), ASKED), Err(Error::Nonsense)));
        let error = HeaderError::CreateType;
        assert!(matches!(judge(&encoded(number, Err(error)), ASKED), Err(Error::Nonsense)));
    }
}

#[test]
fn trailing_short_and_wild_bytes_are_refused() {
    let honest = encoded(7, Ok(overlay("base", Some("raw"))));
    assert!(judge(&honest, ASKED).is_ok());
    for length in 0..honest.len() {
        assert!(matches!(judge(&honest[..length], ASKED), Err(Error::Nonsense)), "{length}");
    }
    assert!(matches!(judge(&[&honest[..], &[0]].concat(), ASKED), Err(Error::Nonsense)));
    // Lists and names that claim 2^63 entries.
    for position in 0..honest.len() {
        let mut wild = honest.clone();
        wild.resize(honest.len() + 10, 0xff);
        put(&mut wild, position, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(judge(&wild, ASKED).is_err(), "{position}");
    }
}

#[test]
fn errors_arrive_as_they_were_sent() {
    let sent = HeaderError::PastEnd { field: Field::BackingFileName };
    let received = judge(&encoded(7, Err(sent)), ASKED);
    assert!(matches!(received, Err(Error::Header(error)) if error == sent));
}
