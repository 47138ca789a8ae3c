//! Images of qemu-img, and forged ones.

use super::*;
use crate::prober::testing::{Folder, cut_and_forge, found, put, reference};

/// A header with this backing name behind it.
fn header(name: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 48];
    put(&mut image, 0, b"QFI\xfb\0\0\0\x01");
    put(&mut image, 8, &48_u64.to_be_bytes());
    put(&mut image, 16, &u32::try_from(name.len()).unwrap().to_be_bytes());
    put(&mut image, 32, &[12, 9]);
    image.extend_from_slice(name);
    image
}

fn forged(offset: usize, bytes: &[u8]) -> HeaderError {
    let mut image = header(b"base");
    put(&mut image, offset, bytes);
    found(&image, Some(Format::Qcow)).unwrap_err()
}

#[test]
fn images_of_qemu_img_are_read() {
    let folder = Folder::new().unwrap();
    folder.create("-f raw base.raw 1M", "base.raw").unwrap();
    let image = folder.create("-f qcow -F raw -b base.raw top", "top").unwrap();
    for stated in [None, Some(Format::Qcow)] {
        // Its header cannot say raw.
        let read = found(&image, stated).unwrap();
        assert_eq!(read.references, [reference(ReferenceRole::Backing, "base.raw", None)]);
        assert_eq!((read.format, read.encrypted), (Format::Qcow, false));
    }
    let image = folder.create("-f qcow alone 1M", "alone").unwrap();
    assert_eq!(found(&image, None).unwrap().references, []);
}

#[test]
fn names_have_1_to_1023_bytes() {
    let longest = vec![b'x'; NAME_LIMIT];
    assert_eq!(found(&header(&longest), None).unwrap().references[0].name, longest);
    assert_eq!(found(&header(b""), None).unwrap().references, []);
    let out_of_range = |value| HeaderError::OutOfRange { field: Field::BackingFileSize, value, least: 0, most: 1023 };
    assert_eq!(found(&header(&[b'x'; 1024]), None), Err(out_of_range(1024)));
    assert_eq!(forged(16, &[0xff; 4]), out_of_range(0xffff_ffff));
    assert_eq!(forged(16, &[0, 0, 0, 5]), HeaderError::PastEnd { field: Field::BackingFileName });
    assert_eq!(forged(50, &[0]), HeaderError::ZeroByte { field: Field::BackingFileName });
}

#[test]
fn fields_out_of_range_are_refused() {
    assert_eq!(forged(0, b"X"), HeaderError::Not(Format::Qcow));
    for (offset, bytes, field) in [
        (7, &[2][..], Field::Version),
        (8, &[0xff; 8], Field::BackingFileOffset),
        (15, &[47], Field::BackingFileOffset),
        (32, &[8], Field::ClusterSize),
        (32, &[17], Field::ClusterSize),
    ] {
        let error = forged(offset, bytes);
        assert!(matches!(error, HeaderError::OutOfRange { field: wrong, .. } if wrong == field), "{error}");
    }
    let mut image = header(b"base");
    put(&mut image, 36, &[0, 0, 0, 1]);
    assert!(found(&image, None).unwrap().encrypted);
}

#[test]
fn no_cut_and_no_single_wrong_byte_breaks_the_reader() {
    assert_eq!(cut_and_forge(&header(b"base.raw"), Some(Format::Qcow)), 0);
}
