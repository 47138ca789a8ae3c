//! Why there is no plan, in words that say what to do.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use super::networks;
use crate::confine::image_user;
use crate::emulator::{Kind, Resource};
use crate::open::descriptor;
use crate::prober::header::ReferenceRole;
use crate::record::change::{Accept, Change};
use crate::record::{headers, store};
use crate::shell;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the command line cannot be used.
    #[error("cannot open {name:?} (from `{option}`): {source}{hint}", hint = open_hint(*image, source))]
    Open {
        /// The option that names it.
        option: String,
        /// Its name as typed.
        name: OsString,
        /// What the kernel said.
        source: io::Error,
        /// Whether it is an image.
        image: bool,
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
    /// A shared folder would show more than what is in it.
    #[error(
        "{folder:?} (from `{option}`) holds {what}: {inner:?}; share a folder in which nothing lies but what the guest is to see"
    )]
    SharedWithMore {
        /// The option that names it.
        option: String,
        /// The folder.
        folder: PathBuf,
        /// What lies in it.
        what: &'static str,
        /// Where.
        inner: PathBuf,
    },
    /// A daemon has another number than the process that was started.
    #[error(
        "{option}: with -daemonize a folder can be shared with security_model=mapped-file only; take that, or leave \
         -daemonize out and start the broker in the background"
    )]
    SharedByDaemon {
        /// The option that names the folder.
        option: String,
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
    /// Another user or root for the emulator.
    #[error(transparent)]
    User(#[from] super::user::Error),
    /// `--image-user`.
    #[error(transparent)]
    ImageUser(#[from] image_user::Error),
    /// A descriptor that cannot be served.
    #[error(transparent)]
    Descriptor(#[from] descriptor::Error),
    /// A backing chain that is refused.
    #[error(transparent)]
    Chain(#[from] crate::open::chain::Error),
    /// A file of a chain was lost while it was read.
    #[error(transparent)]
    Headers(#[from] headers::Error),
    /// The records of image chains.
    #[error(transparent)]
    Records(#[from] store::Error),
    /// An image is not what it was.
    #[error("{change}{}", more(*others))]
    Changed {
        /// The first change.
        #[source]
        change: Box<Change>,
        /// How many more there are.
        others: usize,
    },
    /// An overlay by its bytes alone.
    #[error(
        "image {} is given without a format, and its header names the {role} {named:?}: a guest can write such a header \
         into a raw disk; say {stating} if it is an overlay, or the same with raw; where no format can be stated: {accept}",
        shell::word(image.as_os_str())
    )]
    GuessedOverlay {
        /// Where it is.
        image: PathBuf,
        /// How its format is stated.
        stating: String,
        /// What for it names another file.
        role: ReferenceRole,
        /// That file, as QEMU would open it.
        named: OsString,
        /// The command by which the operator vouches for it.
        accept: Box<Accept>,
    },
    /// The guest could write records.
    #[error(
        "the guest may create files beneath {}, where the records of image chains are ({}); give another --chain-dir, or \
         another folder for new files",
        shell::word(folder.as_os_str()),
        shell::word(records.as_os_str())
    )]
    RecordsAmongNewFiles {
        /// The folder of the records.
        records: PathBuf,
        /// The folder of new files.
        folder: PathBuf,
    },
    /// `--allow commit` for something else.
    #[error("--allow commit={}: it is no backing file of an image on the command line; `broker plan` lists them", path.display())]
    NoBackingFile {
        /// As typed.
        path: PathBuf,
    },
    /// `--allow commit` for a descriptor that cannot be written.
    #[error(
        "--allow commit: descriptor {number} is open for reading only; open it O_RDWR in the process that starts broker"
    )]
    ReadOnlyDescriptor {
        /// Its number.
        number: RawFd,
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
    /// A part of an image that it alone names.
    #[error(
        "{name:?} (from `{option}`) is to be written, and only its header names its {role} {file:?}, which grants reading; \
         {}", instead_of_header(*role)
    )]
    NamedByHeader {
        /// The option that names the image.
        option: String,
        /// Its name as typed.
        name: OsString,
        /// What the file is to it.
        role: ReferenceRole,
        /// The file.
        file: OsString,
    },
    /// A network that cannot be opened.
    #[error("{option}: {source}")]
    Network {
        /// The option that names it.
        option: String,
        /// Why not.
        source: Box<networks::Error>,
    },
    /// No IOMMU stands between a device and the host's memory.
    #[error(
        "{option}: the kernel has no IOMMU for {device:?} (vfio-noiommu), so the guest could have it write all of the host's \
         memory; switch an IOMMU on (in the firmware, and intel_iommu=on on the kernel's command line)"
    )]
    WithoutIommu {
        /// The option that names it.
        option: String,
        /// Its path.
        device: OsString,
    },
    /// A root that is none.
    #[error("cannot use {} as an image root: {source}", path.display())]
    ImageRoot {
        /// As typed, or the folder of an image.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What to do about a part of an image that is to be written.
fn instead_of_header(role: ReferenceRole) -> &'static str {
    match role {
        ReferenceRole::DataFile => "name it on the command line too: data-file.driver=file,data-file.filename=PATH",
        _ => "use readonly=on or snapshot=on, or convert the image to one file with qemu-img convert -O qcow2",
    }
}

/// Root is denied an image only where somebody else decides: a file server that takes it for nobody.
pub(super) fn open_hint(image: bool, error: &io::Error) -> &'static str {
    let denied = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
    if image && denied && rustix::process::geteuid().is_root() {
        "; if its file server takes root for nobody, name the user who may open it: --image-user UID:GID"
    } else {
        ""
    }
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" (and {others} more changes of this kind)") }
}

impl Error {
    pub(super) fn open(resource: &Resource, source: io::Error) -> Self {
        let image = matches!(resource.kind, Kind::Image(_));
        Self::Open { option: resource.option.clone(), name: resource.name.clone(), image, source }
    }
}
