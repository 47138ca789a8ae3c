//! Reading and writing records: one file for each image, named `HASH OF THE PATH-INODE-BIRTH.chain`, so that one look at
//! the list of names finds what is known by a path, or by a file under another path.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;

use super::files::TEMPORARY;
use super::journal::{self, Told};
use super::{Finding, How, Identity, Memory, Record, Verdict, files, place, text};
use crate::fingerprint::fingerprint;
use crate::shell;

/// How the name of a record ends.
const RECORD: &str = ".chain";

/// The records of one folder, as their list was when it was opened.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// None: there is none yet, and nothing in it.
    folder: Option<OwnedFd>,
    names: BTreeSet<String>,
    journals: Vec<(String, Told)>,
}

impl Store {
    /// Opens the records in `folder`; to write, it is made if it is missing, and what crashes and guests without
    /// created files have left there is removed.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(path: &Path, purpose: place::Purpose) -> Result<Self, Error> {
        let folder = place::open(path, purpose)?;
        let mut store = Self { path: path.to_owned(), folder, names: BTreeSet::new(), journals: Vec::new() };
        store.names = store.list()?;
        for name in store.names.clone().into_iter().filter(|name| name.ends_with(journal::ENDING)) {
            if let Some(bytes) = store.read(&name, journal::LIMIT)? {
                let told = Told::read(&bytes).map_err(|source| store.damaged(&name, source.into()))?;
                store.journals.push((name, told));
            }
        }
        if purpose == place::Purpose::Write {
            store.clean_up()?;
        }
        Ok(store)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing is written there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The folder, if there is one.
    pub(super) fn folder(&self) -> Option<BorrowedFd<'_>> {
        self.folder.as_ref().map(AsFd::as_fd)
    }

    /// Every record, in the order of the images' paths.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Read`].
    pub fn all(&self) -> Result<Vec<Record>, Error> {
        let names = self.names.iter().filter(|name| name.ends_with(RECORD));
        let records: Result<Vec<_>, Error> = names.filter_map(|name| self.record(name).transpose()).collect();
        let mut records = records?;
        records.sort_by(|one, other| one.image.cmp(&other.image));
        Ok(records)
    }

    /// What is recorded of `image`, whichever file it was; usually one record.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn of_path(&self, image: &Path) -> Result<Vec<Record>, Error> {
        let start = path_part(image);
        let names = self.names.range(start.clone()..).take_while(|name| name.starts_with(&start));
        let records = names.filter(|name| name.ends_with(RECORD)).filter_map(|name| self.record(name).transpose());
        // Two paths may have the same hash.
        records.filter(|record| record.as_ref().map_or(true, |record| record.image == image)).collect()
    }

    /// What is recorded of `file`, under whatever path.
    fn of_file(&self, file: Identity) -> Result<Option<Record>, Error> {
        if file.born.is_none() {
            return Ok(None);
        }
        let end = format!("-{file}{RECORD}");
        for name in self.names.iter().filter(|name| name.ends_with(&end)) {
            match self.record(name)? {
                Some(record) if record.file.is_surely(file) => return Ok(Some(record)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Writes `records` down, each in the place of every other one of the same path.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Text`].
    pub fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        records.iter().try_for_each(|record| self.write_one(record))?;
        // Once for all of them. Without it a power failure may take the record of a start that went on.
        self.folder().map_or(Ok(()), files::settle).map_err(|source| self.not_written(source))
    }

    fn write_one(&mut self, record: &Record) -> Result<(), Error> {
        let bytes = text::write(record).map_err(|source| Error::Text { image: record.image.clone(), source })?;
        let older = self.of_path(&record.image)?;
        if older.as_slice() == std::slice::from_ref(record) {
            return Ok(());
        }
        let name = file_name(record);
        let folder = self.folder().ok_or(Errno::ROFS);
        let written = folder.and_then(|folder| files::replace(folder, &name, bytes.as_bytes()));
        written.map_err(|source| self.not_written(source))?;
        for other in older.iter().map(file_name).filter(|other| *other != name) {
            self.remove(&other)?;
        }
        self.names.insert(name);
        Ok(())
    }

    /// Does what a comparison came to; nothing where a change was refused.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn renew(&mut self, verdict: &Verdict) -> Result<(), Error> {
        if !verdict.refusals.is_empty() {
            return Ok(());
        }
        self.write(&verdict.renewals)?;
        // Afterwards, so that the image is known at any moment.
        verdict.removals.iter().try_for_each(|record| self.remove(&file_name(record)))
    }

    /// Removes what is recorded of `image`; says whether there was anything.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn forget(&mut self, image: &Path) -> Result<bool, Error> {
        let records = self.of_path(image)?;
        records.iter().try_for_each(|record| self.remove(&file_name(record)))?;
        Ok(!records.is_empty())
    }

    /// Removes the records of images whose path leads nowhere, and says which; likewise what is told about guests that
    /// have ended, if all that they created is gone.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn forget_missing(&mut self) -> Result<Vec<PathBuf>, Error> {
        let mut forgotten = Vec::new();
        for record in self.all()?.into_iter().filter(|record| leads_nowhere(&record.image)) {
            self.remove(&file_name(&record))?;
            forgotten.push(record.image);
        }
        self.remove_journals(|told| told.created.iter().all(|created| leads_nowhere(&created.path)))?;
        Ok(forgotten)
    }

    /// Removes unfinished files of writers that died, and journals that tell nothing new.
    fn clean_up(&mut self) -> Result<(), Error> {
        let folder = self.folder.as_ref().map(AsFd::as_fd);
        for name in self.names.iter().filter(|name| name.ends_with(TEMPORARY)) {
            if folder.is_some_and(|folder| files::is_abandoned(folder, name)) {
                self.unlink(name)?;
            }
        }
        let records = &*self;
        let is_recorded = |created: &journal::Created| {
            let known = records.find(&created.path, created.file);
            matches!(known, Ok(Finding::Recorded(_, How::Same | How::Moved | How::Linked)))
        };
        let done = records.journals.iter().filter(|(_, told)| told.created.iter().all(is_recorded));
        let done: Vec<String> = done.map(|(name, _)| name.clone()).collect();
        self.remove_dead_journals(&done)
    }

    fn remove_journals(&mut self, is_done: impl Fn(&Told) -> bool) -> Result<(), Error> {
        let done: Vec<String> =
            self.journals.iter().filter(|(_, told)| is_done(told)).map(|(name, _)| name.clone()).collect();
        self.remove_dead_journals(&done)
    }

    /// Removes those of `names` whose guest has ended.
    fn remove_dead_journals(&mut self, names: &[String]) -> Result<(), Error> {
        for name in names {
            if self.folder().is_some_and(|folder| journal::is_dead(folder, name)) {
                self.remove(name)?;
                self.journals.retain(|(other, _)| other != name);
            }
        }
        Ok(())
    }

    fn record(&self, name: &str) -> Result<Option<Record>, Error> {
        let Some(bytes) = self.read(name, text::LIMIT)? else { return Ok(None) };
        text::read(&bytes).map(Some).map_err(|source| self.damaged(name, source.into()))
    }

    fn damaged(&self, name: &str, source: Damage) -> Error {
        Error::Damaged { path: self.path.join(name), source }
    }

    fn not_written(&self, source: Errno) -> Error {
        Error::Write { path: self.path.clone(), source: source.into() }
    }

    fn list(&self) -> Result<BTreeSet<String>, Error> {
        let Some(folder) = &self.folder else { return Ok(BTreeSet::new()) };
        let failed = |source: Errno| Error::Read { path: self.path.clone(), source: source.into() };
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(folder).map_err(failed)? {
            // Whatever has another name was not written by this program.
            if let Ok(name) = entry.map_err(failed)?.file_name().to_str() {
                names.insert(name.to_owned());
            }
        }
        names.retain(|name| [RECORD, journal::ENDING, TEMPORARY].iter().any(|ending| name.ends_with(ending)));
        Ok(names)
    }

    /// Reads at most `limit` bytes and one more; `None` if the file was removed meanwhile.
    fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let Some(folder) = &self.folder else { return Ok(None) };
        match files::read(folder.as_fd(), name, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Errno::NOENT | Errno::STALE) => Ok(None),
            Err(source) => Err(Error::Read { path: self.path.join(name), source: source.into() }),
        }
    }

    fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.unlink(name)?;
        self.names.remove(name);
        Ok(())
    }

    fn unlink(&self, name: &str) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(self.not_written(source)),
        }
    }
}

impl Memory for Store {
    /// What is known about the file `file`, which is found at `image`. That of the file itself comes before that of another
    /// one which had its path.
    fn find(&self, image: &Path, file: Identity) -> Result<Finding, Error> {
        let mut at_path = self.of_path(image)?;
        // The record of exactly this file before one of which that may be true.
        at_path.sort_by_key(|record| (record.file != file, !record.file.may_be(file)));
        let at_path = at_path.into_iter().next();
        if let Some(record) = at_path.as_ref().filter(|record| record.file.may_be(file)) {
            return Ok(Finding::Recorded(record.clone(), How::Same));
        }
        if let Some(record) = self.of_file(file)? {
            let is_there = Identity::at(&record.image).map(|found| found.is_surely(file));
            // Who cannot look does not know that it has gone.
            let has_moved = is_there.map_or_else(|error| means_gone(&error), |is_there| !is_there);
            return Ok(Finding::Recorded(record, if has_moved { How::Moved } else { How::Linked }));
        }
        if let Some((_, told)) = self.journals.iter().find(|(_, told)| told.has_created(image, file)) {
            return Ok(Finding::Created(told.clone()));
        }
        Ok(at_path.map_or(Finding::Unknown, |record| Finding::Recorded(record, How::Replaced)))
    }
}

fn path_part(image: &Path) -> String {
    format!("{:016x}-", fingerprint(image.as_os_str().as_bytes()))
}

fn file_name(record: &Record) -> String {
    format!("{}{}{RECORD}", path_part(&record.image), record.file)
}

fn leads_nowhere(path: &Path) -> bool {
    Identity::at(path).is_err_and(|error| means_gone(&error))
}

fn means_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What is wrong with a file of the folder.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A record.
    #[error(transparent)]
    Record(#[from] text::Error),
    /// A journal.
    #[error(transparent)]
    Journal(#[from] journal::Damage),
}

/// Why records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder.
    #[error(transparent)]
    Place(#[from] place::Error),
    /// One file cannot be read.
    #[error("cannot read the recorded image chains in {}: {source}", shell::word(path.as_os_str()))]
    Read {
        /// The folder or the file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// One file is not as this program writes it.
    #[error(
        "the recorded image chain in {word} cannot be read: {source}; look at the file, and if it is damaged remove it: \
         rm {word}",
        word = shell::word(path.as_os_str())
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Damage,
    },
    /// The folder cannot be written.
    #[error(
        "cannot record image chains in {}: {source}; name another folder with --chain-dir DIR",
        shell::word(path.as_os_str())
    )]
    Write {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No record can say that.
    #[error("cannot record the chain of {}: {source}", shell::word(image.as_os_str()))]
    Text {
        /// The image.
        image: PathBuf,
        /// Why not.
        source: text::Error,
    },
}

#[cfg(test)]
mod tests;
