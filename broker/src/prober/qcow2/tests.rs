//! Headers that this test makes, honest and forged.

use super::super::header::{NAME_LIMIT, Scratch, parse as parse_any};
use super::*;

/// A version 3 header with these extensions, and a backing name behind them.
fn version_3(extensions: &[(u32, &[u8])], name: Option<&[u8]>) -> Vec<u8> {
    let mut image = vec![0; 104];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    put32(&mut image, 20, 16);
    put32(&mut image, 100, 104);
    for (magic, body) in extensions {
        image.extend_from_slice(&magic.to_be_bytes());
        image.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        image.extend_from_slice(body);
        image.resize(image.len().next_multiple_of(8), 0);
    }
    image.extend_from_slice(&[0; 8]);
    if let Some(name) = name {
        let offset = u64::try_from(image.len()).unwrap();
        put64(&mut image, 8, offset);
        put32(&mut image, 16, u32::try_from(name.len()).unwrap());
        image.extend_from_slice(name);
    }
    image
}

fn put32(image: &mut [u8], offset: usize, value: u32) {
    image[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}

fn put64(image: &mut [u8], offset: usize, value: u64) {
    image[offset..offset + 8].copy_from_slice(&value.to_be_bytes());
}

/// Name and format of a backing file.
type Named = Option<(Vec<u8>, Option<Vec<u8>>)>;

fn backing_in(image: &Vec<u8>) -> Result<Named, HeaderError> {
    let mut scratch = Scratch::default();
    let header = parse(image, &mut scratch)?;
    Ok(header.backing.map(|backing| (backing.name.to_vec(), backing.format.map(<[u8]>::to_vec))))
}

fn error_in(image: &Vec<u8>) -> HeaderError {
    backing_in(image).unwrap_err()
}

fn out_of_range(field: Field, value: u64, least: u64, most: u64) -> HeaderError {
    HeaderError::OutOfRange { field, value, least, most }
}

#[test]
fn name_and_format_are_found() {
    let image = version_3(&[(0x6803_f857, &[7; 13]), (BACKING_FORMAT, b"qcow2")], Some(b"../base.qcow2"));
    assert_eq!(backing_in(&image), Ok(Some((b"../base.qcow2".to_vec(), Some(b"qcow2".to_vec())))));
    assert_eq!(backing_in(&version_3(&[], Some(b"b"))), Ok(Some((b"b".to_vec(), None))));
    assert_eq!(backing_in(&version_3(&[(BACKING_FORMAT, b"")], Some(b"b"))), Ok(Some((b"b".to_vec(), None))));
    assert_eq!(backing_in(&version_3(&[(BACKING_FORMAT, b"raw")], None)), Ok(None));
    assert_eq!(backing_in(&version_3(&[], Some(b""))), Ok(None));
}

#[test]
fn version_2_has_no_features_and_a_fixed_length() {
    let mut image = vec![0; 72];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    put32(&mut image, 20, 16);
    put64(&mut image, 8, 72);
    put32(&mut image, 16, 4);
    // What version 3 takes for incompatible features and the header's length is the name here.
    image.extend_from_slice(b"\xff\xff\xff\xff");
    assert_eq!(backing_in(&image), Ok(Some((vec![0xff; 4], None))));
}

#[test]
fn data_file_and_encryption_are_reported() {
    let mut image = version_3(&[], None);
    let mut scratch = Scratch::default();
    let header = parse(&image, &mut scratch).unwrap();
    assert!(!header.data_file && !header.encrypted);
    // All known features but the data file: dirty, corrupt, compression type, extended L2.
    put64(&mut image, 72, 0b11011);
    assert!(!parse(&image, &mut scratch).unwrap().data_file);
    put64(&mut image, 72, 0b100);
    put32(&mut image, 32, 2);
    let header = parse(&image, &mut scratch).unwrap();
    assert!(header.data_file && header.encrypted);
}

#[test]
fn the_name_is_at_most_1023_bytes() {
    let longest = vec![b'x'; NAME_LIMIT];
    assert_eq!(backing_in(&version_3(&[], Some(&longest))), Ok(Some((longest, None))));
    let image = version_3(&[], Some(&[b'x'; NAME_LIMIT + 1]));
    assert_eq!(error_in(&image), out_of_range(Field::BackingFileSize, 1024, 0, 1023));
    let mut image = version_3(&[], Some(b"x"));
    put32(&mut image, 16, u32::MAX);
    assert_eq!(error_in(&image), out_of_range(Field::BackingFileSize, 0xffff_ffff, 0, 1023));
}

#[test]
fn the_name_lies_behind_the_header_in_the_first_cluster_and_in_the_file() {
    let at = |offset: u64, size: u32| {
        let mut image = version_3(&[], Some(b"x"));
        put64(&mut image, 8, offset);
        put32(&mut image, 16, size);
        error_in(&image)
    };
    assert_eq!(at(8, 1), out_of_range(Field::BackingFileOffset, 8, 104, 65536));
    assert_eq!(at(u64::MAX, 1), out_of_range(Field::BackingFileOffset, u64::MAX, 104, 65536));
    assert_eq!(at(65537, 1), out_of_range(Field::BackingFileOffset, 65537, 104, 65536));
    assert_eq!(at(65530, 7), out_of_range(Field::BackingFileSize, 7, 0, 6));
    assert_eq!(at(112, 2), HeaderError::PastEnd { field: Field::BackingFileName });
    assert_eq!(at(65530, 1), HeaderError::PastEnd { field: Field::BackingFileName });
}

#[test]
fn strings_hold_no_zero_byte() {
    let image = version_3(&[], Some(b"/etc/shadow\0.qcow2"));
    assert_eq!(error_in(&image), HeaderError::ZeroByte { field: Field::BackingFileName });
    let image = version_3(&[(BACKING_FORMAT, b"raw\0")], Some(b"b"));
    assert_eq!(error_in(&image), HeaderError::ZeroByte { field: Field::BackingFormat });
}

#[test]
fn header_length_is_checked() {
    for (length, error) in [
        (0, out_of_range(Field::HeaderLength, 0, 104, 65536)),
        (72, out_of_range(Field::HeaderLength, 72, 104, 65536)),
        (105, HeaderError::NotAligned { field: Field::HeaderLength, value: 105 }),
        (65544, out_of_range(Field::HeaderLength, 65544, 104, 65536)),
        (u32::MAX, out_of_range(Field::HeaderLength, 0xffff_ffff, 104, 65536)),
        (65528, HeaderError::PastEnd { field: Field::HeaderExtension }),
    ] {
        let mut image = version_3(&[], None);
        put32(&mut image, 100, length);
        assert_eq!(error_in(&image), error);
    }
}

#[test]
fn extensions_stay_in_front_of_the_name_and_in_the_file() {
    let with_length = |length: u32, name: Option<&[u8]>| {
        let mut image = version_3(&[(0x1234_5678, b"12345678")], name);
        put32(&mut image, 108, length);
        error_in(&image)
    };
    assert_eq!(with_length(17, Some(b"x")), out_of_range(Field::HeaderExtension, 17, 0, 16));
    assert_eq!(with_length(u32::MAX, None), out_of_range(Field::HeaderExtension, 0xffff_ffff, 0, 65424));
    assert_eq!(with_length(65424, None), HeaderError::PastEnd { field: Field::HeaderExtension });
    assert_eq!(with_length(24, None), HeaderError::PastEnd { field: Field::HeaderExtension });
    // The extensions have no end, and the file ends.
    let mut image = version_3(&[(0x1234_5678, b"")], None);
    image.truncate(112);
    assert_eq!(error_in(&image), HeaderError::PastEnd { field: Field::HeaderExtension });
}

#[test]
fn extensions_end_within_64_kib() {
    let mut image = version_3(&[(0x1234_5678, &[1; 65536]), (BACKING_FORMAT, b"raw")], None);
    put32(&mut image, 20, 21);
    assert_eq!(error_in(&image), out_of_range(Field::HeaderExtension, 65648, 0, 65536));
}

#[test]
fn the_backing_format_is_short_and_stated_once() {
    let image = version_3(&[(BACKING_FORMAT, b"123456789012345")], Some(b"b"));
    assert_eq!(backing_in(&image), Ok(Some((b"b".to_vec(), Some(b"123456789012345".to_vec())))));
    let image = version_3(&[(BACKING_FORMAT, b"1234567890123456")], Some(b"b"));
    assert_eq!(error_in(&image), out_of_range(Field::BackingFormat, 16, 0, 15));
    let image = version_3(&[(BACKING_FORMAT, b"raw"), (BACKING_FORMAT, b"qcow2")], Some(b"b"));
    assert_eq!(error_in(&image), HeaderError::Twice { field: Field::BackingFormat });
}

#[test]
fn version_and_clusters_are_checked() {
    let with = |offset: usize, value: u32| {
        let mut image = version_3(&[], None);
        put32(&mut image, offset, value);
        error_in(&image)
    };
    assert_eq!(with(0, 0), HeaderError::NotQcow2);
    assert_eq!(with(4, 1), out_of_range(Field::Version, 1, 2, 3));
    assert_eq!(with(4, 4), out_of_range(Field::Version, 4, 2, 3));
    assert_eq!(with(20, 8), out_of_range(Field::ClusterBits, 8, 9, 21));
    assert_eq!(with(20, 64), out_of_range(Field::ClusterBits, 64, 9, 21));
}

#[test]
fn no_cut_and_no_single_wrong_byte_breaks_the_parser() {
    let image = version_3(&[(BACKING_FORMAT, b"raw")], Some(b"base.raw"));
    for length in 0..image.len() {
        let cut = image[..length].to_vec();
        assert!(backing_in(&cut).is_err(), "{length}");
        let mut scratch = Scratch::default();
        let detected = parse_any(&cut, None, &mut scratch);
        assert!(detected.is_err() || length < 8, "{length}");
    }
    for position in 0..image.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut forged = image.clone();
            forged[position] = value;
            if let Ok(Some((name, format))) = backing_in(&forged) {
                assert!((1..=NAME_LIMIT).contains(&name.len()) && format.is_none_or(|format| format.len() <= 15));
            }
        }
    }
}
