//! The plan: all that will be done for one command line. Making it reads and pins, and changes nothing.

mod files;
mod images;
pub mod reopens;
pub mod show;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use caps::Capability;
use protocol::Errno;

use crate::confine::capabilities;
use crate::confine::identity::{Groups, Identity};
use crate::emulator::{CommandLine, Resource};
use crate::host::Host;
use crate::installation::Installation;
use crate::open::access::needs_override;
use crate::open::chain::ImageRoots;
use crate::open::output::Home;
use crate::open::pin::Pin;
use crate::paths::absolute_path;
use crate::serve::folders::Folder;
use crate::serve::grants::{Access, Grant, Role};
use crate::serve::ledger::Limits;
use reopens::Commits;

/// What the operator asked for on broker's own command line.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--image-root`.
    pub image_roots: Vec<PathBuf>,
    /// `--user`.
    pub user: Option<(u32, u32)>,
    /// `--medium`.
    pub media: Vec<PathBuf>,
    /// `--medium-dir`.
    pub medium_folders: Vec<PathBuf>,
    /// `--allow create=DIR`.
    pub creation_folders: Vec<PathBuf>,
    /// `--allow commit`.
    pub commits: Commits,
    /// `--create-files`, `--create-bytes`.
    pub limits: Limits,
    /// `--create-owner`.
    pub owner: Option<(u32, u32)>,
}

/// All that will be done for one command line.
#[derive(Debug)]
pub struct Plan {
    /// What the host offers.
    pub host: Host,
    /// Who the emulator will be.
    pub identity: Identity,
    /// The emulator's files.
    pub installation: Installation,
    /// Its command line.
    pub command: CommandLine,
    /// The caller's folder, with links resolved.
    pub working_directory: PathBuf,
    /// Where discovered backing files may lie.
    pub image_roots: ImageRoots,
    /// Files that exist, pinned.
    pub grants: Vec<Grant>,
    /// Folders of media and of files that may be created, pinned.
    pub folders: Vec<Folder>,
    /// How much may be created.
    pub limits: Limits,
    /// Who owns what is created, if not the operator.
    pub owner: Option<(u32, u32)>,
    /// Files that the broker will make.
    pub outputs: Vec<Output>,
    /// Folders of this guest alone.
    pub private: Vec<Private>,
    /// Folders of firmware that the command line names.
    pub firmware_folders: Vec<FirmwareFolder>,
    /// Names that are known to have nothing behind them, with the answer.
    pub absent: Vec<(Vec<u8>, Errno)>,
    /// Whether the broker has to keep `CAP_DAC_OVERRIDE`.
    pub keeps_override: bool,
    /// What the operator should know, one line each.
    pub notices: Vec<String>,
}

/// A file that the emulator writes and that may not exist yet.
#[derive(Debug)]
pub struct Output {
    /// What it is.
    pub role: Role,
    /// The option that names it.
    pub option: String,
    /// Its name as the emulator uses it.
    pub name: OsString,
    /// The greatest access.
    pub access: Access,
    /// Permissions, before the umask, if it is made.
    pub mode: u32,
}

/// A folder of firmware that `-L` names.
#[derive(Debug)]
pub struct FirmwareFolder {
    /// As the emulator spells it.
    pub name: Vec<u8>,
    /// Its absolute path.
    pub path: PathBuf,
}

/// A folder that only this guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    /// Its path in the sandbox.
    pub at: PathBuf,
    /// The host's folder that its files are kept in, beneath a folder of its own; none: in memory.
    pub on_disk_in: Option<PathBuf>,
}

impl Plan {
    /// Plans for `command`.
    ///
    /// # Errors
    /// [`Error`]: which option, which file, and what to do.
    pub fn make(
        host: Host,
        options: &Options,
        command: CommandLine,
        installation: Installation,
        temporary: Option<OsString>,
    ) -> Result<Self, Error> {
        let working_directory = std::env::current_dir().map_err(Error::WorkingDirectory)?;
        let mut plan = Self {
            host,
            identity: identity(options),
            installation,
            working_directory,
            image_roots: ImageRoots::default(),
            grants: Vec::new(),
            folders: Vec::new(),
            limits: Limits::default(),
            owner: None,
            outputs: Vec::new(),
            private: private_folders(&command, temporary),
            firmware_folders: Vec::new(),
            absent: Vec::new(),
            keeps_override: false,
            notices: command.notices.clone(),
            command,
        };
        // QEMU prints what it is asked for and opens nothing.
        if !plan.command.informational {
            let resources = plan.command.resources.clone();
            plan.plan_images(&resources, options)?;
            resources.iter().try_for_each(|resource| plan.plan_file(resource))?;
            plan.plan_reopens(options)?;
        }
        plan.check_firmware_folders()?;
        plan.check_names()?;
        // The broker empties the private folders at the end, which belong to the emulator's user.
        let own = plan.identity.uid == rustix::process::geteuid().as_raw();
        plan.keeps_override |= !own && plan.private.iter().any(|folder| folder.on_disk_in.is_some());
        Ok(plan)
    }

    /// The absolute path, in the sandbox and on the host, that the emulator means by `name`.
    #[must_use]
    pub fn absolute(&self, name: &OsStr) -> PathBuf {
        absolute_path(&self.working_directory, name)
    }

    /// A folder of firmware is seen with all that is in it.
    fn check_firmware_folders(&self) -> Result<(), Error> {
        let images = || self.grants.iter().filter(|grant| matches!(grant.role, Role::Image | Role::Backing));
        for folder in &self.firmware_folders {
            let real = folder.path.canonicalize().unwrap_or_else(|_| folder.path.clone());
            if let Some(image) = images().find(|grant| grant.pin.path().starts_with(&real)) {
                let (folder, image) = (folder.path.clone(), image.pin.path().to_owned());
                return Err(Error::FirmwareAmongImages { folder, image });
            }
        }
        Ok(())
    }

    /// Each path of the sandbox shows one file.
    fn check_names(&self) -> Result<(), Error> {
        let mut seen: HashMap<PathBuf, &Grant> = HashMap::new();
        for grant in &self.grants {
            let at = self.absolute(OsStr::from_bytes(&grant.name));
            if let Some(other) = seen.insert(at, grant)
                && other.pin.identity() != grant.pin.identity()
            {
                let (first, second) = (other.pin.path().to_owned(), grant.pin.path().to_owned());
                return Err(Error::Ambiguous { first, second });
            }
        }
        Ok(())
    }

    /// Pins what a resource names.
    fn pin(&self, resource: &Resource) -> Result<Pin, Error> {
        Pin::take(Path::new(&resource.name)).map_err(|source| Error::open(resource, source))
    }

    /// Adds a grant for a pinned file; one that cannot be read stops the start.
    fn grant(&mut self, role: Role, access: Access, named: Named<'_>, pin: Pin) -> Result<(), Error> {
        let writes = access == Access::ReadWrite;
        let readable = needs_override(pin.as_fd(), false);
        let by_override = readable.map_err(|source| Error::Open {
            option: named.option.to_owned(),
            name: named.name.to_owned(),
            source,
        })?;
        // Whether it can be written is for the emulator to find out, in its own words.
        let to_write = writes && needs_override(pin.as_fd(), true).unwrap_or(false);
        self.keeps_override |= by_override || to_write;
        self.grants.push(Grant {
            role,
            option: named.option.to_owned(),
            access,
            pin: Arc::new(pin),
            view: None,
            name: named.name.as_bytes().to_vec(),
            home: None::<Home>,
            opened: AtomicBool::new(false),
        });
        Ok(())
    }
}

/// How a file came onto the command line.
#[derive(Debug, Clone, Copy)]
struct Named<'a> {
    option: &'a str,
    name: &'a OsStr,
}

impl<'a> Named<'a> {
    fn by(resource: &'a Resource) -> Self {
        Self { option: &resource.option, name: &resource.name }
    }
}

fn identity(options: &Options) -> Identity {
    let (own_uid, own_gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (uid, gid) = options.user.unwrap_or((own_uid, own_gid));
    let groups = if may_change_groups() { Groups::None } else { Groups::Kept };
    Identity { uid, gid, groups }
}

/// Whether this process may drop its supplementary groups: an ordinary user may not, nor may the root of a user namespace
/// in which that is forbidden (user_namespaces(7)).
fn may_change_groups() -> bool {
    let allowed = std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow");
    allowed && capabilities::holds(Capability::CAP_SETGID).unwrap_or(false)
}

/// The profile's private folders, and the one that `TMPDIR` names. What a temporary overlay is written to is on disk.
fn private_folders(command: &CommandLine, temporary: Option<OsString>) -> Vec<Private> {
    // QEMU takes /var/tmp where TMPDIR is not set or is /tmp (get_tmp_filename in its block.c).
    let overlays = match temporary.map(PathBuf::from) {
        Some(folder) if folder.is_absolute() && folder != Path::new("/tmp") => folder,
        _ => PathBuf::from("/var/tmp"),
    };
    let mut folders: Vec<PathBuf> =
        sandbox_profiles::private_folders().map(|folder| PathBuf::from(folder.path)).collect();
    if !folders.contains(&overlays) {
        folders.push(overlays.clone());
    }
    let on_disk = |at: &PathBuf| (command.temporary_overlays && *at == overlays).then(|| at.clone());
    folders.into_iter().map(|at| Private { on_disk_in: on_disk(&at), at }).collect()
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the command line cannot be used.
    #[error("cannot open {name:?} (from `{option}`): {source}")]
    Open {
        /// The option that names it.
        option: String,
        /// Its name as typed.
        name: OsString,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the wrong kind.
    #[error("{name:?} (from `{option}`) is {found}; {wanted}")]
    WrongType {
        /// The option that names it.
        option: String,
        /// Its name as typed.
        name: OsString,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// `-L` would show images.
    #[error(
        "-L {folder:?} would show all of that folder to the guest, with the image {image:?}; keep firmware in a folder of its own"
    )]
    FirmwareAmongImages {
        /// The folder of firmware.
        folder: PathBuf,
        /// An image in it.
        image: PathBuf,
    },
    /// Two names that the sandbox cannot tell apart.
    #[error(
        "{first:?} and {second:?} are different files, but read as the same path without their links; name them by paths without `..`"
    )]
    Ambiguous {
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A backing chain that is refused.
    #[error(transparent)]
    Chain(#[from] crate::open::chain::Error),
    /// `--allow commit` for something else.
    #[error("--allow commit={}: it is no backing file of an image on the command line; `broker plan` lists them", path.display())]
    NoBackingFile {
        /// As typed.
        path: PathBuf,
    },
    /// Only root gives files away.
    #[error("--create-owner: only root can give files to another user; leave it out")]
    Owner,
    /// The prober cannot be made.
    #[error("cannot prepare to read image headers: {0}")]
    Prober(crate::confine::seccomp::Error),
    /// The current folder is gone.
    #[error("cannot find the current folder: {0}; change to one that exists")]
    WorkingDirectory(io::Error),
    /// A root that is none.
    #[error("--image-root {}: {source}", path.display())]
    ImageRoot {
        /// As typed.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    fn open(resource: &Resource, source: io::Error) -> Self {
        Self::Open { option: resource.option.clone(), name: resource.name.clone(), source }
    }
}
