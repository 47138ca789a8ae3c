//! The plan: all that will be done for one command line. Making it reads and pins, and changes nothing.

mod checks;
mod environment_files;
mod error;
mod files;
mod graphics;
mod images;
pub mod networks;
mod nfs;
mod records;
pub mod reopens;
pub mod shared;
pub mod show;
pub mod shown;
pub mod sockets;
mod targets;
mod text_screen;
mod usb;
mod user;
mod vfio;
mod windows;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use protocol::Errno;

use crate::confine::identity::Identity;
use crate::confine::image_user::ImageUser;
use crate::emulator::{Allowed, CommandLine, Endpoint, Resource};
use crate::host::Host;
use crate::installation::Installation;
use crate::open::access::needs_override;
use crate::open::chain::RootPaths;
use crate::open::descriptor::Images;
use crate::open::output::Home;
use crate::open::pin::Pin;
use crate::open::terminal::Multiplexer;
use crate::paths::absolute_path;
use crate::serve::folders::Folder;
use crate::serve::grants::{Access, Grant, Role};
use crate::serve::ledger::Limits;
use crate::serve::sockets::SocketGrant;
use checks::check_descriptor;
pub use error::Error;
use networks::{PlannedDatagrams, PlannedNetwork};
pub use records::Recording;
use reopens::Commits;
use shared::Shared;
use shown::Shown;

/// Switches Mesa's cache of shaders off (docs.mesa3d.org/envvars.html).
const NO_SHADER_CACHE: &str = "MESA_SHADER_CACHE_DISABLE";

/// What the operator asked for on broker's own command line.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--image-root`.
    pub image_roots: Vec<PathBuf>,
    /// `--chain-dir`.
    pub chain_dir: Option<PathBuf>,
    /// The administrator's policy: the folders of the images are no roots.
    pub strict_roots: bool,
    /// `--user`.
    pub user: Option<(u32, u32)>,
    /// `--image-user`.
    pub image_user: Option<(u32, u32)>,
    /// `--medium`.
    pub media: Vec<PathBuf>,
    /// `--medium-dir`.
    pub medium_folders: Vec<PathBuf>,
    /// `--allow create=DIR`.
    pub creation_folders: Vec<PathBuf>,
    /// `--allow attach=DIR`.
    pub attachment_folders: Vec<PathBuf>,
    /// `--allow commit`.
    pub commits: Commits,
    /// `--create-files`, `--create-bytes`.
    pub limits: Limits,
    /// `--create-owner`.
    pub owner: Option<(u32, u32)>,
    /// `--bridge-acl`.
    pub bridge_acl: Option<PathBuf>,
    /// `--listen` and `--connect`: sockets that the operator grants beside those of the command line.
    pub endpoints: Vec<Endpoint>,
    /// `--allow display`.
    pub allowed: Allowed,
}

/// All that will be done for one command line.
#[derive(Debug)]
pub struct Plan {
    /// What the host offers.
    pub host: Host,
    /// Who the emulator will be.
    pub identity: Identity,
    /// Who opens images, if not the operator.
    pub image_user: Option<ImageUser>,
    /// The emulator's files.
    pub installation: Installation,
    /// Its command line.
    pub command: CommandLine,
    /// The caller's folder, with links resolved.
    pub working_directory: PathBuf,
    /// Where what headers name may lie.
    pub image_roots: RootPaths,
    /// Files that exist, pinned.
    pub grants: Vec<Grant>,
    /// Folders of media, of files that may be attached and of files that may be created, pinned.
    pub folders: Vec<Folder>,
    /// How much may be created.
    pub limits: Limits,
    /// Who owns what is created, if not the operator.
    pub owner: Option<(u32, u32)>,
    /// Files that the broker will make.
    pub outputs: Vec<Output>,
    /// What the pseudo-terminals of `-chardev pty` are made of.
    pub terminals: Option<Multiplexer>,
    /// Networks that the broker will open.
    pub networks: Vec<PlannedNetwork>,
    /// Networks whose frames a relay will carry.
    pub datagrams: Vec<PlannedDatagrams>,
    /// Sockets that the broker will make when the emulator asks for them.
    pub sockets: Vec<Arc<SocketGrant>>,
    /// Folders of this guest alone.
    pub private: Vec<Private>,
    /// Folders that are shared with the guest.
    pub shared: Vec<Shared>,
    /// What else of the host the sandbox shows.
    pub shown: Shown,
    /// The kernel locks the guest's memory, for devices of the host that read and write it.
    pub pins_memory: bool,
    /// Folders of firmware that the command line names.
    pub firmware_folders: Vec<FirmwareFolder>,
    /// Names that are known to have nothing behind them, with the answer.
    pub absent: Vec<(Vec<u8>, Errno)>,
    /// Whether the broker has to keep `CAP_DAC_OVERRIDE`.
    pub keeps_override: bool,
    /// What is to be recorded of the images.
    pub recording: Option<Recording>,
    /// What the operator should know, one line each.
    pub notices: Vec<String>,
    seen: Vec<records::Seen>,
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
    /// How the emulator spells that path, where the command line names it.
    pub name: Option<Vec<u8>>,
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
        handed: Images,
        installation: Installation,
        temporary: Option<OsString>,
    ) -> Result<Self, Error> {
        let working_directory = working_directory()?;
        user::check_root(&command)?;
        let mut plan = Self {
            host,
            identity: user::identity(options, &command)?,
            image_user: options.image_user.map(|(uid, gid)| ImageUser::look_up(uid, gid)).transpose()?,
            installation,
            working_directory,
            image_roots: RootPaths::default(),
            grants: Vec::new(),
            folders: Vec::new(),
            limits: Limits::default(),
            owner: None,
            outputs: Vec::new(),
            terminals: None,
            networks: Vec::new(),
            datagrams: Vec::new(),
            sockets: Vec::new(),
            private: private_folders(&command, temporary),
            shared: Vec::new(),
            shown: Shown::default(),
            pins_memory: command.vfio_descriptor,
            firmware_folders: Vec::new(),
            absent: Vec::new(),
            keeps_override: false,
            recording: None,
            notices: command.notices.clone(),
            seen: Vec::new(),
            command,
        };
        plan.plan_all(&handed, options)?;
        plan.check_firmware_folders()?;
        plan.check_names()?;
        // Two options that are alike are told of once.
        let mut told = HashSet::new();
        plan.notices.retain(|notice| told.insert(notice.clone()));
        // The broker empties the private folders at the end, which belong to the emulator's user. Another user than the
        // operator also opens the operator's logs, and removes the control socket.
        let own = plan.identity.uid == rustix::process::geteuid().as_raw();
        plan.keeps_override |=
            plan.image_user.is_some() || (!own && plan.private.iter().any(|folder| folder.on_disk_in.is_some()));
        Ok(plan)
    }

    /// Plans for all that the emulator opens; what it is only asked to print opens nothing.
    fn plan_all(&mut self, handed: &Images, options: &Options) -> Result<(), Error> {
        if self.command.informational {
            return Ok(());
        }
        self.plan_windows(&|name| std::env::var_os(name));
        let resources = self.command.resources.clone();
        self.as_image_user(|plan| plan.plan_images(&resources, handed, options))?;
        resources.iter().try_for_each(|resource| self.plan_file(resource))?;
        self.plan_vfio_devices()?;
        self.plan_usb()?;
        self.plan_terminals();
        self.plan_text_screen(&|name| std::env::var_os(name));
        self.plan_render_nodes(&|name| std::env::var_os(name))?;
        self.as_image_user(|plan| plan.plan_reopens(options))?;
        self.plan_records(options)?;
        self.plan_networks(options)?;
        self.plan_shared_folders()?;
        self.plan_sockets(options);
        self.note_strangers_on_nfs();
        Ok(())
    }

    /// Does `work` with the rights of who opens images.
    fn as_image_user(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        match self.image_user.clone() {
            Some(user) => user.lend_to(|| work(self)),
            None => work(self),
        }
    }

    /// The absolute path, in the sandbox and on the host, that the emulator means by `name`.
    #[must_use]
    pub fn absolute(&self, name: &OsStr) -> PathBuf {
        absolute_path(&self.working_directory, name)
    }

    /// Whether the emulator may get descriptors of terminals, beside those that it inherits.
    #[must_use]
    pub fn grants_terminals(&self) -> bool {
        let connected = |grant: &Grant| matches!(grant.role, Role::Stream | Role::Output);
        let may_be_one = |grant: &Grant| connected(grant) && grant.pin.file_type().is_char_device();
        self.terminals.is_some() || self.grants.iter().any(may_be_one)
    }

    /// What the emulator's environment has besides the caller's.
    #[must_use]
    pub fn added_variable(&self, environment: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
        // Mesa would keep compiled shaders in the caller's home, and complain that it cannot.
        let draws = !self.command.render_nodes.is_empty();
        (draws && environment(NO_SHADER_CACHE).is_none()).then(|| format!("{NO_SHADER_CACHE}=true"))
    }

    /// Pins what a resource names.
    fn pin(&self, resource: &Resource) -> Result<Pin, Error> {
        Pin::take(Path::new(&resource.name)).map_err(|source| Error::open(resource, source))
    }

    /// Adds a grant for a pinned file; one that cannot be read stops the start.
    fn grant(&mut self, role: Role, access: Access, named: Named<'_>, pin: Pin) -> Result<(), Error> {
        let writes = access == Access::ReadWrite;
        check_descriptor(&pin, writes)?;
        let readable = needs_override(pin.as_fd(), false);
        let by_override = readable.map_err(|source| Error::Open {
            option: named.option.to_owned(),
            name: named.name.to_owned(),
            image: matches!(role, Role::Image | Role::Backing | Role::Medium),
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

/// The folder of the start. One that was removed has no name of its own, and no name beneath this one leads anywhere.
fn working_directory() -> Result<PathBuf, Error> {
    match std::env::current_dir() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(PathBuf::from("/proc/self/cwd")),
        other => other.map_err(Error::WorkingDirectory),
    }
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
    folders.into_iter().map(|at| Private { on_disk_in: on_disk(&at), name: None, at }).collect()
}
