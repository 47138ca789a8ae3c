//! Headers that this test makes, honest and forged.

use super::*;
use crate::prober::header::Reference;
use crate::prober::testing::{Folder, cut_and_forge, found, reference};

/// A version 3 header with these extensions, and a backing name behind them.
fn version_3(extensions: &[(u64, &[u8])], name: Option<&[u8]>) -> Vec<u8> {
    let mut image = vec![0; 104];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    put32(&mut image, 20, 16);
    put32(&mut image, 100, 104);
    for (magic, body) in extensions {
        image.extend_from_slice(&u32::try_from(*magic).unwrap().to_be_bytes());
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

/// The one file that the image names.
fn backing_in(image: &[u8]) -> Result<Named, HeaderError> {
    let mut references = found(image, Some(Format::Qcow2))?.references;
    assert!(references.len() <= 1 && references.iter().all(|named| named.role == ReferenceRole::Backing));
    Ok(references.pop().map(|Reference { name, format, .. }| (name, format)))
}

fn error_in(image: &[u8]) -> HeaderError {
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
    let mut image = version_3(&[(BACKING_FORMAT, b"raw"), (DATA_FILE_NAME, b"data.raw")], Some(b"base"));
    let backing = reference(ReferenceRole::Backing, "base", Some("raw"));
    // All known features but the data file: dirty, corrupt, compression type, extended L2.
    for features in [0, 0b11011] {
        put64(&mut image, 72, features);
        let found = found(&image, None).unwrap();
        assert!(!found.encrypted);
        assert_eq!(found.references, std::slice::from_ref(&backing));
    }
    put64(&mut image, 72, 0b100);
    put32(&mut image, 32, 2);
    let found = found(&image, None).unwrap();
    assert!(found.encrypted);
    assert_eq!(found.references, [reference(ReferenceRole::DataFile, "data.raw", Some("raw")), backing]);
}

#[test]
fn a_data_file_without_a_name_is_the_command_lines_to_name() {
    let mut image = version_3(&[], None);
    put64(&mut image, 72, 0b100);
    assert_eq!(found(&image, None).unwrap().references, []);
}

#[test]
fn the_data_files_name_is_checked_like_the_backing_files() {
    let with = |extensions: &[(u64, &[u8])]| {
        let mut image = version_3(extensions, None);
        put64(&mut image, 72, 0b100);
        found(&image, None)
    };
    let field = Field::DataFileName;
    let longest = vec![b'x'; NAME_LIMIT];
    assert_eq!(with(&[(DATA_FILE_NAME, &longest)]).unwrap().references[0].name, longest);
    assert_eq!(with(&[(DATA_FILE_NAME, &[b'x'; 1024])]), Err(out_of_range(field, 1024, 0, 1023)));
    assert_eq!(with(&[(DATA_FILE_NAME, b"")]), Err(out_of_range(field, 0, 1, 1023)));
    assert_eq!(with(&[(DATA_FILE_NAME, b"a\0b")]), Err(HeaderError::ZeroByte { field }));
    assert_eq!(with(&[(DATA_FILE_NAME, b"a"), (DATA_FILE_NAME, b"b")]), Err(HeaderError::Twice { field }));
}

#[test]
fn images_of_qemu_img_are_read() {
    let folder = Folder::new().unwrap();
    folder.create("-f raw base.raw 1M", "base.raw").unwrap();
    let backing = [reference(ReferenceRole::Backing, "base.raw", Some("raw"))];
    for options in ["compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=2M", "extended_l2=on"] {
        let image = folder.create(&format!("-f qcow2 -o {options} -F raw -b base.raw top"), "top").unwrap();
        assert_eq!(found(&image, None).unwrap().references, backing, "{options}");
    }
    let image = folder.create("-f qcow2 -o data_file=data.raw,data_file_raw=on top 1M", "top").unwrap();
    assert_eq!(found(&image, None).unwrap().references, [reference(ReferenceRole::DataFile, "data.raw", Some("raw"))]);
    let image = folder.create("-f qcow2 -o compression_type=zstd top 1M", "top").unwrap();
    assert_eq!(found(&image, Some(Format::Qcow2)).unwrap().references, []);
    let secret =
        "--object secret,id=key,data=x -f qcow2 -o encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let image = folder.create(&format!("{secret} top 1M"), "top").unwrap();
    assert!(found(&image, None).unwrap().encrypted);
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
    assert_eq!(with(0, 0), HeaderError::Not(Format::Qcow2));
    assert_eq!(with(4, 1), out_of_range(Field::Version, 1, 2, 3));
    assert_eq!(with(4, 4), out_of_range(Field::Version, 4, 2, 3));
    assert_eq!(with(20, 8), out_of_range(Field::ClusterSize, 8, 9, 21));
    assert_eq!(with(20, 64), out_of_range(Field::ClusterSize, 64, 9, 21));
}

#[test]
fn no_cut_and_no_single_wrong_byte_breaks_the_reader() {
    let mut image = version_3(&[(BACKING_FORMAT, b"raw"), (DATA_FILE_NAME, b"data")], Some(b"base.raw"));
    put64(&mut image, 72, 0b100);
    assert_eq!(cut_and_forge(&image, Some(Format::Qcow2)), 0);
    // Short of magic and version it is raw.
    assert_eq!(cut_and_forge(&image, None), 8);
}
