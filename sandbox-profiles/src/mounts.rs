//! What the emulator's sandbox holds besides what its command line names: read-only trees, device
//! nodes, private folders, and the Landlock rights on each of them. The lists and their reasons are
//! in `profiles/qemu-system.mounts.toml`.

use crate::generated;

/// What the path of a [`Mount`] is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing: the path is absolute.
    System,
    /// The emulator's prefix: `/usr` for `/usr/bin/qemu-system-x86_64`.
    Prefix,
    /// The emulator's prefix, but only where that is not `/usr` (of which only parts are needed).
    OwnPrefix,
}

/// What a [`Mount`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A folder with all that is in it.
    Tree,
    /// One file.
    File,
}

/// A host folder or file that the sandbox has under the same path, read-only, nosuid and nodev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What the path is relative to.
    pub base: Base,
    /// The path; absolute for [`Base::System`], else relative. May lead through symbolic links.
    pub path: &'static str,
    /// Folder or file.
    pub kind: MountKind,
    /// Whether a host that lacks it is fine.
    pub optional: bool,
    /// Whether only an emulator that opens windows needs it.
    pub windows: bool,
    /// Why the emulator needs it.
    pub reason: &'static str,
}

/// A node of the private `/dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path, the same as on the host.
    pub path: &'static str,
    /// Why the emulator needs it.
    pub reason: &'static str,
}

/// A writable folder that only this guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateFolder {
    /// Its path in the sandbox.
    pub path: &'static str,
    /// Why the emulator needs it.
    pub reason: &'static str,
}

/// A name that the emulator or its libraries look for and that the sandbox does not have, on
/// purpose: the answer is `ENOENT`, and no operator needs to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The name as the emulator asks for it.
    pub name: &'static str,
    /// Whether all names that begin so are meant.
    pub prefix: bool,
    /// Who asks, and why it may be missing.
    pub reason: &'static str,
}

/// What the path of a [`Sought`] is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoughtIn {
    /// Nothing: the path is absolute.
    System,
    /// `HOME`.
    Home,
    /// `XDG_CONFIG_HOME`, else `.config` in `HOME` (XDG Base Directory Specification).
    Config,
    /// `XDG_CACHE_HOME`, else `.cache` there.
    Cache,
    /// `XDG_DATA_HOME`, else `.local/share` there.
    Data,
}

/// A name that libraries of windows look for, with all beneath it. The sandbox answers for what it shows there; the rest is
/// missing, and no operator needs to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sought {
    /// What the path is relative to.
    pub base: SoughtIn,
    /// The path.
    pub path: &'static str,
    /// Who asks for it.
    pub reason: &'static str,
}

/// Landlock rights, under their names in `include/uapi/linux/landlock.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LandlockRight {
    /// `LANDLOCK_ACCESS_FS_EXECUTE`
    Execute,
    /// `LANDLOCK_ACCESS_FS_WRITE_FILE`
    WriteFile,
    /// `LANDLOCK_ACCESS_FS_READ_FILE`
    ReadFile,
    /// `LANDLOCK_ACCESS_FS_READ_DIR`
    ReadDir,
    /// `LANDLOCK_ACCESS_FS_REMOVE_DIR`
    RemoveDir,
    /// `LANDLOCK_ACCESS_FS_REMOVE_FILE`
    RemoveFile,
    /// `LANDLOCK_ACCESS_FS_MAKE_CHAR`
    MakeChar,
    /// `LANDLOCK_ACCESS_FS_MAKE_DIR`
    MakeDir,
    /// `LANDLOCK_ACCESS_FS_MAKE_REG`
    MakeReg,
    /// `LANDLOCK_ACCESS_FS_MAKE_SOCK`
    MakeSock,
    /// `LANDLOCK_ACCESS_FS_MAKE_FIFO`
    MakeFifo,
    /// `LANDLOCK_ACCESS_FS_MAKE_BLOCK`
    MakeBlock,
    /// `LANDLOCK_ACCESS_FS_MAKE_SYM`
    MakeSym,
    /// `LANDLOCK_ACCESS_FS_REFER`
    Refer,
    /// `LANDLOCK_ACCESS_FS_TRUNCATE`
    Truncate,
    /// `LANDLOCK_ACCESS_FS_IOCTL_DEV`
    IoctlDev,
    /// `LANDLOCK_ACCESS_NET_BIND_TCP`
    BindTcp,
    /// `LANDLOCK_ACCESS_NET_CONNECT_TCP`
    ConnectTcp,
    /// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`
    ScopeAbstractUnixSocket,
    /// `LANDLOCK_SCOPE_SIGNAL`
    ScopeSignal,
}

/// A right that the emulator's ruleset handles, so that nobody has it without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handled {
    /// The right.
    pub right: LandlockRight,
    /// The Landlock ABI that brought it; older kernels cannot handle it.
    pub abi: u8,
    /// What handling it keeps out.
    pub reason: &'static str,
}

/// A kind of place that rights are granted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Each [`Mount`].
    ReadOnly,
    /// The emulator's binary and its dynamic loader, one rule for each file.
    Program,
    /// Each [`Device`].
    Device,
    /// Each [`PrivateFolder`].
    Private,
    /// Folders that are shared with the guest.
    Shared,
    /// Folders that are shared with the guest, which it may not write (`readonly=on`).
    SharedReadOnly,
    /// Folders of the sandbox itself in which only some of the host's entries are shown.
    Listed,
}

/// Rights on one kind of place. Rights that only folders can carry must be left out of a rule on a
/// file (`landlock_add_rule(2)` answers `EINVAL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Where.
    pub place: Place,
    /// What.
    pub rights: &'static [LandlockRight],
    /// Why.
    pub reason: &'static str,
}

/// What every sandbox mounts read-only.
pub fn mounts() -> impl Iterator<Item = &'static Mount> {
    generated::MOUNTS.iter().filter(|mount| !mount.windows)
}

/// What the sandbox of an emulator that opens windows mounts read-only besides.
pub fn window_mounts() -> impl Iterator<Item = &'static Mount> {
    generated::MOUNTS.iter().filter(|mount| mount.windows)
}

/// The nodes of the private `/dev`.
pub fn devices() -> impl Iterator<Item = &'static Device> {
    generated::DEVICES.iter()
}

/// The writable folders.
pub fn private_folders() -> impl Iterator<Item = &'static PrivateFolder> {
    generated::PRIVATE_FOLDERS.iter()
}

/// The names that are missing on purpose.
pub fn absent() -> impl Iterator<Item = &'static Absent> {
    generated::ABSENT.iter()
}

/// What libraries of windows look for, and do without where the sandbox does not show it.
pub fn sought_by_windows() -> impl Iterator<Item = &'static Sought> {
    generated::SOUGHT.iter()
}

/// Why the sandbox does not have this name, if that is on purpose. The name is compared as it was
/// asked for, byte by byte.
#[must_use]
pub fn absent_reason(name: &[u8]) -> Option<&'static str> {
    absent()
        .find(|entry| {
            let wanted = entry.name.as_bytes();
            if entry.prefix { name.starts_with(wanted) } else { name == wanted }
        })
        .map(|entry| entry.reason)
}

/// The Landlock rights that the emulator's ruleset handles.
pub fn handled_rights() -> impl Iterator<Item = &'static Handled> {
    generated::HANDLED.iter()
}

/// The grants for one kind of place.
pub fn grants(place: Place) -> impl Iterator<Item = &'static Grant> {
    generated::GRANTS.iter().filter(move |grant| grant.place == place)
}
