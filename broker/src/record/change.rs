//! What the operator reads when an image is not what it was.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Role;
use crate::shell;

/// The format whose name need not be given to `broker chain accept`.
pub const USUAL_FORMAT: &str = "qcow2";

/// Something that an image says now and did not say when it was recorded. The message is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The image.
    pub image: PathBuf,
    /// What has changed.
    pub what: What,
    /// The command that records what it says now.
    pub command: Accept,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The image's own format.
    Format {
        /// As recorded.
        old: String,
        /// As found.
        new: String,
    },
    /// It names another file, or the same one for something else or in another format.
    Reference {
        /// What for.
        role: Role,
        /// What was recorded for that: paths and formats.
        old: Vec<(PathBuf, String)>,
        /// What is found.
        new: (PathBuf, String),
    },
    /// A guest created it, and it names what that guest was not granted.
    Created {
        /// What for.
        role: Role,
        /// What is found.
        new: (PathBuf, String),
    },
}

/// `broker chain accept` with all that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accept {
    /// The image.
    pub image: PathBuf,
    /// What it is opened as.
    pub format: String,
    /// Folders of what it names.
    pub image_roots: Vec<PathBuf>,
    /// Where the records are, if not where they usually are.
    pub chain_dir: Option<PathBuf>,
}

impl std::error::Error for Change {}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "image {}: ", shown(&self.image))?;
        let command = &self.command;
        match &self.what {
            What::Format { old, new } if old == "raw" => write!(
                formatter,
                "it was {old} when it was recorded and is taken for {new} now: a guest can write such a header into its \
                 raw disk; have it opened as raw (format=raw), or if it was you who made it {new}: {command}"
            ),
            What::Format { old, new } => write!(
                formatter,
                "it was {old} when it was recorded and is opened as {new} now; state format={old}, or if it was you who \
                 made it {new}: {command}"
            ),
            What::Reference { role, old, new } => write!(
                formatter,
                "its header names the {role} {} now, and {}: the guest may have written that; if it was you: {command}",
                file(new),
                before(old),
                role = described(*role),
            ),
            What::Created { role, new } => write!(
                formatter,
                "a guest created it, and its header names the {role} {}, which that guest was not granted; if it may have \
                 it: {command}",
                file(new),
                role = described(*role),
            ),
        }
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("broker chain accept")?;
        if let Some(folder) = &self.chain_dir {
            write!(formatter, " --chain-dir {}", shown(folder))?;
        }
        for root in &self.image_roots {
            write!(formatter, " --image-root {}", shown(root))?;
        }
        if self.format != USUAL_FORMAT {
            write!(formatter, " --format {}", shell::word(self.format.as_ref()))?;
        }
        write!(formatter, " {}", shown(&self.image))
    }
}

fn described(role: Role) -> &'static str {
    match role {
        Role::Backing => "backing file",
        Role::DataFile => "data file",
        Role::Extent => "extent",
    }
}

fn shown(path: &Path) -> String {
    shell::word(path.as_os_str())
}

fn file((path, format): &(PathBuf, String)) -> String {
    format!("{} ({format})", shown(path))
}

fn before(old: &[(PathBuf, String)]) -> String {
    if old.is_empty() {
        return "none is recorded, for it named none or the command line named another one".to_owned();
    }
    format!("{} when it was recorded", old.iter().map(file).collect::<Vec<_>>().join(", "))
}
