//! The real process, on real files.

use super::header::{Field, ReferenceRole};
use super::testing::{Folder, put, reference};
use super::*;

#[test]
fn one_process_reads_a_whole_chain() {
    let folder = Folder::new().unwrap();
    let mut image = folder.create("-u -f qcow2 -F qcow2 -b 000 001 1M", "001").unwrap();
    let name = image.windows(3).position(|window| window == b"000").unwrap();
    for level in 2..=201 {
        put(&mut image, name, format!("{:03}", level - 1).as_bytes());
        std::fs::write(folder.path(&format!("{level:03}")), &image).unwrap();
    }
    let prober = Prober::new().unwrap();
    let mut reader = prober.reader();
    for level in (1..=201).rev() {
        let pin = Pin::take(&folder.path(&format!("{level:03}"))).unwrap();
        let found = reader.probe(&pin, Some(Format::Qcow2)).unwrap();
        let below = format!("{:03}", level - 1);
        assert_eq!(found.references, [reference(ReferenceRole::Backing, &below, Some("qcow2"))]);
    }
    assert_eq!(reader.asked, 201);
}

#[test]
fn raw_images_are_not_read() {
    let folder = Folder::new().unwrap();
    folder.create("-f raw disk 1M", "disk").unwrap();
    let pin = Pin::take(&folder.path("disk")).unwrap();
    let prober = Prober::new().unwrap();
    let mut reader = prober.reader();
    assert_eq!(reader.probe(&pin, Some(Format::Raw)).unwrap(), Found::raw());
    assert!(matches!(reader.state, State::Unused));
    assert_eq!(reader.probe(&pin, None).unwrap(), Found::raw());
    assert!(matches!(reader.state, State::Running(_)));
}

#[test]
fn a_refused_header_is_no_reason_to_give_the_process_up() {
    let folder = Folder::new().unwrap();
    let mut image = folder.create("-f qcow2 good 1M", "good").unwrap();
    put(&mut image, 4, &[9]);
    std::fs::write(folder.path("bad"), image).unwrap();
    let pin = |name| Pin::take(&folder.path(name)).unwrap();
    let prober = Prober::new().unwrap();
    let mut reader = prober.reader();
    let refused = reader.probe(&pin("bad"), Some(Format::Qcow2));
    assert!(matches!(refused, Err(Error::Header(HeaderError::OutOfRange { field: Field::Version, .. }))));
    assert_eq!(reader.probe(&pin("good"), None).unwrap().format, Format::Qcow2);
    // Nor is an image that cannot be opened.
    let folder_pin = Pin::take(&folder.path("")).unwrap();
    assert!(reader.probe(&folder_pin, Some(Format::Qcow2)).is_err());
}

#[test]
fn after_an_irregular_answer_nothing_is_asked_any_more() {
    let folder = Folder::new().unwrap();
    folder.create("-f qcow2 image 1M", "image").unwrap();
    let pin = Pin::take(&folder.path("image")).unwrap();
    let prober = Prober::new().unwrap();
    let mut reader = prober.reader();
    reader.buffer.resize(ANSWER_LIMIT, 0);
    // It says the same to every question.
    let task = |_: std::os::fd::BorrowedFd<'_>, _: &[u8], buffer: &mut [u8; ANSWER_LIMIT]| {
        let found = [1, 0, 1, 0, 0];
        buffer[..found.len()].copy_from_slice(&found);
        found.len()
    };
    reader.state = State::Running(Process::start(&prober.filter, PATIENCE, task).unwrap());
    assert_eq!(reader.probe(&pin, None).unwrap().format, Format::Qcow2);
    assert!(matches!(reader.probe(&pin, None), Err(Error::Nonsense)));
    assert!(matches!(reader.state, State::GivenUp));
    assert!(matches!(reader.probe(&pin, None), Err(Error::GivenUp)));
}
