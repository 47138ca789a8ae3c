//! What is done with files on the threads that may block: each piece of work is a few system calls on what was pinned, or
//! beneath a folder that was declared.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::{Answer, OpenBits, OpenFlags, Socket, SocketAddress};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};

use super::folders::Place;
use super::grants::{Access, Grant, Role};
use super::ledger::{Full, Ledger};
use super::policy::waits;
use super::refusal::Refusal;
use super::sockets::{SocketGrant, make};
use super::terminals::Terminals;
use crate::open::output::{self, Home};
use crate::open::pin::Pin;
use crate::record::Identity;
use crate::record::journal::Journal;

/// Permissions that a new file can have: reading and writing. The umask takes away more.
const PERMISSIONS: u32 = 0o666;

/// Something to be done.
#[derive(Debug)]
pub enum Work {
    /// Open a pinned file anew.
    Open(Arc<Grant>, OpenFlags),
    /// Remove the name of a file that the broker made for the emulator.
    Remove(Arc<Grant>, Arc<Ledger>),
    /// Close what was handed over, or came too late. A file system may write back what the file holds, and take its time.
    Close(OwnedFd, Vec<Neighbourhood>),
    /// Open a medium that nobody has pinned.
    Insert(Place, OpenFlags),
    /// Create a file.
    Create(Box<Creation>),
    /// Make a pseudo-terminal.
    MakeTerminal(Arc<Terminals>, OpenFlags),
    /// Find out what stands where the emulator could create a file, but did not.
    LookAt(Place),
    /// Make a socket and bind it.
    Bind(Arc<SocketGrant>, SocketAddress, Socket),
    /// Make a socket and connect it, for so long at most.
    Connect(Arc<SocketGrant>, SocketAddress, Socket, Duration),
    /// Hand over the emulator's end of a pair that the relay carries datagrams through.
    HandOver(Arc<SocketGrant>),
    /// Remove the path of a socket that may be bound.
    RemoveSocket(Arc<SocketGrant>),
}

/// A file to be created.
#[derive(Debug)]
pub struct Creation {
    /// Where.
    pub place: Place,
    /// Its name as the emulator spells it.
    pub name: Vec<u8>,
    /// How it is opened.
    pub flags: OpenFlags,
    /// Its permissions, before they are masked.
    pub mode: u32,
    /// Who owns it: uid and gid; none: whoever this process is.
    pub owner: Option<(u32, u32)>,
    /// What may be created.
    pub ledger: Arc<Ledger>,
    /// Where it is written down that it was.
    pub journal: Option<Arc<Journal>>,
    /// The file that was created by this name before, which is opened again if it still has the name.
    pub before: Option<Arc<Grant>>,
}

/// What it came to.
#[derive(Debug)]
pub enum Carried {
    /// The new descriptor.
    Opened(OwnedFd),
    /// A new file or terminal, and the grant that comes with it.
    Made(OwnedFd, Arc<Grant>),
    /// The name is gone.
    Removed(Arc<Grant>),
    /// The new socket, whose connection is under way.
    Connecting(OwnedFd),
    /// The socket's path is gone.
    SocketRemoved,
    /// There is nothing to tell.
    Closed,
}

/// What a request is answered with.
#[derive(Debug)]
pub enum Granted {
    /// Nothing is handed over.
    Nothing,
    /// A descriptor.
    Descriptor(OwnedFd),
    /// A socket whose connection is under way.
    Connecting(OwnedFd),
}

impl Granted {
    /// As it is said.
    #[must_use]
    pub fn answer(&self) -> Answer<'_> {
        match self {
            Self::Nothing => Answer::Done,
            Self::Descriptor(descriptor) => Answer::Descriptor(descriptor.as_fd()),
            Self::Connecting(socket) => Answer::Connecting(socket.as_fd()),
        }
    }

    /// The broker's own copy.
    #[must_use]
    pub fn into_descriptor(self) -> Option<OwnedFd> {
        match self {
            Self::Nothing => None,
            Self::Descriptor(descriptor) | Self::Connecting(descriptor) => Some(descriptor),
        }
    }
}

/// Why it came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// The kernel or a file server said no.
    Errno(io::Error),
    /// The policy did, with the errno for the emulator.
    Refused(Refusal, rustix::io::Errno),
}

impl<E: Into<io::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Errno(error.into())
    }
}

/// What may get stuck together: work on one file, or on one name beneath a folder, or on all names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Neighbourhood {
    inode: (u64, u64),
    /// A hash of the name beneath the folder. Who makes two names collide only lets them wait for each other.
    name: Option<u64>,
    /// Threads that may be in it at a time.
    pub threads: usize,
}

/// Two: an open that reads need not wait for one that writes, as at a file lease.
const AT_ONE_FILE: usize = 2;

/// A quarter of the threads there are: hosts that do not answer leave the images theirs.
const AT_SOCKETS: usize = protocol::MAX_IN_FLIGHT / 4;

/// Half of the threads there are, so that a server that hangs leaves the other half.
const BENEATH_ONE_FOLDER: usize = protocol::MAX_IN_FLIGHT / 2;

impl Work {
    /// What this work may get stuck with.
    #[must_use]
    pub fn neighbourhoods(&self) -> Vec<Neighbourhood> {
        match self {
            Self::Close(_, places) => places.clone(),
            Self::Open(grant, _) | Self::Remove(grant, _) => {
                vec![Neighbourhood { inode: grant.pin.identity(), name: None, threads: AT_ONE_FILE }]
            }
            Self::Insert(place, _) | Self::LookAt(place) => Neighbourhood::of(place),
            Self::Create(creation) => Neighbourhood::of(&creation.place),
            Self::Bind(grant, ..) | Self::Connect(grant, ..) | Self::HandOver(grant) | Self::RemoveSocket(grant) => {
                Neighbourhood::of_socket(grant)
            }
            Self::MakeTerminal(terminals, _) => {
                vec![Neighbourhood { inode: terminals.identity(), name: None, threads: AT_ONE_FILE }]
            }
        }
    }

    /// Whether it may wait for ever for somebody who opens the other end of a FIFO.
    #[must_use]
    pub fn awaits_a_reader(&self) -> bool {
        matches!(self, Self::Open(grant, flags) if grant.pin.file_type() == FileType::Fifo && waits(*flags))
    }

    /// Whether it is done on files whose rights are those of `--image-user` alone. What the broker made itself, logs and the
    /// pid file are the operator's.
    #[must_use]
    pub fn is_on_images(&self) -> bool {
        match self {
            Self::Open(grant, _) | Self::Remove(grant, _) => {
                matches!(grant.role, Role::Image | Role::Backing | Role::Medium | Role::Target)
            }
            Self::Insert(..) | Self::Create(_) | Self::LookAt(_) => true,
            Self::MakeTerminal(..) | Self::Close(..) => false,
            Self::Bind(..) | Self::Connect(..) | Self::HandOver(_) | Self::RemoveSocket(_) => false,
        }
    }

    /// Does it. `own_descriptors` is `/proc/self/fd`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn carry_out(self, own_descriptors: BorrowedFd<'_>) -> Result<Carried, Failure> {
        match self {
            Self::Close(descriptor, _) => {
                drop(descriptor);
                Ok(Carried::Closed)
            }
            Self::Open(grant, flags) => {
                check_name(&grant)?;
                check_node(&grant)?;
                let opened = reopen(own_descriptors, grant.source(flags), open_flags(flags))?;
                // It may have been removed, and its number given away, in between.
                check_node(&grant)?;
                grant.opened.store(true, Ordering::Relaxed);
                Ok(Carried::Opened(opened))
            }
            Self::Remove(grant, ledger) => {
                let home = grant.home.as_ref().ok_or(rustix::io::Errno::NOENT)?;
                // Before the name is gone: whoever looks in between must not take it for removed by somebody else.
                ledger.note_removal(&grant.pin, true);
                output::remove(home, &grant.pin).inspect_err(|_| ledger.note_removal(&grant.pin, false))?;
                Ok(Carried::Removed(grant))
            }
            Self::Insert(place, flags) => insert(own_descriptors, &place, flags),
            Self::Create(creation) => creation.carry_out(own_descriptors),
            Self::LookAt(place) => look_at(&place),
            Self::Bind(grant, address, socket) => make::bind(&grant, &address, socket),
            Self::Connect(grant, address, socket, patience) => make::connect(&grant, &address, socket, patience),
            Self::HandOver(grant) => make::hand_over(&grant),
            Self::RemoveSocket(grant) => make::remove(&grant),
            Self::MakeTerminal(terminals, flags) => terminals.make(own_descriptors, flags),
        }
    }
}

impl Neighbourhood {
    /// Of what another process has opened.
    #[must_use]
    pub fn elsewhere() -> Self {
        Self { inode: (0, 0), name: None, threads: 8 }
    }

    /// Of one address, and of all of them; no file has inode number 0.
    fn of_socket(grant: &SocketGrant) -> Vec<Self> {
        let mut hasher = DefaultHasher::new();
        grant.address().hash(&mut hasher);
        let one = Self { inode: (0, 0), name: Some(hasher.finish()), threads: AT_ONE_FILE };
        vec![one, Self { inode: (0, 0), name: None, threads: AT_SOCKETS }]
    }

    fn of(place: &Place) -> Vec<Self> {
        let inode = place.folder.pin.identity();
        let mut hasher = DefaultHasher::new();
        place.beneath.hash(&mut hasher);
        let name = Self { inode, name: Some(hasher.finish()), threads: AT_ONE_FILE };
        vec![name, Self { inode, name: None, threads: BENEATH_ONE_FOLDER }]
    }
}

/// Opens the inode behind `source` anew: a new file description, with no lock and no flag shared with any other.
pub(super) fn reopen(
    own_descriptors: BorrowedFd<'_>,
    source: BorrowedFd<'_>,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(own_descriptors, rustix::path::DecInt::from_fd(source), flags, Mode::empty())
}

/// The flags of a reopening: as asked for, but the link to the pin must be followed.
pub(super) fn open_flags(flags: OpenFlags) -> OFlags {
    let flags = flags.without(OpenBits::NOFOLLOW).with(OpenBits::CLOEXEC).with(OpenBits::NOCTTY);
    OFlags::from_bits_retain(u32::from_ne_bytes(flags.to_linux().to_ne_bytes()))
}

/// A file that was created for the emulator is opened by its name only as long as it has it.
fn check_name(grant: &Grant) -> Result<(), Failure> {
    let Some(home) = grant.home.as_ref().filter(|_| grant.role == Role::Created) else { return Ok(()) };
    let status = rustix::fs::statat(&home.folder, &home.name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (status.st_dev, status.st_ino) == grant.pin.identity() { Ok(()) } else { Err(refused(Refusal::replaced())) }
}

/// A node stands for a number, which the kernel gives to another device when this one is gone. It removes the node before.
fn check_node(grant: &Grant) -> Result<(), Failure> {
    match grant.pin.is_removed_node()? {
        true => Err(Failure::Refused(Refusal::removed_node(&grant.option), rustix::io::Errno::NODEV)),
        false => Ok(()),
    }
}

fn insert(own_descriptors: BorrowedFd<'_>, place: &Place, flags: OpenFlags) -> Result<Carried, Failure> {
    let found = match place.look_up(ResolveFlags::empty()) {
        Err(rustix::io::Errno::XDEV | rustix::io::Errno::LOOP) => return Err(refused(Refusal::leads_out(place))),
        other => other?,
    };
    // A FIFO would block, and a device has effects.
    let status = rustix::fs::fstat(&found)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(refused(Refusal::no_regular_file(place)));
    }
    Ok(Carried::Opened(reopen(own_descriptors, found.as_fd(), open_flags(flags))?))
}

fn look_at(place: &Place) -> Result<Carried, Failure> {
    let (folder, name) = place.parent().map_err(|errno| in_folder(place, errno))?;
    rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
    Err(refused(Refusal::not_created_here(place)))
}

impl Creation {
    fn carry_out(self, own_descriptors: BorrowedFd<'_>) -> Result<Carried, Failure> {
        let (folder, name) = self.place.parent().map_err(|errno| in_folder(&self.place, errno))?;
        if let Ok(found) = rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            let same = |grant: &&Arc<Grant>| grant.pin.identity() == (found.st_dev, found.st_ino);
            let before = self.before.as_ref().filter(same).filter(|_| !self.flags.contains(OpenBits::EXCLUSIVE));
            let before = before.ok_or_else(|| self.exists())?;
            let opened = reopen(own_descriptors, before.source(self.flags), open_flags(self.flags))?;
            return Ok(Carried::Opened(opened));
        }
        let ledger = Arc::clone(&self.ledger);
        let place = ledger.reserve().map_err(|full| self.full(full))?;
        let mode = Mode::from_raw_mode(self.mode & PERMISSIONS);
        let file = match rustix::fs::openat(&folder, &name, self.creating_flags(), mode) {
            Err(rustix::io::Errno::EXIST) => return Err(self.exists()),
            other => other?,
        };
        let made = rustix::fs::fstat(&file)?;
        let home = Home { folder, name, created: true };
        let pinned = reopen(own_descriptors, file.as_fd(), OFlags::PATH | OFlags::CLOEXEC);
        let pinned = pinned.map_err(io::Error::from).and_then(Pin::of);
        let finished = pinned.and_then(|pin| self.finish(file.as_fd(), &pin).map(|()| pin));
        let pin = Arc::new(finished.inspect_err(|_| {
            // Nobody has it yet.
            let _ = output::remove_file(&home, (made.st_dev, made.st_ino));
        })?);
        place.fill(&pin);
        let grant = Grant {
            role: Role::Created,
            option: self.place.folder.option(),
            access: Access::ReadWrite,
            pin,
            view: None,
            name: self.name,
            home: Some(home),
            opened: AtomicBool::new(true),
        };
        Ok(Carried::Made(file, Arc::new(grant)))
    }

    /// A file system without `O_DIRECT` would say so only after it had made the file, so that flag is set later.
    fn creating_flags(&self) -> OFlags {
        open_flags(self.flags.without(OpenBits::DIRECT)) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW
    }

    /// What is left to do with the new file.
    fn finish(&self, file: BorrowedFd<'_>, pin: &Pin) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        if self.flags.contains(OpenBits::DIRECT) {
            let flags = rustix::fs::fcntl_getfl(file)?;
            rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT)?;
        }
        // A file that is not written down could name anything at the next start.
        self.journal.as_ref().map_or(Ok(()), |journal| journal.add(pin.path(), Identity::of(pin.as_fd())?))
    }

    fn exists(&self) -> Failure {
        if self.before.is_some() && self.flags.contains(OpenBits::EXCLUSIVE) {
            return rustix::io::Errno::EXIST.into();
        }
        Failure::Refused(Refusal::not_created_here(&self.place), rustix::io::Errno::EXIST)
    }

    fn full(&self, full: Full) -> Failure {
        Failure::Refused(Refusal::full(full, self.ledger.limits), rustix::io::Errno::DQUOT)
    }
}

/// The errno of a look-up in a folder for new files; links are not followed there.
fn in_folder(place: &Place, errno: rustix::io::Errno) -> Failure {
    match errno {
        rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => refused(Refusal::leads_out(place)),
        other => other.into(),
    }
}

fn refused(refusal: Refusal) -> Failure {
    Failure::Refused(refusal, rustix::io::Errno::ACCESS)
}
