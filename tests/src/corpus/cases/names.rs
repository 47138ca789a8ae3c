//! Names that lead out of the image roots, or to no file at all.

use std::path::Path;

use super::super::{Case, Group, Qcow2};
use super::{OUTSIDE, disk, qcow2, relative, text};

/// Backing files that lie elsewhere (CVE-2024-4467 for `json:`), each way to spell one.
#[must_use]
pub fn backing_names(canary: &Path) -> Group {
    let path = text(canary);
    let names = [
        path.clone(),
        format!("file:{path}"),
        relative(canary),
        format!("././/../files/{}", relative(canary)),
        format!(r#"json:{{"driver":"raw","file":{{"driver":"file","filename":"{path}"}}}}"#),
        format!(r#"json:{{"driver":"raw","file.driver":"file","file.filename":"{path}"}}"#),
        format!(r#"json:{{"driver":"file","filename":"{path}"}}"#),
    ];
    let mut hostile: Vec<Case> = names
        .iter()
        .map(|name| qcow2(format!("backing file {name}"), &Qcow2::new().over(name, "raw")).says([OUTSIDE]))
        .map(|case| case.says(["backing file", "canary"]))
        .collect();
    let json = format!(r#"json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{path}"}}}}"#);
    hostile.push(qcow2("a driver that states the format", &Qcow2::new().backing(json)).says(["backing file", OUTSIDE]));
    hostile.push(
        qcow2("version 2, which states no format", &Qcow2::version_2().backing(&path)).says(["backing file", &path]),
    );
    hostile.push(
        qcow2("a neighbour without its format", &Qcow2::new().backing("base.raw")).file("base.raw", disk()).says([
            "base.raw",
            "format is not stated",
            "qemu-img rebase -u -F",
        ]),
    );
    let honest = ["base.raw", "./base.raw", "../files/base.raw", "file:base.raw"];
    let honest = honest.map(|name| qcow2(name, &Qcow2::new().over(name, "raw")).file("base.raw", disk()));
    Group { honest: honest.into(), hostile }
}

/// Backing files that are no files: servers, devices, and drivers that open what they like.
#[must_use]
pub fn protocols(canary: &Path) -> Group {
    let path = text(canary);
    let json = |text: &str| (format!("json:{}", text.replace("CANARY", &path)), "json:");
    let cases = [
        ("nbd:127.0.0.1:10809".to_owned(), "\"nbd\""),
        ("nbd://127.0.0.1/x".to_owned(), "\"nbd\""),
        ("nbd+unix:///x?socket=/run/nbd".to_owned(), "\"nbd+unix\""),
        (format!("ssh://root@127.0.0.1{path}"), "\"ssh\""),
        ("http://127.0.0.1/base.raw".to_owned(), "\"http\""),
        ("fat:rw:/etc".to_owned(), "\"fat\""),
        ("host_device:/dev/sda".to_owned(), "\"host_device\""),
        (format!("blkdebug::{path}"), "\"blkdebug\""),
        (format!("blkverify:{path}:{path}"), "\"blkverify\""),
        ("iscsi://127.0.0.1/x/0".to_owned(), "\"iscsi\""),
        ("nvme://0000:00:01.0/1".to_owned(), "\"nvme\""),
        ("/proc/self/environ".to_owned(), "/proc"),
        ("/proc/self/fd/3".to_owned(), "/proc"),
        ("/dev/fdset/0".to_owned(), "descriptor"),
        json(r#"{"driver":"nbd","host":"127.0.0.1","port":"10809"}"#),
        json(r#"{"driver":"raw","file":{"driver":"host_device","filename":"/dev/sda"}}"#),
        json(r#"{"driver":"raw","file":{"driver":"blkdebug","image":{"driver":"file","filename":"CANARY"}}}"#),
        json(r#"{"driver":"raw","file":{"driver":"raw","file":{"driver":"http","url":"http://127.0.0.1/"}}}"#),
        json(r#"{"driver":"vvfat","dir":"/etc"}"#),
        json(r#"{"driver":"null-co"}"#),
        json("{"),
    ];
    let case = |(name, rule): (String, &str)| {
        qcow2(format!("backing file {name}"), &Qcow2::new().over(&name, "raw")).says(["backing file", rule])
    };
    let honest = qcow2("a colon behind a slash", &Qcow2::new().over("./a:b", "raw")).file("a:b", disk());
    Group { honest: vec![honest], hostile: cases.into_iter().map(case).collect() }
}

/// External data files that lie elsewhere (CVE-2024-32498, CVE-2024-4467).
#[must_use]
pub fn data_files(canary: &Path) -> Group {
    let path = text(canary);
    let names = [
        (path.clone(), OUTSIDE),
        (relative(canary), OUTSIDE),
        (format!("file:{path}"), "\"file\""),
        (format!(r#"json:{{"driver":"file","filename":"{path}"}}"#), "json:"),
        (format!(r#"json:{{"driver":"raw","file":{{"driver":"file","filename":"{path}"}}}}"#), "json:"),
        ("nbd://127.0.0.1/x".to_owned(), "\"nbd\""),
        ("/proc/self/environ".to_owned(), "/proc"),
    ];
    let data_file = |(name, rule): (String, &str)| {
        qcow2(format!("data file {name}"), &Qcow2::new().data_file(&name)).says(["data file", rule])
    };
    let mut hostile: Vec<Case> = names.into_iter().map(data_file).collect();
    hostile.push(
        qcow2("beside an honest backing file", &Qcow2::new().over("base.raw", "raw").data_file(&path))
            .file("base.raw", disk())
            .says(["data file", OUTSIDE]),
    );
    hostile.push(
        qcow2("of the backing file", &Qcow2::new().over("mid.qcow2", "qcow2"))
            .file("mid.qcow2", Qcow2::new().data_file(&path).bytes())
            .blames("mid.qcow2")
            .says(["data file", OUTSIDE]),
    );
    let honest = qcow2("data.raw", &Qcow2::new().data_file("data.raw")).file("data.raw", disk()).read_only();
    Group { honest: vec![honest], hostile }
}

/// Raw disks into which their guests wrote a header, given without a format (CVE-2008-2004, CVE-2026-24708).
#[must_use]
pub fn raw_disks(canary: &Path) -> Group {
    let path = text(canary);
    let raw = |name: &str, image: &Qcow2| {
        let mut bytes = image.bytes();
        bytes.resize(disk().len(), 0);
        Case::new(name, "disk.img", "raw", bytes)
    };
    let overlay = raw("a backing file", &Qcow2::new().over(&path, "raw"));
    let data_file = raw("a data file", &Qcow2::new().data_file(&path));
    let descriptor = super::super::Descriptor::new("monolithicFlat").extent("FLAT", &path);
    let extent = Case::new("an extent", "disk.img", "raw", descriptor.text().into_bytes());
    // With the format stated, they are what they are: the guest's bytes.
    let honest = vec![overlay.clone(), data_file.clone()];
    let hostile = [(overlay, "backing file"), (data_file, "data file"), (extent, "extent")];
    let hostile = hostile.map(|(case, role)| case.unstated().says([role, path.as_str()]));
    Group { honest, hostile: hostile.into() }
}
