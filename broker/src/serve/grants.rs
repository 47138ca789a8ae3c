//! What the emulator may open: the grant table, and the decision on each request. It is made from names that stand in
//! the table and inodes that were pinned at start; no path is looked up here.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use protocol::{AccessMode, Errno, Name, OpenBits, OpenFlags};
use rustix::fs::OFlags;

use super::workers::Work;
use crate::open::output::Home;
use crate::open::pin::Pin;
use crate::paths::absolute;

/// The greatest access that a grant gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Reading.
    ReadOnly,
    /// Opening to append; what is there cannot be truncated.
    AppendOnly,
    /// Writing.
    WriteOnly,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    /// Whether an open with `flags` stays within this access.
    #[must_use]
    pub fn allows(self, flags: OpenFlags) -> bool {
        let truncates = flags.contains(OpenBits::TRUNCATE);
        match self {
            Self::ReadOnly => flags.access() == AccessMode::Read && !truncates,
            Self::AppendOnly => flags.access() == AccessMode::Write && flags.contains(OpenBits::APPEND) && !truncates,
            Self::WriteOnly => flags.access() == AccessMode::Write,
            Self::ReadWrite => true,
        }
    }
}

/// What a granted file is to the emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// An image that the command line names.
    Image,
    /// A member of an image's backing chain, which the image's header names.
    Backing,
    /// A file that is only read: kernel, firmware, secret ...
    File,
    /// A file that the emulator writes: a log, a character device's output.
    Output,
    /// The pid file, which the emulator removes at its end.
    PidFile,
    /// A file that guest memory lives in.
    Memory,
    /// A device node.
    Device,
}

/// What the emulator may do with one file.
#[derive(Debug)]
pub struct Grant {
    /// What it is.
    pub role: Role,
    /// The option that brought it, as typed; for messages.
    pub option: String,
    /// The greatest access.
    pub access: Access,
    /// The inode.
    pub pin: Arc<Pin>,
    /// The inode through a read-only mount, which read-only grants are opened by.
    pub view: Option<OwnedFd>,
    /// The name that the emulator uses for it.
    pub name: Vec<u8>,
    /// Where its name is, for a file that the broker may have to remove.
    pub home: Option<Home>,
    /// Whether the emulator has ever opened it.
    pub opened: AtomicBool,
}

impl Grant {
    /// What an open of this grant goes through: a descriptor opened on a read-only mount cannot be made writable, nor its
    /// inode's attributes changed through it.
    #[must_use]
    pub fn source(&self) -> BorrowedFd<'_> {
        match &self.view {
            Some(view) if self.access == Access::ReadOnly => view.as_fd(),
            _ => self.pin.as_fd(),
        }
    }
}

/// The grants of one guest, by name.
#[derive(Debug)]
pub struct Grants {
    working_directory: PathBuf,
    grants: Vec<Arc<Grant>>,
    by_name: HashMap<Vec<u8>, Entry>,
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Grant(usize),
    Absent(Errno),
}

/// What is to be done about a request.
#[derive(Debug)]
pub enum Decision {
    /// Carry it out.
    Carry(Arc<Grant>, Work),
    /// Answer this errno: it is what the host itself would say.
    Fail(Errno),
    /// Answer `EACCES`, and tell the operator.
    Refuse(Refusal),
}

/// Why something is refused, in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: String,
    /// What would allow it.
    pub advice: String,
}

impl Grants {
    /// A table of `grants`; of two for the same name the wider one counts. `absent` names are known and have nothing
    /// behind them; they answer with their errno.
    #[must_use]
    pub fn new(working_directory: PathBuf, grants: Vec<Grant>, absent: Vec<(Vec<u8>, Errno)>) -> Self {
        let mut by_name = HashMap::new();
        for (name, errno) in absent {
            by_name.insert(name, Entry::Absent(errno));
        }
        let mut order: Vec<(usize, &Grant)> = grants.iter().enumerate().collect();
        order.sort_by_key(|(_, grant)| grant.access);
        for (index, grant) in order {
            for name in spellings(&working_directory, grant) {
                by_name.insert(name, Entry::Grant(index));
            }
        }
        let grants = grants.into_iter().map(Arc::new).collect();
        Self { working_directory, grants, by_name }
    }

    /// Every grant.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.grants.iter()
    }

    /// Decides on an open.
    #[must_use]
    pub fn decide_open(&self, name: &Name, flags: OpenFlags) -> Decision {
        let grant = match self.look_up(name) {
            Some(Entry::Absent(errno)) => return Decision::Fail(errno),
            Some(Entry::Grant(index)) => self.grants.get(index),
            None => None,
        };
        let Some(grant) = grant else { return Decision::Refuse(unknown_name()) };
        if flags.contains(OpenBits::DIRECTORY) {
            return Decision::Fail(errno(rustix::io::Errno::NOTDIR));
        }
        if flags.contains(OpenBits::CREATE) && flags.contains(OpenBits::EXCLUSIVE) {
            return Decision::Fail(errno(rustix::io::Errno::EXIST));
        }
        if flags.contains(OpenBits::PATH) {
            return Decision::Refuse(Refusal {
                reason: "descriptors that only stand for a path (O_PATH) are never handed out".into(),
                advice: "open the file itself".into(),
            });
        }
        if !grant.access.allows(flags) {
            return Decision::Refuse(too_much(grant));
        }
        Decision::Carry(Arc::clone(grant), Work::Open(open_flags(flags)))
    }

    /// Decides on the removal of a name.
    #[must_use]
    pub fn decide_unlink(&self, name: &Name) -> Decision {
        let grant = match self.look_up(name) {
            Some(Entry::Absent(errno)) => return Decision::Fail(errno),
            Some(Entry::Grant(index)) => self.grants.get(index),
            None => None,
        };
        match grant {
            Some(grant) if grant.role == Role::PidFile => Decision::Carry(Arc::clone(grant), Work::Remove),
            Some(grant) => Decision::Refuse(Refusal {
                reason: format!("`{}` grants to open the file, not to remove it", grant.option),
                advice: "remove it yourself once the guest has ended".into(),
            }),
            None => Decision::Refuse(unknown_name()),
        }
    }

    /// The entry for a name as spelled, or else as it reads from the directory that the emulator was started in; a
    /// daemon that has changed its directory since still means that one.
    fn look_up(&self, name: &Name) -> Option<Entry> {
        let as_spelled = self.by_name.get(name.as_bytes());
        let entry = as_spelled.or_else(|| self.by_name.get(&absolute(&self.working_directory, name.as_bytes())));
        entry.copied()
    }
}

/// All the ways to spell a grant's name that are understood: as given, made absolute, and with links resolved.
fn spellings(working_directory: &Path, grant: &Grant) -> [Vec<u8>; 3] {
    let resolved = grant.pin.path().as_os_str().as_bytes().to_vec();
    [resolved, absolute(working_directory, &grant.name), grant.name.clone()]
}

/// The flags of a reopening: as asked for, but nothing is created, and the link to the pin must be followed.
fn open_flags(flags: OpenFlags) -> OFlags {
    let flags =
        flags.without(OpenBits::CREATE).without(OpenBits::NOFOLLOW).with(OpenBits::CLOEXEC).with(OpenBits::NOCTTY);
    OFlags::from_bits_retain(u32::from_ne_bytes(flags.to_linux().to_ne_bytes()))
}

fn unknown_name() -> Refusal {
    Refusal {
        reason: "nothing on the emulator's command line, and no header of an image that it names, names this file"
            .into(),
        advice: "name it there (-drive, -blockdev, ...) when the guest is started".into(),
    }
}

fn too_much(grant: &Grant) -> Refusal {
    let (reason, advice) = match grant.role {
        Role::Output => (
            format!("`{}` grants only to write it, as a log is written", grant.option),
            "open it as the option says: to write, or to append where append=on is given",
        ),
        Role::Backing => (
            format!("it is a backing file of `{}`, which is granted for reading only", grant.option),
            "commit with `qemu-img commit` while the guest is off",
        ),
        Role::Image => (
            format!("`{}` grants it for reading only", grant.option),
            "leave out readonly=on, read-only=on or media=cdrom there, if the guest is to write",
        ),
        _ => (format!("`{}` grants it for reading only", grant.option), "name it by an option that writes to it"),
    };
    Refusal { reason, advice: advice.into() }
}

fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_io(&errno.into())
}
