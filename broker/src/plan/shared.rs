//! Folders that are shared with the guest.
//!
//! The emulator opens what lies in them by itself, beneath descriptors of folders, and may do there what a guest does. So
//! nothing else that is granted may lie there: the emulator could reach it past the broker.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::Errno;
use rustix::fs::FileType;

use super::{Error, Plan};
use crate::emulator::{Address, Addresses, SecurityModel, SharedFolder};
use crate::open::pin::Pin;

/// A folder that is shared with the guest.
#[derive(Debug)]
pub struct Shared {
    /// The option that names it.
    pub option: String,
    /// As the emulator spells it.
    pub name: Vec<u8>,
    /// Its absolute path in the sandbox.
    pub at: PathBuf,
    /// The folder.
    pub pin: Arc<Pin>,
    /// Nothing can be changed in it.
    pub read_only: bool,
    /// How owners and modes are kept there.
    pub model: SecurityModel,
}

impl Shared {
    /// Whether QEMU goes through `/proc/self/fd` for it: it changes modes and attributes of what it holds a descriptor of
    /// by that name, lest it follow a guest's link (`fchmodat_nofollow`, `fsetxattrat_nofollow` in its `hw/9pfs`).
    fn needs_descriptors_by_name(&self) -> bool {
        self.model != SecurityModel::MappedFile
    }

    fn holds(&self, real: &Path, at: Option<&Path>) -> bool {
        real.starts_with(self.pin.path()) || at.is_some_and(|at| at.starts_with(&self.at))
    }
}

impl Plan {
    /// Pins the folders. One that is missing, or is none, is for the emulator to complain of.
    pub(super) fn plan_shared_folders(&mut self) -> Result<(), Error> {
        for folder in self.command.shared_folders.clone() {
            let taken = Pin::take(Path::new(&folder.path)).and_then(|pin| match pin.file_type() {
                FileType::Directory => Ok(pin),
                _ => Err(std::io::Error::from_raw_os_error(libc::ENOTDIR)),
            });
            match taken {
                Ok(pin) => self.add_shared(&folder, pin)?,
                Err(error) => {
                    self.absent.push((folder.path.as_bytes().to_vec(), Errno::from_io(&error)));
                }
            }
        }
        self.shared.iter().try_for_each(|shared| self.check_shared(shared))
    }

    /// Whether the emulator finds its own descriptors by name.
    #[must_use]
    pub fn shows_descriptors(&self) -> bool {
        self.shared.iter().any(Shared::needs_descriptors_by_name)
    }

    /// Where the command line has UNIX sockets: the emulator's, and those of the relay.
    fn socket_paths(&self) -> impl Iterator<Item = PathBuf> {
        let streams = self.command.endpoints.iter().filter_map(|endpoint| match &endpoint.address {
            Address::Unix { path } => Some(path.as_os_str()),
            _ => None,
        });
        let datagrams = self.datagrams.iter().flat_map(|planned| match &planned.network.addresses {
            Addresses::Unix { local, remote } => vec![local.as_os_str(), remote.as_os_str()],
            _ => Vec::new(),
        });
        streams.chain(datagrams).map(|name| self.absolute(name))
    }

    fn add_shared(&mut self, folder: &SharedFolder, pin: Pin) -> Result<(), Error> {
        let at = self.absolute(&folder.path);
        // QEMU itself keeps a folder that is shared twice from being written where it may not be.
        if let Some(other) = self.shared.iter_mut().find(|other| other.at == at && other.name == folder.path.as_bytes())
        {
            other.read_only &= folder.read_only;
            if other.model == SecurityModel::MappedFile {
                other.model = folder.model;
            }
            return Ok(());
        }
        let shared = Shared {
            option: folder.option.clone(),
            name: folder.path.as_bytes().to_vec(),
            at,
            pin: Arc::new(pin),
            read_only: folder.read_only,
            model: folder.model,
        };
        if self.command.daemonize && shared.needs_descriptors_by_name() {
            return Err(Error::SharedByDaemon { option: shared.option });
        }
        self.shared.push(shared);
        Ok(())
    }

    /// Nothing of the broker's, and nothing of the sandbox's own, lies in a shared folder.
    fn check_shared(&self, shared: &Shared) -> Result<(), Error> {
        let wrong = |what: &'static str, inner: &Path| Error::SharedWithMore {
            option: shared.option.clone(),
            folder: shared.pin.path().to_owned(),
            what,
            inner: inner.to_owned(),
        };
        let name = |bytes: &[u8]| self.absolute(std::ffi::OsStr::from_bytes(bytes));
        for grant in &self.grants {
            if shared.holds(grant.pin.path(), Some(&name(&grant.name))) {
                return Err(wrong("a file that is granted by itself", grant.pin.path()));
            }
        }
        for at in self.outputs.iter().map(|output| self.absolute(&output.name)) {
            let real = at.parent().and_then(|parent| parent.canonicalize().ok());
            if shared.holds(real.as_deref().unwrap_or(&at), Some(&at)) {
                return Err(wrong("a file that is written for the operator", &at));
            }
        }
        if let Some(folder) = self.folders.iter().find(|folder| shared.holds(folder.pin.path(), Some(&folder.at))) {
            return Err(wrong("a folder of media or of new files", folder.pin.path()));
        }
        if let Some(private) = self.private.iter().find(|private| private.at.starts_with(&shared.at)) {
            return Err(wrong("a folder for temporary files of this guest alone", &private.at));
        }
        if let Some(recording) = self.recording.as_ref().filter(|recording| shared.holds(&recording.folder, None)) {
            return Err(wrong("the records of image chains", &recording.folder));
        }
        if let Some(path) = self.socket_paths().find(|path| {
            let real = path.parent().and_then(|parent| parent.canonicalize().ok());
            shared.holds(real.as_deref().unwrap_or(path), Some(path))
        }) {
            return Err(wrong("a socket", &path));
        }
        let own = &self.installation;
        let mut parts =
            own.trees.iter().chain([&own.binary]).chain(&own.loader).chain(own.links.iter().map(|(at, _)| at));
        match parts.find(|part| shared.holds(part, Some(part))) {
            Some(part) => Err(wrong("a part of the emulator", part)),
            None => Ok(()),
        }
    }
}
