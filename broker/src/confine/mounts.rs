//! The root of the sandbox: a fresh tmpfs that holds what the emulator needs, read-only.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::mount_points::{make_character_node, make_directory, make_file, make_link, make_text};
use super::shared_mounts::SharedMounts;
use crate::open::pin::Pin;
use crate::sys::mount::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY, set_attributes};

/// Bytes that the emulator may keep in a private directory that is not on disk.
const PRIVATE_MEMORY: &str = "64M";

/// The descriptors of this process, each a link to what it has open. Its number is part of the mount, so no other process
/// that sees it, as keeper and agent do, sees its own there.
const OWN_DESCRIPTORS: &str = "/proc/self/fd";

/// What the root of the sandbox holds.
#[derive(Debug)]
pub struct Layout {
    /// Folders and files of the host that are seen read-only, with all that is mounted beneath them.
    pub trees: Vec<PathBuf>,
    /// Symbolic links: where, and to what.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Folders of this root that may be listed, and hold nothing but what is put into them here.
    pub folders: Vec<PathBuf>,
    /// Nodes of the private `/dev`.
    pub devices: Vec<PathBuf>,
    /// Folders that the emulator may write, seen by nobody else.
    pub private: Vec<PrivateDirectory>,
    /// Folders of the host that are shared with the guest, with all that is mounted beneath them.
    pub shared: Vec<SharedDirectory>,
    /// Whether the process finds its own descriptors by name, in `/proc/self/fd`.
    pub own_descriptors: bool,
    /// What was pinned, each seen read-only at the name that the emulator uses.
    pub grants: Vec<Exposed>,
    /// Files that the program is to make. It looks what they are before it removes one that it could not finish, so there
    /// is an empty file at each of these paths.
    pub awaited: Vec<PathBuf>,
    /// Folders of media, which the broker looks into through read-only mounts; they are not seen inside.
    pub media: Vec<Arc<Pin>>,
    /// Small files that are made for the sandbox, each with its path.
    pub texts: Vec<(PathBuf, Vec<u8>)>,
    /// The caller's working directory, which exists inside, though empty.
    pub working_directory: PathBuf,
}

/// A folder of this guest alone.
#[derive(Debug)]
pub struct PrivateDirectory {
    /// Its path in the sandbox.
    pub at: PathBuf,
    /// The folder of the host that holds its files; none: they live in memory.
    pub on_disk: Option<Arc<Pin>>,
}

/// A folder that is shared with the guest.
#[derive(Debug)]
pub struct SharedDirectory {
    /// Its path in the sandbox.
    pub at: PathBuf,
    /// The folder.
    pub pin: Arc<Pin>,
    /// Nothing can be changed through the mount.
    pub read_only: bool,
}

/// A pinned inode and where it is seen.
#[derive(Debug)]
pub struct Exposed {
    /// An absolute path of the sandbox.
    pub at: PathBuf,
    /// The inode.
    pub pin: Arc<Pin>,
}

/// Clones of all that a layout shows, not mounted anywhere yet.
#[derive(Debug)]
pub struct Views {
    trees: Vec<OwnedFd>,
    devices: Vec<OwnedFd>,
    private: Vec<Option<OwnedFd>>,
    shared: Vec<OwnedFd>,
    own_descriptors: Option<OwnedFd>,
    grants: Vec<OwnedFd>,
    media: Vec<OwnedFd>,
}

impl Views {
    /// Clones every mount of `layout` in the host's mount namespace, where a pin can be cloned that no path leads to any
    /// more; `None` for a process that may not, as an ordinary user or the root of a container may not.
    ///
    /// # Errors
    /// [`Error::Clone`].
    pub fn clone_outside(layout: &Layout) -> Result<Option<Self>, Error> {
        match Self::clone_all(layout) {
            Err(Error::Clone { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Clones every mount of `layout`.
    ///
    /// # Errors
    /// [`Error::Clone`]. [`Error::Changed`]: something else stands at a pin's path by now.
    pub fn clone_all(layout: &Layout) -> Result<Self, Error> {
        let trees = layout.trees.iter().map(|path| clone_path(path, READ_ONLY | NO_SUID | NO_DEV, true));
        let devices = layout.devices.iter().map(|path| clone_path(path, READ_ONLY | NO_SUID | NO_EXEC, false));
        let private = layout.private.iter().map(|directory| {
            let pin = directory.on_disk.as_ref();
            pin.map(|pin| clone_pin(pin, NO_SUID | NO_DEV | NO_EXEC)).transpose()
        });
        let shared = layout.shared.iter().map(|folder| {
            let read_only = if folder.read_only { READ_ONLY } else { 0 };
            clone_pin(&folder.pin, read_only | NO_SUID | NO_DEV | NO_EXEC)
        });
        let clone_own = || clone_path(Path::new(OWN_DESCRIPTORS), READ_ONLY | NO_SUID | NO_DEV | NO_EXEC, false);
        let grants = layout.grants.iter().map(|grant| view_of(&grant.pin));
        let media = layout.media.iter().map(|folder| clone_pin(folder, READ_ONLY | NO_SUID | NO_DEV | NO_EXEC));
        Ok(Self {
            trees: trees.collect::<Result<_, _>>()?,
            devices: devices.collect::<Result<_, _>>()?,
            private: private.collect::<Result<_, _>>()?,
            shared: shared.collect::<Result<_, _>>()?,
            own_descriptors: layout.own_descriptors.then(clone_own).transpose()?,
            grants: grants.collect::<Result<_, _>>()?,
            media: media.collect::<Result<_, _>>()?,
        })
    }

    /// The view of each grant, in the order of the layout, then that of each folder of media.
    pub fn for_the_broker(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.grants.iter().chain(&self.media).map(AsFd::as_fd)
    }
}

/// A view of a pinned file, not mounted anywhere.
///
/// # Errors
/// [`Error::Clone`]: `EPERM` for a process that may not clone mounts. [`Error::Changed`].
pub fn view_of(pin: &Pin) -> Result<OwnedFd, Error> {
    clone_pin(pin, attributes_of(pin))
}

/// A view of an image is read-only and no program; it is a device only if the pin is one.
fn attributes_of(pin: &Pin) -> u64 {
    let device = pin.file_type().is_char_device() || pin.file_type().is_block_device();
    READ_ONLY | NO_SUID | NO_EXEC | if device { 0 } else { NO_DEV }
}

fn clone_path(path: &Path, attributes: u64, recursive: bool) -> Result<OwnedFd, Error> {
    let clone = || -> io::Result<OwnedFd> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        let mount = rustix::mount::open_tree(CWD, path, flags)?;
        set_attributes(mount.as_fd(), attributes, recursive)?;
        Ok(mount)
    };
    clone().map_err(|source| Error::Clone { path: path.to_owned(), source })
}

/// Clones the mount of a pinned inode; from another mount namespace than the pin's, by its path, if that still leads
/// to the same inode.
fn clone_pin(pin: &Pin, attributes: u64) -> Result<OwnedFd, Error> {
    let failed = |source: io::Error| Error::Clone { path: pin.path().to_owned(), source };
    // A folder with all that is mounted beneath it: an ordinary user cannot look below what others have mounted over.
    let recursive = pin.file_type().is_dir();
    let mount = match clone_descriptor(pin.as_fd(), recursive) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let again = Pin::take(pin.path()).map_err(failed)?;
            if again.identity() != pin.identity() {
                return Err(Error::Changed { path: pin.path().to_owned() });
            }
            clone_descriptor(again.as_fd(), recursive)
        }
        other => other,
    };
    let mount = mount.map_err(failed)?;
    set_attributes(mount.as_fd(), attributes, recursive).map_err(failed)?;
    Ok(mount)
}

fn clone_descriptor(descriptor: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(rustix::mount::open_tree(descriptor, "", flags)?)
}

/// Builds the root from `views`, makes it this process's root, and lets go of the host's. Returned are the
/// mounts of the folders that are shared with the guest.
///
/// # Errors
/// One variant a step.
pub fn pivot_into(layout: &Layout, views: Views) -> Result<SharedMounts, Error> {
    // Nothing that is mounted here may reach the host.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(Error::step("make the mounts private"))?;
    let root = mount_tmpfs("16M", "755")?;
    // A mount point is needed for as long as the root is being built; everything that comes from the host has been
    // cloned by now, so it does not matter what this hides.
    place(root.as_fd(), CWD, Path::new("/usr"), MoveMountFlags::empty())?;
    let shared = furnish(layout, views, root.as_fd())?;
    // While there is a /proc to tell what is mounted beneath these.
    let shared = SharedMounts::beneath(shared)
        .map_err(|source| Error::Step { step: "list the mounts of shared folders", source })?;
    set_attributes(root.as_fd(), READ_ONLY | NO_SUID | NO_DEV, false)
        .map_err(|source| Error::Step { step: "make the root read-only", source })?;
    rustix::process::fchdir(&root).map_err(Error::step("enter the new root"))?;
    rustix::process::pivot_root(".", ".").map_err(Error::step("pivot_root"))?;
    // The old root now lies over the new one; below it nothing of the host is left.
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(Error::step("unmount the old root"))?;
    rustix::process::chdir("/").map_err(Error::step("enter the new root"))?;
    rustix::process::chdir(&layout.working_directory).map_err(Error::step("enter the working directory"))?;
    Ok(shared)
}

/// Puts everything in its place, and returns descriptors of the mounts of shared folders.
fn furnish(layout: &Layout, views: Views, root: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Error> {
    for (at, target) in &layout.links {
        make_link(root, at, target)?;
    }
    for folder in &layout.folders {
        make_directory(root, folder)?;
    }
    // Private folders first: an emulator unpacked beneath /var/tmp, or an image there, is still to be seen.
    for (directory, view) in layout.private.iter().zip(views.private) {
        let view = match view {
            Some(view) => view,
            None => mount_tmpfs(PRIVATE_MEMORY, "1777")?,
        };
        place_at(root, &directory.at, view)?;
    }
    // Before anything of the host: what is shown or shared hides them, and none is ever written into it.
    for (path, content) in &layout.texts {
        make_text(root, path, content)?;
    }
    let shown = layout.trees.iter().zip(views.trees).chain(layout.devices.iter().zip(views.devices));
    for (path, view) in shown {
        place_at(root, path, view)?;
    }
    if let Some(view) = views.own_descriptors {
        place_at(root, Path::new(OWN_DESCRIPTORS), view)?;
    }
    // Outer folders first, or they would hide the inner ones.
    let mut shared: Vec<_> = layout.shared.iter().zip(views.shared).collect();
    shared.sort_by_key(|(folder, _)| &folder.at);
    let mut held = Vec::new();
    for (folder, view) in shared {
        held.push(view.try_clone().map_err(|source| Error::Step { step: "hold a shared folder", source })?);
        place_at(root, &folder.at, view)?;
    }
    make_directory(root, &layout.working_directory)?;
    for (grant, view) in layout.grants.iter().zip(views.grants) {
        place_at(root, &grant.at, view)?;
    }
    for path in &layout.awaited {
        // Within a read-only tree there is no place for it; the program then leaves unfinished files there.
        let _ = make_file(root, path);
    }
    Ok(held)
}

/// Mounts `view` at `path` beneath `root`, on what is of its kind.
fn place_at(root: BorrowedFd<'_>, path: &Path, view: OwnedFd) -> Result<(), Error> {
    let status = rustix::fs::fstat(&view).map_err(Error::step("look at a view"))?;
    let point = match rustix::fs::FileType::from_raw_mode(status.st_mode) {
        rustix::fs::FileType::Directory => make_directory(root, path)?,
        rustix::fs::FileType::CharacterDevice => make_character_node(root, path)?,
        _ => make_file(root, path)?,
    };
    place(view.as_fd(), point.as_fd(), Path::new(""), MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}

fn place(view: BorrowedFd<'_>, at: BorrowedFd<'_>, path: &Path, flags: MoveMountFlags) -> Result<(), Error> {
    let flags = flags | MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(view, "", at, path, flags).map_err(Error::step("mount into the new root"))
}

fn mount_tmpfs(size: &str, mode: &str) -> Result<OwnedFd, Error> {
    let mount = || -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), "size", size)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), "mode", mode)?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let attributes =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    mount().map_err(Error::step("mount a tmpfs"))
}

/// Why the root could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mount of the host could not be cloned.
    #[error("cannot show {} to the sandbox: {source}", path.display())]
    Clone {
        /// What was to be shown.
        path: PathBuf,
        /// What `open_tree(2)` or `mount_setattr(2)` said.
        source: io::Error,
    },
    /// Somebody replaced a file between two steps of the start.
    #[error("{} was replaced by another file while the guest was being started; start again", path.display())]
    Changed {
        /// The pin's path.
        path: PathBuf,
    },
    /// A mount point could not be made.
    #[error("cannot make {} in the sandbox: {source}", path.display())]
    MountPoint {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another step failed.
    #[error("cannot build the sandbox's root: {step}: {source}")]
    Step {
        /// The step.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    fn step(step: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |source| Self::Step { step, source: source.into() }
    }
}

/// A descriptor that only stands for a place.
pub(super) fn open_place(at: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    // Links of the new root are followed inside it.
    let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(at, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}
