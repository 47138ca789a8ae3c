//! What a sandbox shows of the host beside what every emulator needs: the parts of `/sys` that describe a device which is
//! handed to the guest, the data of a library that only some options use.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// Parts of the host that the sandbox shows, none of which can be written there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Files and folders, each at its own path, with links resolved; they may be read and listed.
    pub trees: Vec<PathBuf>,
    /// Symbolic links of the sandbox: where, and to what.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Small files that are made for the sandbox: where, and with what in them.
    pub texts: Vec<(PathBuf, Vec<u8>)>,
    /// Folders of the sandbox that may be listed and hold nothing but what is shown or granted in them.
    pub folders: Vec<PathBuf>,
    /// Names that libraries look for in vain, with all beneath them: the sandbox answers, unless the broker knows the name.
    pub sought: Vec<PathBuf>,
    /// UNIX sockets of services that libraries do without; an abstract one has a NUL before it.
    pub unreached: Vec<Vec<u8>>,
}

impl Shown {
    /// Shows `path` as it is on the host, also where links lead to it. Not shown is what this process may not read, for
    /// neither may the emulator, and a name for all of the host. `path` must not come from the caller's environment: what
    /// its links lead to is shown, whatever it is.
    pub fn add(&mut self, path: &Path) -> bool {
        let real = path.canonicalize().ok().filter(|real| real != Path::new("/") && is_readable(real));
        let Some(real) = real else { return false };
        if real != path {
            self.add_link(path, &real);
        }
        if !self.trees.contains(&real) {
            self.trees.push(real);
        }
        true
    }

    /// A link at `path` that leads to `target`.
    pub fn add_link(&mut self, path: &Path, target: &Path) {
        if !self.links.iter().any(|(at, _)| at == path) {
            self.links.push((path.to_owned(), target.to_owned()));
        }
    }

    /// A folder of the sandbox's own.
    pub fn add_folder(&mut self, path: &Path) {
        if !self.folders.iter().any(|folder| folder == path) {
            self.folders.push(path.to_owned());
        }
    }
}

/// Whether this process may read a file, or list a folder and look into it, by the rights of its user alone: those to all
/// files end with the user namespace.
fn is_readable(path: &Path) -> bool {
    let search = if path.is_dir() { Access::EXEC_OK } else { Access::empty() };
    rustix::fs::access(path, Access::READ_OK | search).is_ok()
}
