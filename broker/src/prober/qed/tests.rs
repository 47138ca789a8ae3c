//! Images of qemu-img, and forged ones.

use super::*;
use crate::prober::testing::{Folder, cut_and_forge, found, put, reference};

/// A header with these features and this backing name behind it.
fn header(features: u64, name: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 64];
    put(&mut image, 0, b"QED\0");
    put(&mut image, 4, &65536_u32.to_le_bytes());
    put(&mut image, 12, &1_u32.to_le_bytes());
    put(&mut image, 16, &features.to_le_bytes());
    put(&mut image, 56, &64_u32.to_le_bytes());
    put(&mut image, 60, &u32::try_from(name.len()).unwrap().to_le_bytes());
    image.extend_from_slice(name);
    image
}

fn forged(offset: usize, bytes: &[u8]) -> HeaderError {
    let mut image = header(BACKING_FILE, b"base");
    put(&mut image, offset, bytes);
    found(&image, Some(Format::Qed)).unwrap_err()
}

#[test]
fn images_of_qemu_img_are_read() {
    let folder = Folder::new().unwrap();
    folder.create("-f raw base.raw 1M", "base.raw").unwrap();
    folder.create("-f qcow2 base.qcow2 1M", "base.qcow2").unwrap();
    for (format, stated) in [("raw", Some("raw")), ("qcow2", None)] {
        let words = format!("-f qed -F {format} -b base.{format} top");
        let read = found(&folder.create(&words, "top").unwrap(), None).unwrap();
        assert_eq!(read.references, [reference(ReferenceRole::Backing, &format!("base.{format}"), stated)]);
        assert_eq!(read.format, Format::Qed);
    }
    let image = folder.create("-f qed -o cluster_size=4k,table_size=16 alone 1M", "alone").unwrap();
    assert_eq!(found(&image, Some(Format::Qed)).unwrap().references, []);
}

#[test]
fn names_have_1_to_1023_bytes() {
    let longest = vec![b'x'; NAME_LIMIT];
    assert_eq!(found(&header(BACKING_FILE, &longest), None).unwrap().references[0].name, longest);
    assert_eq!(found(&header(BACKING_FILE, b""), None).unwrap().references, []);
    assert_eq!(found(&header(NEED_CHECK, b"unused"), None).unwrap().references, []);
    let out_of_range = |value| HeaderError::OutOfRange { field: Field::BackingFileSize, value, least: 0, most: 1023 };
    assert_eq!(found(&header(BACKING_FILE, &[b'x'; 1024]), None), Err(out_of_range(1024)));
    assert_eq!(forged(60, &[0xff; 4]), out_of_range(0xffff_ffff));
    assert_eq!(forged(60, &[5]), HeaderError::PastEnd { field: Field::BackingFileName });
    assert_eq!(forged(65, &[0]), HeaderError::ZeroByte { field: Field::BackingFileName });
    // Behind the header's clusters.
    let mut image = header(BACKING_FILE, b"base");
    put(&mut image, 56, &65534_u32.to_le_bytes());
    assert!(found(&image, None).unwrap_err().to_string().contains("backing_file_size is 4, and must be from 0 to 2"));
}

#[test]
fn fields_out_of_range_are_refused() {
    assert_eq!(forged(0, b"X"), HeaderError::Not(Format::Qed));
    assert_eq!(forged(4, &[1]), HeaderError::NotPowerOfTwo { field: Field::ClusterSize, value: 65537 });
    for (offset, bytes, field) in [
        (4, &[0, 8, 0, 0][..], Field::ClusterSize),
        (4, &[0xff; 4], Field::ClusterSize),
        (12, &[0], Field::HeaderLength),
        (12, &[0xff; 4], Field::HeaderLength),
        (16, &[9], Field::IncompatibleFeatures),
        (23, &[0x80], Field::IncompatibleFeatures),
        (56, &[63], Field::BackingFileOffset),
        (56, &[0xff; 4], Field::BackingFileOffset),
    ] {
        let error = forged(offset, bytes);
        assert!(matches!(error, HeaderError::OutOfRange { field: wrong, .. } if wrong == field), "{error}");
    }
}

#[test]
fn no_cut_and_no_single_wrong_byte_breaks_the_reader() {
    let image = header(BACKING_FILE | BACKING_FORMAT_NO_PROBE, b"base.raw");
    assert_eq!(cut_and_forge(&image, Some(Format::Qed)), 0);
}
