//! The policy: what is to be done about each request. Decisions are made from what stands in memory; whatever has to look
//! at a file is [`Work`].

use std::path::Path;
use std::sync::Arc;

use protocol::{AccessMode, Errno, FileMode, Name, OpenBits, OpenFlags, RequestBody, Status};

use super::folders::{Folders, Purpose};
use super::grants::{Access, Grant, Role, only_reads};
use super::ledger::Ledger;
use super::links::{LinkId, Once};
use super::refusal::Refusal;
use super::sockets::Sockets;
use super::table::{File, Found, Held, Slot, Table};
use super::terminals::Terminals;
use super::work::{Creation, Work};
use crate::open::terminal::MULTIPLEXER;
use crate::record::journal::Journal;

/// What QEMU opens for networks that it was not handed.
const NETWORK_DEVICES: [&[u8]; 2] = [b"/dev/net/tun", b"/dev/vhost-net"];

/// All that is granted to one guest.
#[derive(Debug)]
pub struct Policy {
    /// Files.
    pub table: Table,
    /// Folders.
    pub folders: Folders,
    /// What was created.
    pub ledger: Arc<Ledger>,
    /// Who owns new files: uid and gid; none: whoever this process is.
    pub owner: Option<(u32, u32)>,
    /// Where it is written down what was created.
    pub journal: Option<Arc<Journal>>,
    /// Sockets.
    pub sockets: Sockets,
    /// Pseudo-terminals; none where no option asks for one.
    pub terminals: Option<Arc<Terminals>>,
}

/// What is to be done about a request.
#[derive(Debug)]
pub enum Decision {
    /// Do this.
    Work(Work),
    /// Have the process behind a link open a file.
    Forward(LinkId, Name, OpenFlags),
    /// Nothing; it is so.
    Done,
    /// Tell this.
    Status(Status),
    /// Answer this errno: it is what the host itself would say.
    Fail(Errno),
    /// Answer `EACCES`, and tell the operator.
    Refuse(Refusal),
}

impl Policy {
    /// Decides on a request; a permission for one use is used up here.
    pub fn decide(&mut self, body: &RequestBody) -> Decision {
        match body {
            RequestBody::Open { name, flags } => self.decide_open(name, *flags),
            RequestBody::Create { name, flags, mode } => self.decide_create(name, *flags, *mode),
            RequestBody::ChangeMedium { name, flags } => self.decide_medium(name, *flags),
            RequestBody::Unlink { name } => self.decide_unlink(name),
            RequestBody::CommitBegin { name } => self.decide_commit(name),
            RequestBody::CommitEnd { name } => self.end_commit(name),
            RequestBody::Resolve { name } => self.resolve(name),
            RequestBody::Status => Decision::Status(self.status()),
            RequestBody::Bind { address, socket } => self.sockets.decide_bind(address, *socket),
            RequestBody::Connect { address, socket } => self.sockets.decide_connect(address, *socket),
            // The session has written it down.
            RequestBody::Refused(_) => Decision::Done,
        }
    }

    fn decide_open(&mut self, name: &Name, flags: OpenFlags) -> Decision {
        match self.table.look_up(name.as_bytes()) {
            Some(Found::Absent(errno)) => Decision::Fail(errno),
            Some(Found::Slot(_, slot)) => open_slot(slot, flags),
            None if name.as_bytes() == MULTIPLEXER => self.make_terminal(flags),
            None => self.open_beneath(name, flags),
        }
    }

    /// An open of what pseudo-terminals are made of.
    fn make_terminal(&self, flags: OpenFlags) -> Decision {
        match &self.terminals {
            Some(terminals) => never(flags).unwrap_or(Decision::Work(Work::MakeTerminal(Arc::clone(terminals), flags))),
            None => Decision::Refuse(Refusal::no_terminals()),
        }
    }

    /// An open of a name that was not pinned.
    fn open_beneath(&self, name: &Name, flags: OpenFlags) -> Decision {
        let name = self.table.absolute(name.as_bytes());
        let medium = self.folders.locate(Purpose::Media, &name).filter(|_| only_reads(flags));
        let there = medium.or_else(|| self.folders.locate(Purpose::Attachment, &name));
        let work = match (there, self.folders.locate(Purpose::Creation, &name)) {
            (Some(place), _) => Work::Insert(place, flags),
            (None, Some(place)) => Work::LookAt(place),
            (None, None) if NETWORK_DEVICES.contains(&name.as_slice()) => {
                return Decision::Refuse(Refusal::network_device());
            }
            (None, None) => return Decision::Refuse(Refusal::unknown_name()),
        };
        never(flags).unwrap_or(Decision::Work(work))
    }

    fn decide_create(&mut self, name: &Name, flags: OpenFlags, mode: FileMode) -> Decision {
        let before = match self.table.look_up(name.as_bytes()) {
            Some(Found::Absent(errno)) => return Decision::Fail(errno),
            // The operator may have removed it meanwhile.
            Some(Found::Slot(_, Slot { file: File::Pinned(grant), .. })) if grant.role == Role::Created => {
                Some(Arc::clone(grant))
            }
            Some(Found::Slot(..)) if flags.contains(OpenBits::EXCLUSIVE) => {
                return Decision::Fail(errno(rustix::io::Errno::EXIST));
            }
            Some(Found::Slot(_, slot)) => return open_slot(slot, flags),
            None => None,
        };
        let absolute = self.table.absolute(name.as_bytes());
        let Some(place) = self.folders.locate(Purpose::Creation, &absolute) else {
            if self.folders.leads_to(&absolute) {
                return Decision::Fail(errno(rustix::io::Errno::ISDIR));
            }
            return Decision::Refuse(Refusal::no_creation(parent(&absolute)));
        };
        if let Some(refusal) = never(flags) {
            return refusal;
        }
        // What the command line has the program make is not what `--create-files` and `--create-bytes` bound.
        let ledger = if place.folder.only.is_some() { Arc::new(Ledger::unbounded()) } else { Arc::clone(&self.ledger) };
        Decision::Work(Work::Create(Box::new(Creation {
            place,
            name: name.as_bytes().to_vec(),
            flags,
            mode: mode.bits(),
            owner: self.owner,
            ledger,
            journal: self.journal.clone(),
            before,
        })))
    }

    /// A medium is a file that cannot be written through this grant.
    fn decide_medium(&mut self, name: &Name, flags: OpenFlags) -> Decision {
        if !only_reads(flags) {
            return Decision::Refuse(Refusal::no_medium());
        }
        match self.table.look_up(name.as_bytes()) {
            Some(Found::Absent(errno)) => Decision::Fail(errno),
            Some(Found::Slot(_, slot)) if slot.access() == Access::ReadOnly => open_slot(slot, flags),
            Some(Found::Slot(..)) => Decision::Refuse(Refusal::no_medium()),
            None => match self.folders.locate(Purpose::Media, &self.table.absolute(name.as_bytes())) {
                Some(place) => never(flags).unwrap_or(Decision::Work(Work::Insert(place, flags))),
                None => Decision::Refuse(Refusal::no_medium()),
            },
        }
    }

    fn decide_unlink(&mut self, name: &Name) -> Decision {
        if let Some(decision) = self.sockets.decide_unlink(name) {
            return decision;
        }
        match self.table.look_up(name.as_bytes()) {
            Some(Found::Absent(errno)) => Decision::Fail(errno),
            Some(Found::Slot(_, Slot { file: File::Pinned(grant), .. }))
                if matches!(grant.role, Role::PidFile | Role::Created | Role::Target) =>
            {
                Decision::Work(Work::Remove(Arc::clone(grant), Arc::clone(&self.ledger)))
            }
            Some(Found::Slot(_, slot)) => Decision::Refuse(Refusal::not_to_remove(slot.option())),
            None => match self.folders.locate(Purpose::Creation, &self.table.absolute(name.as_bytes())) {
                Some(place) => Decision::Work(Work::LookAt(place)),
                None => Decision::Refuse(Refusal::unknown_to_remove(name.as_bytes())),
            },
        }
    }

    fn decide_commit(&mut self, name: &Name) -> Decision {
        match self.table.look_up(name.as_bytes()) {
            Some(Found::Absent(errno)) => Decision::Fail(errno),
            Some(Found::Slot(_, slot)) if slot.may_be_written() => Decision::Done,
            Some(Found::Slot(_, slot)) => Decision::Refuse(Refusal::too_much(slot)),
            None => Decision::Refuse(Refusal::unknown_name()),
        }
    }

    fn end_commit(&mut self, name: &Name) -> Decision {
        match self.table.look_up(name.as_bytes()) {
            Some(Found::Slot(_, slot)) => {
                if let Some(Held { once: Some(once), .. }) = &mut slot.commit {
                    *once = Once::Spent;
                }
                Decision::Done
            }
            Some(Found::Absent(errno)) => Decision::Fail(errno),
            None => Decision::Refuse(Refusal::unknown_name()),
        }
    }

    /// Whether a name is known; the operator is not troubled with those that are not.
    fn resolve(&mut self, name: &Name) -> Decision {
        let absolute = self.table.absolute(name.as_bytes());
        let known = matches!(self.table.look_up(name.as_bytes()), Some(Found::Slot(..)))
            || self.table.leads_to(&absolute)
            || self.folders.leads_to(&absolute)
            || self.sockets.has_path(&absolute)
            || Purpose::ALL.iter().any(|use_| self.folders.locate(*use_, &absolute).is_some());
        if known { Decision::Done } else { Decision::Fail(errno(rustix::io::Errno::NOENT)) }
    }

    /// Grants a file or a terminal that was made for the emulator, in the place of one that had the name before.
    pub fn add_made(&mut self, grant: Arc<Grant>) {
        let before = match self.table.look_up(&grant.name) {
            Some(Found::Slot(id, slot)) if slot.role() == grant.role => Some(id),
            _ => None,
        };
        before.and_then(|id| self.table.remove(id));
        self.table.pin(grant);
    }

    /// Takes back what was granted for a file that was made for the emulator, and removed; by device and inode number.
    pub fn forget(&mut self, identity: (u64, u64)) {
        let made = |grant: &Grant| matches!(grant.role, Role::Created | Role::PidFile | Role::Target);
        let same = |file: &File| matches!(file, File::Pinned(grant) if made(grant) && grant.pin.identity() == identity);
        let slots: Vec<_> = self.table.iter().filter(|(_, slot)| same(&slot.file)).map(|(id, _)| id).collect();
        for id in slots {
            self.table.remove(id);
        }
    }

    /// Whether `body` asks to create a file that has been created for this guest since.
    #[must_use]
    pub fn was_created_meanwhile(&mut self, body: &RequestBody) -> bool {
        let RequestBody::Create { name, flags, .. } = body else { return false };
        let found = self.table.look_up(name.as_bytes());
        let created = matches!(found, Some(Found::Slot(_, slot)) if slot.role() == Role::Created);
        created && !flags.contains(OpenBits::EXCLUSIVE)
    }

    /// What is granted, and how much of it is used.
    #[must_use]
    pub fn status(&self) -> Status {
        let (files_created, bytes_created) = self.ledger.used();
        let writable = |slot: &Slot| slot.role() == Role::Backing && slot.may_be_written();
        let commits = self.table.iter().filter(|(_, slot)| writable(slot)).count();
        Status {
            grants: u32::try_from(self.table.len()).unwrap_or(u32::MAX),
            commits: u32::try_from(commits).unwrap_or(u32::MAX),
            files_created,
            files_allowed: self.ledger.limits.files,
            bytes_created,
            bytes_allowed: self.ledger.limits.bytes,
        }
    }
}

impl Slot {
    fn may_be_written(&self) -> bool {
        let by_permission = self.commit.as_ref().is_some_and(|held| held.once.map(Once::now) != Some(Once::Spent));
        by_permission || matches!(self.access(), Access::WriteOnly | Access::ReadWrite)
    }
}

/// Decides on an open of a granted file.
fn open_slot(slot: &mut Slot, flags: OpenFlags) -> Decision {
    if let Some(refusal) = never(flags) {
        return refusal;
    }
    if let Some(commit) = &mut slot.commit {
        let admitted = commit.admits(flags);
        if admitted && !only_reads(flags) {
            return Decision::Forward(commit.link, commit.name.clone(), flags);
        }
    }
    match &mut slot.file {
        // A thread of the broker would wait with it.
        File::Pinned(grant) if grant.role == Role::Stream && waits(flags) => {
            Decision::Refuse(Refusal::waiting(&grant.option))
        }
        File::Pinned(grant) if grant.access.allows(flags) => Decision::Work(Work::Open(Arc::clone(grant), flags)),
        File::Held(held) if held.access.allows(flags) => {
            if held.admits(flags) {
                Decision::Forward(held.link, held.name.clone(), flags)
            } else {
                Decision::Refuse(Refusal::used_up())
            }
        }
        File::Pinned(_) | File::Held(_) => Decision::Refuse(Refusal::too_much(slot)),
    }
}

/// Whether an open of a FIFO with `flags` waits until somebody opens its other end (fifo(7)).
pub(super) fn waits(flags: OpenFlags) -> bool {
    flags.access() != AccessMode::ReadWrite && !flags.contains(OpenBits::NONBLOCK)
}

/// What no grant gives.
fn never(flags: OpenFlags) -> Option<Decision> {
    if flags.contains(OpenBits::DIRECTORY) {
        return Some(Decision::Fail(errno(rustix::io::Errno::NOTDIR)));
    }
    flags.contains(OpenBits::PATH).then(|| Decision::Refuse(Refusal::path_only()))
}

fn parent(absolute: &[u8]) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(absolute));
    path.parent().map_or(b"/", |parent| parent.as_os_str().as_bytes())
}

fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_io(&errno.into())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// What a guest to which nothing is granted is told when it opens `name`.
    fn refusal(name: &str) -> Refusal {
        let table = Table::new(PathBuf::from("/w"), Vec::new(), Vec::new());
        let folders = Folders::default();
        let ledger = Arc::new(Ledger::unbounded());
        let sockets = Sockets::none();
        let mut policy = Policy { table, folders, ledger, owner: None, journal: None, sockets, terminals: None };
        let (name, flags) =
            (Name::new(name.as_bytes()).unwrap(), OpenFlags::new(AccessMode::ReadWrite, OpenBits::NONE));
        match policy.decide(&RequestBody::Open { name, flags }) {
            Decision::Refuse(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_opens_a_network_is_told_how_one_is_plugged_in() {
        for device in ["/dev/net/tun", "/dev/vhost-net"] {
            let Refusal { reason, advice } = refusal(device);
            assert!(reason.contains("opens no interface itself"), "{reason}");
            assert!(advice.contains("`broker ctl NAME tap --qmp SOCKET`"), "{advice}");
        }
        assert_eq!(refusal("/dev/ptmx"), Refusal::no_terminals());
        for other in ["/dev/net/tun0", "/dev/net", "net/tun"] {
            assert_eq!(refusal(other), Refusal::unknown_name());
        }
    }
}
