//! Images of qemu-img, and forged ones.

use super::*;
use crate::prober::header::Format;
use crate::prober::testing::{Folder, cut_and_forge, found, put};

#[test]
fn images_of_qemu_img_are_read() {
    let folder = Folder::new().unwrap();
    let dynamic = folder.create("-f vpc dynamic 2M", "dynamic").unwrap();
    let fixed = folder.create("-f vpc -o subformat=fixed fixed 2M", "fixed").unwrap();
    for (image, stated, format) in [
        (&dynamic, None, Format::Vpc),
        (&dynamic, Some(Format::Vpc), Format::Vpc),
        (&fixed, Some(Format::Vpc), Format::Vpc),
        // As for QEMU: its only mark is at its end.
        (&fixed, None, Format::Raw),
    ] {
        let read = found(image, stated).unwrap();
        assert_eq!((read.format, read.references.len()), (format, 0));
    }
}

#[test]
fn a_differencing_disk_is_refused() {
    let folder = Folder::new().unwrap();
    let mut image = folder.create("-f vpc dynamic 2M", "dynamic").unwrap();
    put(&mut image, 60, &4_u32.to_be_bytes());
    assert_eq!(found(&image, None), Err(HeaderError::Differencing { field: Field::DiskType }));
    assert!(found(&image, None).unwrap_err().to_string().contains("disk type"));
    assert_eq!(found(&image[..62], None), Err(HeaderError::PastEnd { field: Field::DiskType }));
}

#[test]
fn no_cut_and_no_single_wrong_byte_breaks_the_reader() {
    let mut image = vec![0; 80];
    put(&mut image, 0, b"conectix");
    put(&mut image, 60, &3_u32.to_be_bytes());
    // Short of the magic, and from the type on.
    assert_eq!(cut_and_forge(&image, Some(Format::Vpc)), 8 + 16);
}
