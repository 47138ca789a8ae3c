//! The file of mounts, device nodes, absent names and Landlock rights as it is written.

use serde::Deserialize;

use crate::source::Mistake;

/// The file of mounts, device nodes, absent names and Landlock rights.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mounts {
    /// What is mounted read-only.
    pub mount: Vec<Mount>,
    /// Nodes of the private `/dev`.
    pub device: Vec<Named>,
    /// Writable folders of this guest alone.
    pub private: Vec<Named>,
    /// Names that do not exist in the sandbox, on purpose.
    pub absent: Vec<Absent>,
    /// Names that libraries of windows look for, and do without.
    pub sought: Vec<Sought>,
    /// Rights that the ruleset handles.
    pub handled: Vec<Handled>,
    /// Rights that places get.
    pub grant: Vec<Grant>,
}

/// A tree or file that is mounted read-only.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// What the path is relative to.
    pub base: Base,
    /// The path.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Whether the sandbox does without it where the host has none.
    pub optional: bool,
    /// The only architecture that has it.
    pub arch: Option<String>,
    /// The only kind of start that has it.
    pub when: Option<Occasion>,
    /// Why it is needed.
    pub reason: String,
}

/// Which starts have a mount that not all have.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// The emulator opens windows.
    Windows,
}

/// See `mounts::Base`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Absolute.
    System,
    /// Beneath the emulator's prefix.
    Prefix,
    /// Beneath the emulator's prefix, unless that is the system's.
    OwnPrefix,
}

/// See `mounts::MountKind`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A folder and all that is in it.
    Tree,
    /// One file.
    File,
}

/// See `mounts::Place`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Mounts.
    ReadOnly,
    /// The emulator's binary and its loader.
    Program,
    /// Nodes of `/dev`.
    Device,
    /// Private folders.
    Private,
    /// Folders that are shared with the guest.
    Shared,
    /// Folders that are shared with the guest, which it may not write (`readonly=on`).
    SharedReadOnly,
    /// Folders of the sandbox itself in which only some of the host's entries are shown.
    Listed,
}

/// A path and its reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The path.
    pub path: String,
    /// Why it is there.
    pub reason: String,
}

/// A name, or all names that begin so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// The whole name.
    pub path: Option<String>,
    /// The beginning of the names.
    pub prefix: Option<String>,
    /// Who asks for it, and why it need not be there.
    pub reason: String,
}

/// A name that libraries of windows look for, with all beneath it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sought {
    /// What the path is relative to.
    pub base: SoughtIn,
    /// The path.
    pub path: String,
    /// Who asks for it.
    pub reason: String,
}

/// See `mounts::SoughtIn`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum SoughtIn {
    /// Absolute.
    System,
    /// The user's own folder.
    Home,
    /// `XDG_CONFIG_HOME`.
    Config,
    /// `XDG_CACHE_HOME`.
    Cache,
    /// `XDG_DATA_HOME`.
    Data,
}

/// A right that the ruleset handles.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handled {
    /// Name of the right.
    pub right: String,
    /// Landlock ABI that brought it.
    pub abi: u8,
    /// What it keeps out.
    pub reason: String,
}

/// Rights that one kind of place gets, for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Kind of place.
    pub place: Place,
    /// Names of the rights.
    pub rights: Vec<String>,
    /// Why.
    pub reason: String,
}

/// Reads the file of mounts.
///
/// # Errors
/// [`Mistake::Syntax`], which names line and column.
pub fn mounts(text: &str) -> Result<Mounts, Mistake> {
    Ok(toml::from_str(text)?)
}
