//! A broker for the tests of clients: it opens real files by a policy of a few lines, and remembers what it was asked.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use protocol::{
    Answer, Errno, Error, FileMode, Name, OpenFlags, RequestBody, ServerHandshake, ServerSession, SocketMode, Success,
    socketpair,
};
use rustix::fs::{Mode, OFlags};

/// What it grants: each of these beneath one folder.
#[derive(Debug)]
pub struct FakeBroker {
    /// `disk`: an image; `base`: a backing file; `gone`: one that is not there any more; `medium`: a medium; `new`: a
    /// file that may be created.
    folder: PathBuf,
    /// Whether a commit into a backing file may begin.
    commit_allowed: bool,
    /// Whether one has begun.
    committing: bool,
    asked: Vec<RequestBody>,
}

/// What one request brought.
enum Found {
    Descriptor(OwnedFd),
    Done,
    Status,
}

impl FakeBroker {
    /// Makes `folder` afresh with `disk`, `base` and `medium` in it.
    pub fn new(folder: &Path, commit_allowed: bool) -> Self {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", folder.display()),
            _ => std::fs::create_dir_all(folder).unwrap(),
        }
        for name in ["disk", "base", "medium"] {
            std::fs::write(folder.join(name), [0; 4096]).unwrap();
        }
        Self { folder: folder.to_owned(), commit_allowed, committing: false, asked: Vec::new() }
    }

    /// Serves one connection on a thread of its own; gives the client's end, close-on-exec, and at the end what was
    /// asked.
    pub fn serve(mut self) -> (OwnedFd, JoinHandle<Vec<RequestBody>>) {
        let (client, server) = socketpair(SocketMode::Blocking).unwrap();
        let serving = std::thread::spawn(move || {
            let mut session = match ServerHandshake::new(server).unwrap().accept() {
                Err(Error::Closed) => return self.asked,
                session => session.unwrap(),
            };
            while self.serve_one(&mut session) {}
            self.asked
        });
        (client, serving)
    }

    /// Answers one request; `false` when the client has gone.
    fn serve_one(&mut self, session: &mut ServerSession) -> bool {
        let (id, body) = match session.recv() {
            Err(Error::Closed) => return false,
            request => request.unwrap(),
        };
        let found = self.find(&body);
        self.asked.push(body);
        let answer = match &found {
            Ok(Found::Descriptor(descriptor)) => Answer::Descriptor(descriptor.as_fd()),
            Ok(Found::Done) => Answer::Done,
            Ok(Found::Status) => Answer::Status(super::status()),
            Err(errno) => Answer::Errno(*errno),
        };
        !matches!(session.reply(id, answer), Err(Error::Closed))
    }

    fn find(&mut self, body: &RequestBody) -> Result<Found, Errno> {
        match body {
            RequestBody::Open { name, flags } => self.open(name, *flags),
            RequestBody::Create { name, flags, mode } => self.create(name, *flags, *mode),
            RequestBody::ChangeMedium { name, flags } if self.is(name, "medium") && !flags.access().writes() => {
                open(name, *flags, OFlags::empty(), 0)
            }
            RequestBody::Unlink { name } if self.is(name, "new") => {
                rustix::fs::unlink(name.as_path()).map_err(|errno| Errno::from_io(&errno.into()))?;
                Ok(Found::Done)
            }
            RequestBody::CommitBegin { name } if self.is_backing(name) && self.commit_allowed => {
                self.committing = true;
                Ok(Found::Done)
            }
            RequestBody::CommitEnd { name } if self.is_backing(name) => {
                self.committing = false;
                Ok(Found::Done)
            }
            RequestBody::Status => Ok(Found::Status),
            other => {
                assert!(!matches!(other.success(), Success::Status));
                Err(Errno::ACCES)
            }
        }
    }

    fn open(&self, name: &Name, flags: OpenFlags) -> Result<Found, Errno> {
        let readable = self.is(name, "disk") || self.is_backing(name);
        let writable = self.is(name, "disk") || (self.is_backing(name) && self.committing);
        if !(readable && (writable || !flags.access().writes())) {
            return Err(Errno::ACCES);
        }
        open(name, flags, OFlags::empty(), 0)
    }

    fn create(&self, name: &Name, flags: OpenFlags, mode: FileMode) -> Result<Found, Errno> {
        if !self.is(name, "new") {
            return Err(Errno::ACCES);
        }
        open(name, flags, OFlags::CREATE, mode.bits())
    }

    fn is_backing(&self, name: &Name) -> bool {
        self.is(name, "base") || self.is(name, "gone")
    }

    fn is(&self, name: &Name, file: &str) -> bool {
        name.as_path() == self.folder.join(file)
    }
}

fn open(name: &Name, flags: OpenFlags, more: OFlags, mode: u32) -> Result<Found, Errno> {
    let bits = u32::from_ne_bytes(flags.to_linux().to_ne_bytes());
    let flags = OFlags::from_bits_retain(bits) | more;
    let opened = rustix::fs::open(name.as_path(), flags, Mode::from_raw_mode(mode));
    opened.map(Found::Descriptor).map_err(|errno| Errno::from_io(&errno.into()))
}
