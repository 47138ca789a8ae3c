//! Access lists for bridges: who may have a tap on which, in the syntax of QEMU's `bridge.conf`.
//!
//! A list counts whole or not at all: what is not understood, or cannot be read, might have been a `deny`.

mod error;
mod grammar;
mod host;
mod reader;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

pub use error::{Error, FileFault};
pub use grammar::Fault;
pub use host::{Host, Text, ThisHost};

use grammar::Bridges;

/// The list of a host, where Debian's QEMU has it. An absolute path: QEMU's helper looks for it beside its own program
/// file, which need not be where the administrator put the list.
pub const DEFAULT: &str = "/etc/qemu/bridge.conf";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The real user id.
    pub uid: u32,
    /// The real group id, and the supplementary ones.
    pub groups: Vec<u32>,
}

impl Caller {
    /// Who started this process.
    ///
    /// # Errors
    /// `getgroups(2)`; none on any kernel that broker runs on.
    pub fn of_this_process() -> std::io::Result<Self> {
        let mut groups = vec![rustix::process::getgid().as_raw()];
        groups.extend(nix::unistd::getgroups()?.into_iter().map(nix::unistd::Gid::as_raw));
        Ok(Self { uid: rustix::process::getuid().as_raw(), groups })
    }
}

/// A list, read whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessList {
    path: PathBuf,
    rules: Vec<Rule>,
}

impl AccessList {
    /// Reads the list at the absolute path `path`, and all that it includes, for a process that has no more rights than
    /// who started it: files may be root's or that user's.
    ///
    /// # Errors
    /// [`Error`]: anything but a list that is understood whole.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_on(&ThisHost { own_files: true }, path)
    }

    /// Reads [`DEFAULT`], and all that it includes, for a process that may do more than who started it: all files must
    /// be root's.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_this_host() -> Result<Self, Error> {
        Self::read_on(&ThisHost { own_files: false }, Path::new(DEFAULT))
    }

    /// The same with files, users and groups that are `host`'s.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_on(host: &impl Host, path: &Path) -> Result<Self, Error> {
        let rules = reader::read(host, path)?;
        Ok(Self { path: path.to_owned(), rules })
    }

    /// Whether `caller` may use the bridge of these `names` (its own first): a rule for any of them allows it, and none
    /// denies it, wherever the rules stand.
    ///
    /// # Errors
    /// [`Error::Denied`] and [`Error::NotAllowed`], which name file, line and bridge.
    pub fn check(&self, names: &[String], caller: &Caller) -> Result<(), Error> {
        let bridge = names.first().cloned().unwrap_or_default();
        let mut applying = self.rules.iter().filter(|rule| rule.applies_to(names, caller));
        if let Some(rule) = applying.clone().find(|rule| rule.effect == Effect::Deny) {
            return Err(Error::Denied { bridge, place: rule.place.clone(), text: rule.text.clone() });
        }
        if applying.any(|rule| rule.effect == Effect::Allow) {
            return Ok(());
        }
        Err(Error::NotAllowed { bridge, list: self.path.clone(), uid: caller.uid })
    }
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} line {}", error::shown(&self.file), self.line)
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// One `allow` or `deny`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    effect: Effect,
    bridges: Bridges,
    /// Whom it is for; nobody named: everybody.
    users: Vec<u32>,
    groups: Vec<u32>,
    place: Place,
    /// The line itself, for messages.
    text: String,
}

impl Rule {
    fn applies_to(&self, names: &[String], caller: &Caller) -> bool {
        let is_meant = match &self.bridges {
            Bridges::All => true,
            Bridges::One(name) => names.iter().any(|other| other == name.as_str()),
        };
        let is_for_everybody = self.users.is_empty() && self.groups.is_empty();
        let is_for_caller =
            self.users.contains(&caller.uid) || self.groups.iter().any(|group| caller.groups.contains(group));
        is_meant && (is_for_everybody || is_for_caller)
    }
}
