//! What a sandbox shows of the host beside what every emulator needs: the parts of `/sys` that describe a device which is
//! handed to the guest, the data of a library that only some options use.

use std::path::PathBuf;

/// Parts of the host that the sandbox shows, none of which can be written there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Files and folders, each at its own path, with links resolved; they may be read and listed.
    pub trees: Vec<PathBuf>,
    /// Symbolic links of the sandbox: where, and to what.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Folders of the sandbox that may be listed and hold nothing but what is shown or granted in them.
    pub folders: Vec<PathBuf>,
}
