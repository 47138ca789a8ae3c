//! Beginnings of images, and what QEMU takes them for.

use super::*;

fn found(start: &[u8]) -> Result<Format, HeaderError> {
    detect(&start)
}

const CLOOP: &[u8] = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";

fn bochs(version: u8) -> Vec<u8> {
    let mut image = vec![0; 512];
    image[..22].copy_from_slice(b"Bochs Virtual HD Image");
    image[32..39].copy_from_slice(b"Redolog");
    image[48..55].copy_from_slice(b"Growing");
    image[66] = version;
    image
}

fn vdi() -> Vec<u8> {
    let mut image = vec![0; 0x40];
    image.extend_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
    image
}

#[test]
fn anything_unknown_is_raw() {
    for start in [
        &b""[..],
        b"QFI",
        b"QFI\xfb\0\0\0\0",
        b"\0\0\0\0",
        b"version=4\n",
        b"version=1",
        b"\nversion=1\n",
        b"LUKS\xba\xbe\0\x02",
        b"WithoutFreeSpace",
        b"WithouFreSpacExt\x03\0\0\0",
        b"Bochs Virtual HD Image\0",
        &CLOOP[..CLOOP.len() - 1],
        &bochs(3),
    ] {
        assert_eq!(found(start), Ok(Format::Raw), "{start:?}");
    }
}

#[test]
fn qcow2_of_any_later_version_is_qcow2() {
    for version in [2_u8, 3, 4, 255] {
        assert_eq!(found(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]), Ok(Format::Qcow2));
    }
}

#[test]
fn every_format_is_found() {
    let starts: [(&[u8], Format); 16] = [
        (b"QFI\xfb\0\0\0\x01", Format::Qcow),
        (b"QED\0", Format::Qed),
        (b"KDMV\x01\0\0\0", Format::Vmdk),
        (b"COWD", Format::Vmdk),
        (b"# Disk DescriptorFile\nversion=1\n", Format::Vmdk),
        (b"# Disk DescriptorFile\r\n  \r\nversion=3\r\n", Format::Vmdk),
        (b"version=2\n", Format::Vmdk),
        (b"vhdxfile", Format::Vhdx),
        (b"conectix", Format::Vpc),
        (b"LUKS\xba\xbe\0\x01", Format::Luks),
        (&bochs(1), Format::Bochs),
        (&bochs(2), Format::Bochs),
        (b"WithoutFreeSpace\x02\0\0\0", Format::Parallels),
        (b"WithouFreSpacExt\x02\0\0\0", Format::Parallels),
        (&vdi(), Format::Vdi),
        (CLOOP, Format::Cloop),
    ];
    for (start, format) in starts {
        assert_eq!(found(start), Ok(format));
    }
}

#[test]
fn two_formats_at_once_are_refused() {
    for magic in [&b"KDMV"[..], b"QED\0", b"QFI\xfb\0\0\0\x03", b"conectix"] {
        let mut both = vdi();
        both[..magic.len()].copy_from_slice(magic);
        assert!(matches!(found(&both), Err(HeaderError::Ambiguous(_, Format::Vdi))));
        assert_eq!(require(&both, Format::Vdi), Ok(()));
    }
    // In a comment of a descriptor.
    let mut both = b"# Disk DescriptorFile\n".to_vec();
    both.resize(0x40, b'#');
    both.extend_from_slice(b"\x7f\x10\xda\xbe\nversion=1\n");
    assert_eq!(found(&both), Err(HeaderError::Ambiguous(Format::Vmdk, Format::Vdi)));
}

#[test]
fn a_stated_format_must_fit() {
    assert_eq!(require(&bochs(1), Format::Bochs), Ok(()));
    assert_eq!(require(&bochs(3), Format::Bochs), Err(HeaderError::Not(Format::Bochs)));
    assert_eq!(require(&vec![0; 4096], Format::Vdi), Err(HeaderError::Not(Format::Vdi)));
    assert_eq!(require(&Vec::new(), Format::Parallels), Err(HeaderError::Not(Format::Parallels)));
}
