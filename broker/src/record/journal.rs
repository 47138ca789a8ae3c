//! The journal of a guest that may create files (`--allow create`): which images it was granted, written at the start,
//! and each file that it created, a line each. The next start knows by it what a new overlay may name. The process that
//! adds the lines is confined and can open nothing here any more; it holds the one file, open for appending.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::store::{self, Store};
use super::text::{is_format, path_text, read_path};
use super::{Identity, files};

/// How the name of a journal ends.
pub(super) const ENDING: &str = ".created";

/// Bytes that are read of a journal: 200 images of the longest paths, and ten thousand created files.
pub(super) const LIMIT: usize = 4 << 20;

/// How far behind the clock a file system's times may be: 2 s on FAT, a tick of the kernel elsewhere.
const GRANULARITY: Duration = Duration::from_secs(2);

/// The first line that says something.
const VERSION: &str = "version 1";

/// Stands between what the operator granted and what the confined broker adds.
const BEGIN: &str = "begin";

/// An image that a guest was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is, like [`super::Record::image`].
    pub path: PathBuf,
    /// Which file it is.
    pub file: Identity,
    /// What it was opened as.
    pub format: String,
}

/// A file that a guest created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Where.
    pub path: PathBuf,
    /// Which file it is.
    pub file: Identity,
}

/// A journal that is being kept.
#[derive(Debug)]
pub struct Journal {
    file: OwnedFd,
}

impl Journal {
    /// Begins the journal of a guest that may open `images` and create files beneath `folders` (every link resolved). It
    /// counts as alive for as long as any process has its descriptor.
    ///
    /// # Errors
    /// [`store::Error::Write`].
    pub fn start(store: &Store, images: &[Listed], folders: &[PathBuf]) -> Result<Self, store::Error> {
        let failed = |source: Errno| store::Error::Write { path: store.path().to_owned(), source: source.into() };
        let folder = store.folder().ok_or(Errno::ROFS).map_err(failed)?;
        Self::create(folder, &header(images, folders)).map_err(failed)
    }

    fn create(folder: BorrowedFd<'_>, header: &str) -> Result<Self, Errno> {
        let temporary = files::temporary_name()?;
        let file = files::create(folder, &temporary)?;
        let name = temporary.replace(files::TEMPORARY, ENDING);
        // Before it has its name, by which others judge whether it is alive. On a file system without locks nobody can,
        // and then nobody removes it.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        files::finish(folder, &temporary, file.as_fd(), &name, header.as_bytes())?;
        Ok(Self { file })
    }

    /// Writes down that the guest created `path`.
    ///
    /// # Errors
    /// Those of `write(2)`: `ENOSPC`, `EDQUOT`, `EIO` ...; also where not the whole line could be written.
    pub fn add(&self, path: &Path, file: Identity) -> io::Result<()> {
        let line = format!("created {}\n", place_of(path, file));
        // At once, so that lines of several threads do not mix.
        match rustix::io::write(&self.file, line.as_bytes()) {
            Ok(count) if count == line.len() => Ok(()),
            Ok(_) => Err(Errno::NOSPC.into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn header(images: &[Listed], folders: &[PathBuf]) -> String {
    // Its own granularity back, or a file created at once would seem older than the guest.
    let started = SystemTime::now() - GRANULARITY;
    let since = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut text =
        String::from("# What a guest of broker may name in the images that it creates, and those that it created.\n");
    let mut line = |words: String| text.extend([&words, "\n"]);
    line(VERSION.to_owned());
    line(format!("started {}.{:09}", since.as_secs(), since.subsec_nanos()));
    folders.iter().for_each(|folder| line(format!("folder {}", path_text(folder))));
    images.iter().for_each(|image| line(format!("image {} {}", image.format, place_of(&image.path, image.file))));
    line(BEGIN.to_owned());
    text
}

/// Inode number, birth (or 0) and, last as it may hold spaces, the path.
fn place_of(path: &Path, file: Identity) -> String {
    format!("{} {} {}", file.inode, file.born_text().as_deref().unwrap_or("0"), path_text(path))
}

fn read_place(words: &str) -> Option<(PathBuf, Identity)> {
    let (inode, words) = words.split_once(' ')?;
    let (born, path) = words.split_once(' ')?;
    Some((read_path(path)?, Identity::read(inode, Some(born).filter(|born| *born != "0"))?))
}

/// Whether no process has the journal `name` open for writing any more. If the file system cannot tell: no.
pub(super) fn is_dead(folder: BorrowedFd<'_>, name: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty());
    // A shared lock is in the way of no other reader; on NFS an exclusive one takes a file that is open for writing.
    file.is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok())
}

/// What a journal says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// What the guest was granted.
    pub images: Vec<Listed>,
    /// Where it could create files.
    pub folders: Vec<PathBuf>,
    /// When it was started: seconds and nanoseconds since 1970.
    pub started: (i64, u32),
    /// What it created.
    pub created: Vec<Created>,
}

impl Told {
    /// Reads a journal, and of one that is too long its beginning. A last line without an end is that of a crash.
    ///
    /// # Errors
    /// [`Damage`], about what was written at the start. The lines below it come from a process that the guest may have
    /// taken over: those that make no sense are left out, and so are files where it could not create any.
    pub fn read(bytes: &[u8]) -> Result<Self, Damage> {
        let end = bytes.iter().take(LIMIT).rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let bytes = bytes.get(..end).unwrap_or_default();
        let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| std::str::from_utf8(line).unwrap_or_default());
        let mut told = Self::default();
        match lines.by_ref().find(|line| !line.starts_with('#')) {
            Some(VERSION) => {}
            _ => return Err(Damage::Version),
        }
        loop {
            let line = lines.next().ok_or(Damage::Cut)?;
            match line.split_once(' ') {
                Some(("started", time)) => told.started = read_time(time).ok_or(Damage::Line("started"))?,
                Some(("folder", folder)) => told.folders.push(read_path(folder).ok_or(Damage::Line("folder"))?),
                Some(("image", words)) => told.images.push(read_listed(words).ok_or(Damage::Line("image"))?),
                None if line == BEGIN => break,
                _ => return Err(Damage::Cut),
            }
        }
        let created = lines.filter_map(|line| read_place(line.strip_prefix("created ")?));
        let created = created.map(|(path, file)| Created { path, file });
        told.created =
            created.filter(|created| told.folders.iter().any(|folder| lies_beneath(&created.path, folder))).collect();
        Ok(told)
    }

    /// Whether the guest created `file`, which lies at `image` now.
    #[must_use]
    pub fn has_created(&self, image: &Path, file: Identity) -> bool {
        self.created.iter().any(|created| self.is_that(created, image, file))
    }

    /// Whether `created` is `file`, which lies at `path`. Another path is believed only of a file younger than the guest:
    /// who took the broker over could write down the identity of any other one.
    pub(super) fn is_that(&self, created: &Created, path: &Path, file: Identity) -> bool {
        let is_young = file.born.is_some_and(|born| born >= self.started);
        (created.path == path && created.file.may_be(file)) || (is_young && created.file.is_surely(file))
    }
}

impl Listed {
    /// Whether a reference to `path`, where `file` lies now, leads to this image, or to what the operator put in its place.
    pub(super) fn is_at(&self, path: &Path, file: Identity) -> bool {
        self.path == path || self.file.is_surely(file)
    }
}

/// By its letters alone: whoever wrote it had links resolved.
fn lies_beneath(path: &Path, folder: &Path) -> bool {
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    path.starts_with(folder) && path != folder && !climbs
}

fn read_listed(words: &str) -> Option<Listed> {
    let (format, place) = words.split_once(' ').filter(|(format, _)| is_format(format))?;
    let (path, file) = read_place(place)?;
    Some(Listed { path, file, format: format.to_owned() })
}

fn read_time(text: &str) -> Option<(i64, u32)> {
    Identity::read("0", Some(text))?.born
}

/// What is wrong with a journal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Another program's, or that of a later version.
    #[error("it is no journal of version 1")]
    Version,
    /// One line.
    #[error("a line that begins with `{0}` makes no sense")]
    Line(&'static str),
    /// It ends before it begins.
    #[error("its head is not whole")]
    Cut,
}

#[cfg(test)]
mod tests;
