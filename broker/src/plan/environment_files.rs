//! Small files that the caller's environment names. The broker reads them at the start, and the sandbox gets what it read
//! and took for what it should be: links may lead from such a name to anything of the host, so nothing is mounted there.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::Plan;
use crate::open::pin::Pin;
use crate::paths::absolute_path;

/// Reading for everybody, and searching (inode(7)).
const ALL_MAY_READ: u32 = 0o004;
const ALL_MAY_SEARCH: u32 = 0o001;

/// Whose files count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Those that the broker may read.
    Broker,
    /// Those that everybody may read.
    Everybody,
}

impl Plan {
    /// Whose files the emulator may be given that nobody asked to hand over: as another user than the broker's it has no
    /// right to what is this one's.
    pub(super) fn readers(&self) -> Readers {
        if self.identity.uid == rustix::process::geteuid().as_raw() { Readers::Broker } else { Readers::Everybody }
    }

    /// Puts a file with this content where the emulator looks for `name`. Beneath a tree of the host that is shown anyway it
    /// finds the host's own.
    pub(super) fn show_text(&mut self, name: &Path, content: Vec<u8>) {
        let at = self.installation.through_links(&absolute_path(&self.working_directory, name.as_os_str()));
        let is_shown = self.installation.trees.iter().any(|tree| at.starts_with(tree));
        if !is_shown && !self.shown.texts.iter().any(|(known, _)| *known == at) {
            self.shown.texts.push((at, content));
        }
    }
}

/// The content of the regular file that `path` leads to, if it has `limit` bytes at most and is for these readers. Nothing
/// else is opened: opening a pipe or a device does something to it.
pub(super) fn read(path: &Path, limit: usize, readers: Readers) -> Option<Vec<u8>> {
    let pin = Pin::take(path).ok().filter(|pin| pin.file_type() == FileType::RegularFile)?;
    let file = File::from(pin.reopen(OFlags::RDONLY | OFlags::NONBLOCK).ok()?);
    if readers == Readers::Everybody && !is_for_everybody(&file, pin.path()) {
        return None;
    }
    let mut content = Vec::new();
    let most = u64::try_from(limit).ok()?.checked_add(1)?;
    file.take(most).read_to_end(&mut content).ok()?;
    (content.len() <= limit).then_some(content)
}

/// Whether everybody may read the file, and go through all folders above it.
fn is_for_everybody(file: &File, path: &Path) -> bool {
    let allows = |mode: u32, right: u32| mode & right == right;
    let open = |folder: &Path| folder.metadata().is_ok_and(|metadata| allows(metadata.mode(), ALL_MAY_SEARCH));
    file.metadata().is_ok_and(|metadata| allows(metadata.mode(), ALL_MAY_READ)) && path.ancestors().skip(1).all(open)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{CWD, Mode};

    use super::*;

    #[test]
    fn only_small_regular_files_are_read() {
        let folder = std::env::temp_dir().join(format!("environment-files-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        fs::write(at("file"), b"text").unwrap();
        symlink(at("file"), at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for (name, limit, expected) in [
            ("file", 4, Some(&b"text"[..])),
            ("link", 4, Some(b"text")),
            ("file", 3, None),
            // Nobody writes into it, so opening it would not end.
            ("pipe", 4, None),
            (".", 4, None),
            ("missing", 4, None),
        ] {
            assert_eq!(read(&at(name), limit, Readers::Broker).as_deref(), expected, "{name}, {limit}");
        }
        assert_eq!(read(Path::new("/dev/zero"), 4, Readers::Broker), None);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn for_everybody_is_what_each_folder_leads_to() {
        let folder = std::env::temp_dir().join(format!("environment-files-of-all-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("file");
        fs::write(&file, b"text").unwrap();
        for (folders, files, expected) in [(0o755, 0o644, true), (0o755, 0o640, false), (0o750, 0o644, false)] {
            fs::set_permissions(&file, Permissions::from_mode(files)).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(folders)).unwrap();
            assert_eq!(read(&file, 4, Readers::Everybody).is_some(), expected, "{folders:o}, {files:o}");
            assert!(read(&file, 4, Readers::Broker).is_some());
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
