//! Images of qemu-img, descriptors as QEMU reads them, and forged ones.

use std::process::Command;

use super::descriptor::{Extent, extents};
use super::*;
use crate::prober::header::{Format, Found};
use crate::prober::testing::{Folder, cut_and_forge, found, put, reference};

const START: &str = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n";

/// A descriptor with these lines.
fn descriptor(lines: &str) -> Vec<u8> {
    format!("{START}createType=\"twoGbMaxExtentFlat\"\n{lines}").into_bytes()
}

fn read(image: &[u8]) -> Result<Found, HeaderError> {
    found(image, Some(Format::Vmdk))
}

fn names(image: &[u8]) -> Vec<String> {
    let references = read(image).unwrap().references;
    references.into_iter().map(|named| String::from_utf8(named.name).unwrap()).collect()
}

#[test]
fn images_of_qemu_img_are_read() {
    let folder = Folder::new().unwrap();
    folder.create("-f vmdk base.vmdk 5G", "base.vmdk").unwrap();
    for (subformat, suffix, format) in [
        ("monolithicSparse", &[][..], ""),
        ("streamOptimized", &[], ""),
        ("monolithicFlat", &["flat"], "raw"),
        ("twoGbMaxExtentSparse", &["s001", "s002", "s003"], "vmdk"),
        ("twoGbMaxExtentFlat", &["f001", "f002", "f003"], "raw"),
    ] {
        let image = folder.create(&format!("-f vmdk -o subformat={subformat} disk.vmdk 5G"), "disk.vmdk").unwrap();
        let extent = |suffix: &&str| reference(ReferenceRole::Extent, &format!("disk-{suffix}.vmdk"), Some(format));
        let extents: Vec<_> = suffix.iter().map(extent).collect();
        for stated in [None, Some(Format::Vmdk)] {
            let read = found(&image, stated).unwrap();
            assert_eq!((read.format, read.references), (Format::Vmdk, extents.clone()), "{subformat}");
        }
        if subformat.ends_with("Flat") {
            continue;
        }
        for suffix in suffix {
            let extent = std::fs::read(folder.path(&format!("disk-{suffix}.vmdk"))).unwrap();
            assert_eq!(read(&extent).unwrap().references, []);
        }
        let words = format!("-f vmdk -o subformat={subformat} -F vmdk -b base.vmdk top.vmdk");
        let backing = reference(ReferenceRole::Backing, "base.vmdk", Some("vmdk"));
        assert_eq!(read(&folder.create(&words, "top.vmdk").unwrap()).unwrap().references.last(), Some(&backing));
    }
}

/// What QEMU opens, beside what is found, for descriptors that are hard to read.
#[test]
fn extents_are_those_that_qemu_opens() {
    let folder = Folder::new().unwrap();
    for name in ["a", "b", "c d"] {
        std::fs::write(folder.path(name), [0; 4096]).unwrap();
    }
    for lines in [
        "RW 1 FLAT \"a\" 0\nRW 1 FLAT \"b\" 1\n",
        "RW 1 FLAT \"a\" 0",
        "  RW\t1\n\nFLAT\r\n \"a\"\n0\nRW 1 VMFS \"c d\"\n",
        "RW 1FLAT\"x\" \"b\"\nRW 1 FLAT \"a\" 0\nRW +1 FLAT \"b\" +1\n",
        "RW 01 FLAT\"a\" 0\nRW 2 VMFS\"b\"\nRW 1 FLAT \"c d\" 0\n",
        "rw 1 FLAT \"b\" 0\nRDONLY 1 FLAT \"b\" 0\nNOACCESS 1 FLAT \"b\" 0\nRW 1 FLAT \"a\" 0\n",
        "#RW 1 FLAT \"b\" 0\n # RW 1 FLAT \"b\" 0\nRW 1 FLAT \"a\" 0 # b\n",
        "RW 1 ZERO\nRW 0 FLAT \"b\" 0\nRW -1 FLAT \"b\" 0\nRW 1 FLAT \"a\" 0\n",
        "RW 1 FLAT \"\" 0\nRW 1 OTHER \"b\"\nRW 1 FLAT \"a\" 0\n",
        "RW 99999999999999999999 OTHER \"b\"\nRW 1 FLAT \"a\" 0\n",
        "RW 1 FLAT \"a\" 0\n\0RW 1 FLAT \"b\" 0\n",
    ] {
        let image = descriptor(lines);
        std::fs::write(folder.path("disk.vmdk"), &image).unwrap();
        let mut tool = Command::new("qemu-img");
        let output = tool.args(["info", "--output=json", "-f", "vmdk"]).arg(folder.path("disk.vmdk")).output().unwrap();
        assert!(output.status.success(), "{lines:?}: {}", String::from_utf8_lossy(&output.stderr));
        let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let extents = info["format-specific"]["data"]["extents"].as_array().unwrap();
        let opened = extents.iter().map(|extent| extent["filename"].as_str().unwrap().rsplit('/').next().unwrap());
        let mut opened: Vec<&str> = opened.collect();
        // After an empty line QEMU opens an extent twice.
        opened.dedup();
        assert_eq!(names(&image), opened, "{lines:?}");
    }
}

#[test]
fn an_extents_type_says_how_it_is_read() {
    let lines = b"RW 1 SPARSE \"s\"\nRW 1 VMFSSPARSE\"v\"\nRW 1 SESPARSE \"e\"\nRW 1 VMFS \"m\"\nRW 1 FLAT \"f\" 0\n";
    let found: Result<Vec<Extent<'_>>, _> = extents(lines).collect();
    let wanted = [("s", false), ("v", false), ("e", false), ("m", true), ("f", true)];
    assert_eq!(found.unwrap(), wanted.map(|(name, is_plain)| Extent { name: name.as_bytes(), is_plain }));
}

#[test]
fn names_of_extents_have_an_end_within_511_bytes() {
    let longest = "x".repeat(511);
    assert_eq!(names(&descriptor(&format!("RW 1 FLAT \"{longest}\" 0\n"))), [longest.as_str()]);
    let unterminated = Err(HeaderError::Unterminated { field: Field::ExtentName, most: 511 });
    // QEMU would open what it has by then.
    for line in
        [&format!("RW 1 SPARSE \"x{longest}\"\n"), "RW 1 SPARSE \"x\n\"", "RW 1 SPARSE \"x\r\"", "RW 1 VMFS \"x"]
    {
        assert_eq!(read(&descriptor(line)), unterminated, "{line}");
    }
}

#[test]
fn a_disk_has_at_most_1025_files() {
    let disk = |count: usize| {
        let lines: String = (1..=count).map(|index| format!("RW 4194304 SPARSE \"disk-s{index:03}.vmdk\"\n")).collect();
        descriptor(&lines)
    };
    assert_eq!(read(&disk(1025)).unwrap().references.len(), 1025);
    let error = HeaderError::OutOfRange { field: Field::Extents, value: 1026, least: 0, most: 1025 };
    assert_eq!(read(&disk(1026)), Err(error));
}

#[test]
fn a_descriptor_ends_within_64_kib() {
    let mut image = descriptor("RW 1 FLAT \"a\" 0\n");
    image.resize(65535, b'#');
    assert_eq!(names(&image), ["a"]);
    image.push(b'#');
    let out_of_range = |value| HeaderError::OutOfRange { field: Field::Descriptor, value, least: 1, most: 65535 };
    assert_eq!(read(&image), Err(out_of_range(65536)));
    // A file that was preallocated.
    image[60000] = 0;
    image.resize(100_000, 0);
    assert_eq!(names(&image), ["a"]);
    assert_eq!(read(&[0; 512]), Err(out_of_range(0)));
    assert_eq!(read(b"RW"), Err(HeaderError::PastEnd { field: Field::Magic }));
}

#[test]
fn the_create_type_is_one_that_qemu_reads() {
    let with =
        |text: &str| read(format!("{START}{text}\nRW 1 FLAT \"a\" 0\n").as_bytes()).map(|found| found.references.len());
    for kind in ["monolithicFlat", "vmfs", "vmfsSparse", "seSparse", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        assert_eq!(with(&format!("createType=\"{kind}\"")), Ok(1));
    }
    for kind in ["custom", "fullDevice", "VMFS", "vmfs ", ""] {
        assert_eq!(with(&format!("createType=\"{kind}\"")), Err(HeaderError::CreateType));
    }
    let missing = Err(HeaderError::Missing { field: Field::CreateType });
    assert_eq!(with(""), missing);
    assert_eq!(read(b"createType=\"vmfs"), missing.map(|_: usize| Found::raw()));
    assert_eq!(read(b"createType"), Err(HeaderError::Missing { field: Field::CreateType }));
}

#[test]
fn the_parent_is_named_wherever_its_key_stands() {
    let backing = |name: &str| [reference(ReferenceRole::Backing, name, Some("vmdk"))];
    let parent = |text: &str| read(&descriptor(text)).map(|found| found.references);
    // Whatever parentCID says: so it is for QEMU.
    assert_eq!(parent("parentFileNameHint=\"../base.vmdk\"\n").unwrap(), backing("../base.vmdk"));
    assert_eq!(parent("# xparentFileNameHint: a\nb\"").unwrap(), backing("a\nb"));
    assert_eq!(parent("parentFileNameHint\0\0hidden\"").unwrap(), backing("hidden"));
    assert_eq!(parent("\0parentFileNameHint=\"hidden\"").unwrap(), []);
    assert_eq!(parent("parentFileNameHint=\"\"").unwrap(), []);
    let field = Field::ParentFileNameHint;
    for endless in
        ["parentFileNameHint", "parentFileNameHint=\"", "parentFileNameHint=\"base", "parentFileNameHint=\"a\0\""]
    {
        assert_eq!(parent(endless), Err(HeaderError::Unterminated { field, most: 1023 }), "{endless}");
    }
    assert_eq!(parent(&format!("parentFileNameHint=\"{}\"", "x".repeat(1023))).unwrap()[0].name.len(), 1023);
    let error = HeaderError::OutOfRange { field, value: 1024, least: 1, most: 1023 };
    assert_eq!(parent(&format!("parentFileNameHint=\"{}\"", "x".repeat(1024))), Err(error));
    // Where QEMU does not look any more.
    assert_eq!(parent(&format!("{}\nparentFileNameHint=\"far\"", "#".repeat(10240))).unwrap(), []);
}

/// An extent of capacity 0 with its descriptor at `sector`, and a parent where QEMU looks for it.
fn nothing_but_a_descriptor(sector: u64) -> Vec<u8> {
    let mut image = vec![0; 4096];
    put(&mut image, 0, b"KDMV\x01\0\0\0");
    put(&mut image, 28, &sector.to_le_bytes());
    put(&mut image, 512, b"parentFileNameHint=\"base.vmdk\"");
    put(&mut image, 2048, &descriptor("RW 1 FLAT \"/etc/shadow\" 0\nparentFileNameHint=\"unread\"\n"));
    image
}

#[test]
fn a_descriptor_may_lie_in_an_extent() {
    assert_eq!(names(&nothing_but_a_descriptor(4)), ["/etc/shadow", "base.vmdk"]);
    assert_eq!(names(&nothing_but_a_descriptor(0)), ["base.vmdk"]);
    let missing = Err(HeaderError::OutOfRange { field: Field::Descriptor, value: 0, least: 1, most: 65535 });
    assert_eq!(read(&nothing_but_a_descriptor(1 << 54)), missing);
    let error = read(&nothing_but_a_descriptor(u64::MAX)).unwrap_err();
    assert!(matches!(error, HeaderError::OutOfRange { field: Field::DescriptorOffset, .. }), "{error}");
    // With a capacity it is not looked at.
    let mut image = nothing_but_a_descriptor(4);
    image[12] = 1;
    assert_eq!(names(&image), ["base.vmdk"]);
    put(&mut image, 0, b"COWD");
    assert_eq!(names(&image), ["base.vmdk"]);
    put(&mut image, 0, &SE_SPARSE);
    assert_eq!(names(&image), [""; 0]);
}

#[test]
fn no_cut_and_no_single_wrong_byte_breaks_the_reader() {
    let text = descriptor("RW 1 FLAT \"disk-f001.vmdk\" 0\nRW 1 SPARSE \"s\"\nparentFileNameHint=\"base\"\n");
    cut_and_forge(&text, Some(Format::Vmdk));
    cut_and_forge(&text, None);
    let image = nothing_but_a_descriptor(4);
    let end = image.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    cut_and_forge(&image[..end], Some(Format::Vmdk));
}
