//! What the operator allows beyond what the command line of the emulator names: media, new files, commits.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::{Error, Named, Options, Plan};
use crate::open::access::needs_override;
use crate::open::pin::{Origin, Pin, check_access};
use crate::serve::folders::{Folder, Purpose};
use crate::serve::grants::{Access, Grant, Role};

/// Which backing files may be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commits {
    /// `--allow commit`.
    pub all: bool,
    /// `--allow commit=PATH`.
    pub named: Vec<PathBuf>,
}

impl Plan {
    /// Plans for `--medium`, `--medium-dir` and `--allow`.
    pub(super) fn plan_reopens(&mut self, options: &Options) -> Result<(), Error> {
        options.media.iter().try_for_each(|path| self.plan_medium(path))?;
        for (option, paths, purpose) in [
            ("--medium-dir", &options.medium_folders, Purpose::Media),
            ("--allow create", &options.creation_folders, Purpose::Creation),
            ("--allow attach", &options.attachment_folders, Purpose::Attachment),
        ] {
            paths.iter().try_for_each(|path| self.plan_folder(option, path, purpose))?;
        }
        self.plan_commits(&options.commits)?;
        if options.owner.is_some() && !rustix::process::geteuid().is_root() {
            return Err(Error::Owner);
        }
        // What belongs to somebody else by then has to be opened again.
        self.keeps_override |= options.owner.is_some_and(|(uid, _)| uid != rustix::process::geteuid().as_raw());
        self.owner = options.owner;
        self.limits = options.limits;
        Ok(())
    }

    fn plan_medium(&mut self, path: &Path) -> Result<(), Error> {
        let option = format!("--medium {}", path.display());
        let pin = pin(&option, path)?;
        let found = match pin.file_type() {
            FileType::RegularFile | FileType::BlockDevice => {
                let named = Named { option: &option, name: path.as_os_str() };
                self.plan_block_limits(&pin)?;
                return self.grant(Role::Medium, Access::ReadOnly, named, pin);
            }
            FileType::Directory => "a folder",
            _ => "no regular file",
        };
        let wanted = "a medium is a file or a device; name a folder of media by --medium-dir";
        Err(wrong_type(option, path, found, wanted))
    }

    fn plan_folder(&mut self, option: &str, path: &Path, purpose: Purpose) -> Result<(), Error> {
        let option = format!("{option} {}", path.display());
        let pin = pin(&option, path)?;
        if pin.file_type() != FileType::Directory {
            return Err(wrong_type(option, path, "no folder", "give the folder that the files are in"));
        }
        if pin.path() == Path::new("/") {
            return Err(wrong_type(option, path, "all of the host", "give a folder beneath it"));
        }
        let write = purpose == Purpose::Creation;
        let by_override = needs_override(pin.as_fd(), write);
        self.keeps_override |= by_override.map_err(|source| open_error(&option, path.as_os_str(), source))?;
        // Whose the files will be is not known yet; of root it is expected that it can open them.
        self.keeps_override |= purpose == Purpose::Attachment && rustix::process::geteuid().is_root();
        let at = self.absolute(path.as_os_str());
        self.folders.push(Folder { purpose, pin: Arc::new(pin), view: None, at, only: None });
        Ok(())
    }

    /// Widens the grants of backing files.
    fn plan_commits(&mut self, commits: &Commits) -> Result<(), Error> {
        let mut named = Vec::new();
        for path in &commits.named {
            let option = format!("--allow commit={}", path.display());
            let pin = self.pin_backing(&option, path)?;
            if let Some(Origin { number, writable: false }) = pin.origin() {
                return Err(Error::ReadOnlyDescriptor { number });
            }
            check_access(pin.as_fd(), true).map_err(|source| open_error(&option, path.as_os_str(), source))?;
            let known = |grant: &Grant| grant.role == Role::Backing && grant.pin.identity() == pin.identity();
            if !self.grants.iter().any(known) {
                return Err(Error::NoBackingFile { path: path.clone() });
            }
            named.push(pin.identity());
        }
        let as_user = self.image_user.is_some();
        for grant in self.grants.iter_mut().filter(|grant| grant.role == Role::Backing) {
            let writable = grant.pin.origin().is_none_or(|origin| origin.writable);
            let writable = writable && (!as_user || check_access(grant.pin.as_fd(), true).is_ok());
            if writable && (commits.all || named.contains(&grant.pin.identity())) {
                grant.access = Access::ReadWrite;
                // Whether it can be written is for the emulator to find out, in its own words.
                self.keeps_override |= needs_override(grant.pin.as_fd(), true).unwrap_or(false);
            }
        }
        Ok(())
    }

    /// Pins what `--allow commit=` names: a path, or `fd:N` as on the emulator's command line.
    fn pin_backing(&self, option: &str, path: &Path) -> Result<Pin, Error> {
        let at = self.absolute(path.as_os_str());
        let by_descriptor = |grant: &&Grant| {
            let name = OsStr::from_bytes(&grant.name);
            grant.pin.origin().is_some() && self.absolute(name) == at
        };
        match self.grants.iter().find(by_descriptor) {
            Some(grant) => grant.pin.duplicate().map_err(|source| open_error(option, path.as_os_str(), source)),
            None => pin(option, path),
        }
    }
}

fn pin(option: &str, path: &Path) -> Result<Pin, Error> {
    Pin::take(path).map_err(|source| open_error(option, path.as_os_str(), source))
}

fn open_error(option: &str, name: &OsStr, source: io::Error) -> Error {
    Error::Open { option: option.to_owned(), name: name.to_owned(), image: true, source }
}

fn wrong_type(option: String, path: &Path, found: &'static str, wanted: &'static str) -> Error {
    Error::WrongType { option, name: path.as_os_str().to_owned(), found, wanted }
}
