//! Images of qemu-img, and forged ones.

use super::*;
use crate::prober::testing::{Folder, found, put};

/// The first MiB and the metadata of an image, and where its file parameters begin.
fn image() -> (Vec<u8>, usize) {
    let folder = Folder::new().unwrap();
    let image = folder.create("-f vhdx image 2M", "image").unwrap();
    let parameters = image.windows(16).position(|window| window == FILE_PARAMETERS).unwrap();
    let offset = u32::from_le_bytes(image[parameters + 16..parameters + 20].try_into().unwrap());
    let table = image.windows(8).position(|window| window == b"metadata").unwrap();
    (image, table + usize::try_from(offset).unwrap())
}

#[test]
fn images_of_qemu_img_are_read() {
    let (image, _) = image();
    for stated in [None, Some(Format::Vhdx)] {
        let read = found(&image, stated).unwrap();
        assert_eq!((read.format, read.references.len()), (Format::Vhdx, 0));
    }
}

#[test]
fn a_differencing_disk_is_refused() {
    let (mut image, parameters) = image();
    image[parameters + 4] |= 2;
    let error = found(&image, None).unwrap_err();
    assert_eq!(error, HeaderError::Differencing { field: Field::FileParameters });
    assert!(error.to_string().contains("file parameters"), "{error}");
}

#[test]
fn tables_that_lead_nowhere_are_refused_and_missing_ones_are_qemus_to_judge() {
    let (image, parameters) = image();
    let table = usize::try_from(REGION_TABLE).unwrap();
    let forged = |offset: usize, bytes: &[u8]| {
        let mut image = image.clone();
        put(&mut image, offset, bytes);
        found(&image, Some(Format::Vhdx)).map(|found| found.references.len())
    };
    let out_of_range = |field, value| Err(HeaderError::OutOfRange { field, value, least: 0, most: 2047 });
    assert_eq!(forged(0, b"x"), Err(HeaderError::Not(Format::Vhdx)));
    assert_eq!(forged(table + 8, &[0xff; 4]), out_of_range(Field::RegionTable, 0xffff_ffff));
    assert_eq!(forged(table + 8, &[0; 4]), Ok(0));
    let region = image.windows(16).position(|window| window == METADATA).unwrap();
    assert_eq!(forged(region + 16, &[0xff; 8]), Err(HeaderError::PastEnd { field: Field::MetadataTable }));
    let metadata = image.windows(8).position(|window| window == b"metadata").unwrap();
    assert_eq!(forged(metadata + 10, &[0xff; 2]), out_of_range(Field::MetadataTable, 0xffff));
    assert_eq!(forged(metadata + 10, &[0; 2]), Ok(0));
    for length in [0, 7, 8, 65536, table, table + 11, table + 20, region + 20, metadata, metadata + 11, parameters + 7]
    {
        assert!(found(&image[..length], Some(Format::Vhdx)).is_err(), "{length}");
    }
}
