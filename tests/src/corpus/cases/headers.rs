//! qcow2 headers whose fields are out of range.

use std::path::Path;

use super::super::qcow2::{BACKING_FORMAT, DATA_FILE_NAME, field};
use super::super::{Group, Qcow2};
use super::{OUTSIDE, disk, qcow2, text};

/// The longest name that the format has room for, in bytes.
const LONGEST: usize = 1023;

/// Lengths and offsets of the backing file's name, and of the header.
#[must_use]
pub fn lengths(canary: &Path) -> Group {
    let path = text(canary);
    let overlay = || Qcow2::new().over(&path, "raw");
    let longest = || format!("{}{path}", "/".repeat(LONGEST - path.len()));
    let sized = |size: u32| {
        let image = overlay().forge(field::BACKING_FILE_SIZE, &size.to_be_bytes());
        qcow2(format!("a name of {size} bytes"), &image).says(["backing_file_size"])
    };
    let offset = |offset: u64| {
        let image = overlay().forge(field::BACKING_FILE_OFFSET, &offset.to_be_bytes());
        qcow2(format!("a name at byte {offset}"), &image).says(["backing_file_offset"])
    };
    let header = |length: u32| {
        let image = overlay().forge(field::HEADER_LENGTH, &length.to_be_bytes());
        qcow2(format!("header_length {length}"), &image).says(["header_length"])
    };
    let mut cut = overlay().bytes();
    cut.truncate(300);
    let mut hostile = vec![
        qcow2("a name of 1023 bytes", &Qcow2::new().over(longest(), "raw")).says([OUTSIDE]),
        qcow2("a zero byte in the name", &Qcow2::new().over(format!("base.raw\0{path}"), "raw"))
            .file("base.raw", disk())
            .says(["backing file name", "zero byte"]),
        qcow2("version 4", &overlay().forge(field::VERSION, &4_u32.to_be_bytes())).says(["version"]),
        qcow2("no cluster", &overlay().forge(field::CLUSTER_BITS, &64_u32.to_be_bytes())).says(["cluster size"]),
        super::Case::new("cut within the name", "top.qcow2", "qcow2", {
            let mut bytes = Qcow2::new().over(longest(), "raw").bytes();
            bytes.truncate(600);
            bytes
        })
        .says(["backing file name", "past the end"]),
    ];
    hostile.extend([1024, 4096, u32::MAX].map(sized));
    hostile.extend([1, u64::from(u32::MAX), u64::MAX].map(offset));
    hostile.extend([0, 103, 4096 + 8, 1 << 24, u32::MAX].map(header));
    let name = format!(".{}", "/".repeat(LONGEST - ".base.raw".len()) + "base.raw");
    let longest = qcow2("a name of 1023 bytes", &Qcow2::new().over(name, "raw"));
    Group { honest: vec![longest.file("base.raw", disk())], hostile }
}

/// Header extensions.
#[must_use]
pub fn extensions(canary: &Path) -> Group {
    let path = text(canary);
    let unknown = 0x1234_5678;
    let forged = |length: u32| Qcow2::new().backing(&path).forged_extension(unknown, length, b"");
    let mut hostile: Vec<_> = [4096, 1 << 24, u32::MAX - 7, u32::MAX]
        .map(|length| qcow2(format!("an extension of {length} bytes"), &forged(length)).says(["header extension"]))
        .into();
    hostile.extend([
        qcow2("a format of 100 bytes", &Qcow2::new().over("base.raw", &"r".repeat(100)))
            .file("base.raw", disk())
            .says(["backing file format"]),
        qcow2("two formats", &Qcow2::new().over("base.raw", "raw").extension(BACKING_FORMAT, b"qcow2"))
            .file("base.raw", disk())
            .says(["backing file format"]),
        qcow2("two data files", &Qcow2::new().data_file("data.raw").extension(DATA_FILE_NAME, path.as_bytes()))
            .file("data.raw", disk())
            .says(["data file name"]),
        qcow2("a data file of 2000 bytes", &Qcow2::new().data_file("/".repeat(2000))).says(["data file name"]),
        qcow2("a format that is none", &Qcow2::new().over("base.raw", "nonsense"))
            .file("base.raw", disk())
            .says(["base.raw", "nonsense"]),
    ]);
    let honest = qcow2("an unknown extension", &Qcow2::new().over("base.raw", "raw").extension(unknown, b"abc"));
    Group { honest: vec![honest.file("base.raw", disk())], hostile }
}
