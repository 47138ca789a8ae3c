//! Other formats whose headers name files.

use std::path::Path;

use super::super::{Case, Descriptor, Group, qcow, qed, vhdx, vpc};
use super::{OUTSIDE, disk, relative, text};

/// Extents and parents of vmdk (CVE-2022-47951).
#[must_use]
pub fn vmdk(canary: &Path) -> Group {
    let path = text(canary);
    let (flat, sparse) = (Descriptor::new("monolithicFlat"), Descriptor::new("monolithicSparse"));
    let own = |descriptor: &Descriptor| descriptor.clone().extent("SPARSE", "top.vmdk").sparse();
    let case = |name: &str, bytes: Vec<u8>| Case::new(name, "top.vmdk", "vmdk", bytes);
    let alone = |name: &str, descriptor: Descriptor| case(name, descriptor.text().into_bytes());
    let hostile = vec![
        alone("flat extent", flat.clone().extent("FLAT", &path)).says(["extent", OUTSIDE]),
        alone("flat extent, relative", flat.clone().extent("FLAT", &relative(canary))).says(["extent", OUTSIDE]),
        alone("VMFS extent", Descriptor::new("vmfs").extent("VMFS", &path)).says(["extent", OUTSIDE]),
        alone("sparse extent", Descriptor::new("twoGbMaxExtentSparse").extent("SPARSE", &path))
            .says(["extent", OUTSIDE]),
        alone("second extent", flat.clone().extent("FLAT", "flat.vmdk").extent("FLAT", &path))
            .file("flat.vmdk", disk())
            .says(["extent", OUTSIDE]),
        case("extent of a shell", flat.clone().extent("FLAT", &path).sparse_shell()).says(["extent", OUTSIDE]),
        alone("extent that is no file", flat.clone().extent("FLAT", "nbd://127.0.0.1/x")).says(["extent", "nbd:"]),
        alone("extent by json", flat.clone().extent("FLAT", "json:{'driver':'file','filename':'/x'}"))
            .says(["extent", "json:"]),
        case("parent of a sparse image", own(&sparse.clone().parent(&path))).says(["backing file", &path]),
        alone("parent of a flat image", flat.clone().extent("FLAT", "flat.vmdk").parent(&path))
            .file("flat.vmdk", disk())
            .says(["backing file", &path]),
        alone("extent of an extent", Descriptor::new("twoGbMaxExtentSparse").extent("SPARSE", "s.vmdk"))
            .file("s.vmdk", flat.clone().extent("FLAT", &path).sparse_shell())
            .says(["s.vmdk", "further files"]),
    ];
    let honest = vec![
        alone("flat", flat.extent("FLAT", "flat.vmdk")).file("flat.vmdk", disk()).read_only(),
        case("sparse", own(&sparse)),
    ];
    Group { honest, hostile }
}

/// Backing files of qcow and qed.
#[must_use]
pub fn old_formats(canary: &Path) -> Group {
    let path = text(canary);
    let name = path.as_bytes();
    let case = |name: &str, format: &'static str, bytes| Case::new(name, &format!("top.{format}"), format, bytes);
    let mut hostile = vec![
        case("qcow", "qcow", qcow(name, None)).says(["backing file", &path]),
        case("qed, raw", "qed", qed(name, true, None)).says(["backing file", &path, OUTSIDE]),
        case("qed", "qed", qed(name, false, None)).says(["backing file", &path]),
    ];
    for length in [1024, u32::MAX] {
        hostile.push(case("long name", "qcow", qcow(name, Some(length))).says(["backing_file_size"]));
        hostile.push(case("long name", "qed", qed(name, true, Some(length))).says(["backing_file_size"]));
    }
    let honest = vec![
        case("qcow", "qcow", qcow(b"", None)),
        case("qed", "qed", qed(b"", false, None)),
        case("qed over raw", "qed", qed(b"base.raw", true, None)).file("base.raw", disk()),
    ];
    Group { honest, hostile }
}

/// Parents of vhdx and vpc, which QEMU cannot follow.
#[must_use]
pub fn virtual_pc(canary: &Path) -> Group {
    let path = text(canary);
    let case = |format: &'static str, bytes| Case::new("a parent", &format!("top.{format}"), format, bytes);
    Group {
        honest: vec![case("vhdx", vhdx(None)), case("vpc", vpc(None))],
        hostile: vec![
            case("vhdx", vhdx(Some(&path))).says(["file parameters", "parent"]),
            case("vpc", vpc(Some(&path))).says(["disk type", "parent"]),
        ],
    }
}
