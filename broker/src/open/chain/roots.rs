//! The folders that what a header names must lie beneath.
//!
//! They are pinned, and a member is looked up from the pin with `RESOLVE_BENEATH`. Where a name leads is asked first,
//! but that is only a hint: somebody may exchange a link or move a folder between the question and the opening, and
//! then nothing is found, or another file beneath the same root.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::super::pin::Pin;

/// How often a look-up is begun anew that a rename elsewhere has disturbed (`EAGAIN`, openat2(2)).
const ATTEMPTS: usize = 100;

/// A folder beneath which members may lie.
#[derive(Debug)]
pub struct Root(Pin);

impl Root {
    /// Pins a folder.
    ///
    /// # Errors
    /// Those of `open(2)`; `ENOTDIR`.
    pub fn take(path: &Path) -> io::Result<Self> {
        let pin = Pin::take(path)?;
        if pin.file_type() == FileType::Directory { Ok(Self(pin)) } else { Err(Errno::NOTDIR.into()) }
    }

    /// Where it is, links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Pins what lies at `beneath`, a path without links.
    fn find(&self, beneath: &Path) -> io::Result<Pin> {
        let beneath = if beneath.as_os_str().is_empty() { Path::new(".") } else { beneath };
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(self.0.as_fd(), beneath, flags, Mode::empty(), resolve);
        let opened = (0..ATTEMPTS).map(|_| open()).find(|opened| !matches!(opened, Err(Errno::AGAIN)));
        Pin::of(opened.unwrap_or(Err(Errno::AGAIN))?)
    }
}

/// Folders that hold images.
#[derive(Debug, Default)]
pub struct ImageRoots {
    /// Those that the operator names: all beneath them may be read.
    pub named: Vec<Root>,
    /// Those in which images of the command line lie: regular files beneath them may be read, but nothing whose name, or whose
    /// folder's, begins with a dot. A home folder that holds an image holds keys too.
    pub implied: Vec<Root>,
}

/// Where image roots are.
#[derive(Debug, Default)]
pub struct RootPaths {
    /// Of [`ImageRoots::named`].
    pub named: Vec<PathBuf>,
    /// Of [`ImageRoots::implied`].
    pub implied: Vec<PathBuf>,
}

/// What a name leads to.
#[derive(Debug)]
pub enum Place {
    /// Something beneath a root.
    Beneath(Pin),
    /// Something of the kernel's own.
    Kernel(PathBuf),
    /// Something else; it was not opened.
    Outside(PathBuf),
}

impl ImageRoots {
    /// The folders `named` by the operator; and those of `images`, unless the administrator wants them `strict`.
    ///
    /// # Errors
    /// Those of [`Root::take`], with the folder.
    pub fn new<'a>(
        named: &[PathBuf],
        images: impl Iterator<Item = &'a Pin>,
        strict: bool,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let take = |path: &Path| Root::take(path).map_err(|source| (path.to_owned(), source));
        let named = named.iter().map(|path| take(path)).collect::<Result<_, _>>()?;
        let implied = if strict { Vec::new() } else { implied_by(images) };
        Ok(Self { named, implied: implied.into_iter().map(take).collect::<Result<_, _>>()? })
    }

    /// Where they are, links resolved.
    #[must_use]
    pub fn paths(&self) -> RootPaths {
        let paths = |roots: &[Root]| roots.iter().map(|root| root.path().to_owned()).collect();
        RootPaths { named: paths(&self.named), implied: paths(&self.implied) }
    }

    /// Pins what `path` leads to, if that lies beneath a root. Nothing else is opened, not even with `O_PATH`.
    ///
    /// # Errors
    /// `ENOENT` and its relatives: there is nothing, or somebody is moving it about.
    pub fn find(&self, path: &Path) -> io::Result<Place> {
        let real = path.canonicalize()?;
        if ["/proc", "/sys"].iter().any(|kernel| real.starts_with(kernel)) {
            return Ok(Place::Kernel(real));
        }
        if let Some(found) = find_in(&self.named, &real) {
            return found.map(Place::Beneath);
        }
        // In the folder of an image every regular file may be one, and a device none.
        let visible = |beneath: &Path| beneath.iter().all(|part| !part.as_bytes().starts_with(b"."));
        let implied = self.implied.iter().filter(|root| real.strip_prefix(root.path()).is_ok_and(visible));
        match find_in(implied, &real).transpose()? {
            Some(pin) if pin.file_type() != FileType::BlockDevice => Ok(Place::Beneath(pin)),
            _ => Ok(Place::Outside(real)),
        }
    }
}

/// The folders of `images`. An image in the root folder, or a device, implies none: what lies beside it are not images.
fn implied_by<'a>(images: impl Iterator<Item = &'a Pin>) -> Vec<&'a Path> {
    let files = images.filter(|pin| pin.file_type() == FileType::RegularFile);
    let folders = files.filter_map(|pin| pin.path().parent()).filter(|folder| *folder != Path::new("/"));
    let mut implied: Vec<&Path> = folders.collect();
    implied.sort_unstable();
    implied.dedup();
    implied
}

fn find_in<'a>(roots: impl IntoIterator<Item = &'a Root>, real: &Path) -> Option<io::Result<Pin>> {
    let (root, beneath) = roots.into_iter().find_map(|root| Some((root, real.strip_prefix(root.path()).ok()?)))?;
    Some(root.find(beneath))
}
