//! Honest names at which something lies that may not be opened.

use std::path::{Path, PathBuf};

use super::super::{Entry, Group, Qcow2};
use super::{OUTSIDE, disk, qcow2};

/// Links, devices, and files that are hidden.
#[must_use]
pub fn places(canary: &Path) -> Group {
    let over = |name: &str| qcow2(format!("backing file {name}"), &Qcow2::new().over(name, "raw")).says([name]);
    let link = |target: &str| Entry::Link(PathBuf::from(target));
    let aside = canary.parent().unwrap_or(canary).to_owned();
    let through_folder = format!("elsewhere/{}", canary.file_name().unwrap_or_default().to_string_lossy());
    let hostile = vec![
        over("link.raw").with("link.raw", Entry::Link(canary.to_owned())).says([OUTSIDE]),
        over(&through_folder).with("elsewhere", Entry::Link(aside)).says([OUTSIDE]),
        over("pipe.raw").with("pipe.raw", Entry::Fifo).says(["FIFO"]),
        over("folder.raw").with("folder.raw", Entry::Folder).says(["directory"]),
        over("/dev/kmsg").says([OUTSIDE]),
        over("/dev/tty").says([OUTSIDE]),
        over("console.raw").with("console.raw", link("/dev/kmsg")).says([OUTSIDE]),
        over("environment.raw").with("environment.raw", link("/proc/self/environ")).says(["kernel"]),
        over(".hidden.raw").file(".hidden.raw", disk()).says(["hidden"]),
        over(".keys/id").with(".keys", Entry::Folder).file(".keys/id", disk()).says(["hidden"]),
    ];
    let honest = vec![
        over("link.raw").file("base.raw", disk()).with("link.raw", link("base.raw")),
        over("folder/base.raw").with("folder", Entry::Folder).file("folder/base.raw", disk()),
        over("up/base.raw").file("base.raw", disk()).with("folder", Entry::Folder).with("up", link("folder/..")),
    ];
    Group { honest, hostile }
}

/// Honest names at which nothing lies. `qemu-img info` does without a backing file, and so it may.
#[must_use]
pub fn missing() -> Group {
    let over = |name: &str| qcow2(format!("backing file {name}"), &Qcow2::new().over(name, "raw")).says([name]);
    let loops = over("loop.raw").with("loop.raw", Entry::Link(PathBuf::from("loop.raw")));
    let hostile = [over("missing.raw"), over("missing/base.raw"), loops].map(|case| case.says(["cannot find"]));
    Group { honest: Vec::new(), hostile: hostile.into() }
}
