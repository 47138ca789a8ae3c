//! Folders that the operator declared: what lies beneath them may be inserted, attached, or created, without having been pinned at
//! the start.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::open::pin::Pin;

/// What a folder was declared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// `--medium-dir`: regular files beneath it may be read.
    Media,
    /// `--allow create=DIR`: new files may be made beneath it. A file that the command line has the program make, too.
    Creation,
    /// `--allow attach=DIR`: regular files that are there may be read and written.
    Attachment,
}

impl Purpose {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Media, Self::Creation, Self::Attachment];
}

/// A declared folder.
#[derive(Debug)]
pub struct Folder {
    /// What for.
    pub purpose: Purpose,
    /// The folder.
    pub pin: Arc<Pin>,
    /// The folder and all beneath it through a read-only mount; for media.
    pub view: Option<OwnedFd>,
    /// Its absolute path as the operator spelled it.
    pub at: PathBuf,
    /// The only name in it that is meant; none: all beneath it.
    pub only: Option<NewFile>,
}

/// A file that the command line has the program make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Its name in the folder.
    pub name: OsString,
    /// The option that names it, as typed; for messages.
    pub option: String,
}

impl Folder {
    /// Whether any file may be made there (`--allow create=DIR`).
    #[must_use]
    pub fn is_for_new_files(&self) -> bool {
        self.purpose == Purpose::Creation && self.only.is_none()
    }

    /// What lets files be made there, as the operator wrote it.
    #[must_use]
    pub fn option(&self) -> String {
        self.only.as_ref().map_or_else(|| format!("--allow create={}", self.at.display()), |only| only.option.clone())
    }

    /// What look-ups beneath it start from.
    #[must_use]
    pub fn source(&self) -> BorrowedFd<'_> {
        self.view.as_ref().map_or_else(|| self.pin.as_fd(), AsFd::as_fd)
    }

    /// The place of `path`, which is absolute, beneath this folder.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let beneath = path.strip_prefix(&self.at).or_else(|_| path.strip_prefix(self.pin.path())).ok()?;
        let meant = self.only.as_ref().is_none_or(|only| beneath == Path::new(&only.name));
        (meant && !beneath.as_os_str().is_empty()).then(|| beneath.to_owned())
    }
}

/// Look-ups that renames on the host may disturb, before the emulator is told to try again.
const ATTEMPTS: usize = 64;

/// A name beneath a declared folder.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder.
    pub folder: Arc<Folder>,
    /// The path from there: not empty, without `..`.
    pub beneath: PathBuf,
}

impl Place {
    /// Opens what stands there as a mere place; links are followed as far as `resolve` says, and never out of the folder.
    ///
    /// # Errors
    /// Those of `openat2(2)`: `ENOENT`; `EXDEV` or `ELOOP` where a link would have to be followed.
    pub fn look_up(&self, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        self.open(self.folder.source(), &self.beneath, OFlags::PATH, resolve)
    }

    /// The folder that the name lies in, no link on the way, and the last component.
    ///
    /// # Errors
    /// Those of `openat2(2)`: `ENOENT`; `ELOOP` where a link stands on the way.
    pub fn parent(&self) -> rustix::io::Result<(OwnedFd, OsString)> {
        let name = self.beneath.file_name().ok_or(rustix::io::Errno::ISDIR)?;
        let parent = self.beneath.parent().filter(|parent| *parent != OsStr::new(""));
        let parent = parent.unwrap_or_else(|| Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let folder = self.open(self.folder.pin.as_fd(), parent, flags, ResolveFlags::NO_SYMLINKS)?;
        Ok((folder, name.to_owned()))
    }

    fn open(
        &self,
        from: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> rustix::io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let look = || rustix::fs::openat2(from, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        // EAGAIN: something was renamed on the host while a `..` in a link was followed (openat2(2)).
        let mut tries = std::iter::repeat_with(look).take(ATTEMPTS);
        tries.find(|result| !matches!(result, Err(rustix::io::Errno::AGAIN))).unwrap_or(Err(rustix::io::Errno::AGAIN))
    }
}

/// All declared folders.
#[derive(Debug, Default)]
pub struct Folders {
    folders: Vec<Arc<Folder>>,
}

impl Folders {
    /// These.
    #[must_use]
    pub fn new(folders: Vec<Folder>) -> Self {
        Self { folders: folders.into_iter().map(Arc::new).collect() }
    }

    /// Where the absolute path `name` lies in a folder for `purpose`, the innermost if there are several.
    #[must_use]
    pub fn locate(&self, purpose: Purpose, name: &[u8]) -> Option<Place> {
        let path = Path::new(OsStr::from_bytes(name));
        let places = self
            .folders
            .iter()
            .filter(|folder| folder.purpose == purpose)
            .filter_map(|folder| folder.place(path).map(|beneath| Place { folder: Arc::clone(folder), beneath }));
        places.min_by_key(|place| place.beneath.components().count())
    }

    /// Whether there is one for `purpose`.
    #[must_use]
    pub fn has(&self, purpose: Purpose) -> bool {
        self.folders.iter().any(|folder| folder.purpose == purpose)
    }

    /// Whether `name` is an absolute path of one of them, or of a folder on the way to one.
    #[must_use]
    pub fn leads_to(&self, name: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(name));
        self.folders.iter().any(|folder| folder.at.starts_with(path) || folder.pin.path().starts_with(path))
    }
}
