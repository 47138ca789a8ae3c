//! The attacks, group by group. `canary` is always the absolute path of a file that nobody may open.

mod chains;
mod formats;
mod headers;
mod names;
mod places;

use std::path::Path;

use super::{Case, Group, Qcow2};

pub use chains::chains;
pub use formats::{old_formats, virtual_pc, vmdk};
pub use headers::{extensions, lengths};
pub use names::{backing_names, data_files, protocols, raw_disks};
pub use places::{missing, places};

/// The rule that most attacks break.
const OUTSIDE: &str = "outside the image roots";

/// Every group, for those who want all bytes.
#[must_use]
pub fn all(canary: &Path) -> Vec<Group> {
    vec![
        backing_names(canary),
        protocols(canary),
        data_files(canary),
        raw_disks(canary),
        vmdk(canary),
        old_formats(canary),
        virtual_pc(canary),
        lengths(canary),
        extensions(canary),
        chains(),
        places(canary),
        missing(),
    ]
}

/// A qcow2 image `top.qcow2`, given with its format.
fn qcow2(name: impl Into<String>, image: &Qcow2) -> Case {
    Case::new(name, "top.qcow2", "qcow2", image.bytes())
}

/// The bytes of a raw disk: two MiB of nothing.
fn disk() -> Vec<u8> {
    vec![0; 2 << 20]
}

/// `path` as text.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The name of `canary` from the work folder, whose `aside` folder it must lie in.
fn relative(canary: &Path) -> String {
    format!("../aside/{}", canary.file_name().unwrap_or_default().to_string_lossy())
}
