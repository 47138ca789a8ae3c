//! A client of QEMU's monitor protocol (QMP, `docs/interop/qmp-spec`), as far as handing descriptors over takes it.
//!
//! Who speaks at the other end is the guest's emulator, and so perhaps the guest: what it says is bounded in size and time,
//! is text to be shown and never more, and descriptors that it sends are not taken (`read(2)` drops them).

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde_json::{Value, json};

use crate::readable::readable;

/// How long all waits for the monitor may take together. QEMU answers these commands at once, unless its main loop waits for
/// a disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that are read from a monitor at most: 512 answers of some 30 bytes, and the events of a busy guest between them.
const MOST: usize = 1 << 20;

/// Bytes of an object at most; the greeting, the longest that is expected, has less than 200.
const LONGEST: usize = 64 * 1024;

/// Letters of an error of QEMU's that are shown.
const SHOWN: usize = 300;

/// A monitor that has been greeted and takes commands.
#[derive(Debug)]
pub struct Monitor {
    path: PathBuf,
    socket: OwnedFd,
    unread: Vec<u8>,
    /// Bytes read so far.
    taken: usize,
    /// What is left of [`PATIENCE`].
    left: Duration,
    /// The number of the last command.
    number: u64,
}

impl Monitor {
    /// Connects to the socket at `path`, waits for the greeting and leaves negotiation mode.
    ///
    /// # Errors
    /// [`Error`].
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let failed = |source: Errno| Error::Connect { path: path.to_owned(), source: source.into() };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        // `EAGAIN`: as many wait to be accepted as there is room for.
        rustix::net::connect(&socket, &address).map_err(|errno| match errno {
            Errno::AGAIN => Error::Silent { path: path.to_owned() },
            other => failed(other),
        })?;
        let (path, unread) = (path.to_owned(), Vec::new());
        let mut monitor = Self { path, socket, unread, taken: 0, left: PATIENCE, number: 0 };
        match monitor.read_object() {
            Ok(greeting) if greeting.get("QMP").is_some() => {}
            Ok(_) | Err(Error::Nonsense { .. }) => return Err(Error::NoMonitor { path: monitor.path }),
            Err(error) => return Err(error),
        }
        monitor.execute("qmp_capabilities", &json!({}), None)?;
        Ok(monitor)
    }

    /// Executes a command, with a descriptor beside it if there is one, and waits until it is done.
    ///
    /// # Errors
    /// [`Error::Refused`]: QEMU says no. With any other one it is not known what became of the command, and the monitor
    /// is of no further use.
    pub fn execute(
        &mut self,
        command: &'static str,
        arguments: &Value,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        self.number += 1;
        let mut line = json!({ "execute": command, "arguments": arguments, "id": self.number }).to_string();
        line.push('\n');
        self.send(line.as_bytes(), descriptor)?;
        loop {
            let object = self.read_object()?;
            // Everything else is an event.
            if object.get("id").and_then(Value::as_u64) != Some(self.number) {
                continue;
            }
            let Some(error) = object.get("error") else { return Ok(()) };
            let what = error.get("desc").and_then(Value::as_str).unwrap_or("it does not say why");
            return Err(Error::Refused { command, what: Shown::new(what) });
        }
    }

    fn send(&mut self, mut bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let mut descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        while !bytes.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                // The space is made for it.
                let _ = control.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            match rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    descriptors.clear();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(errno) => return Err(self.lost(errno)),
            }
        }
        Ok(())
    }

    /// The next object. QEMU ends each with a line's end.
    fn read_object(&mut self) -> Result<Value, Error> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let nonsense = |_| Error::Nonsense { path: self.path.clone() };
                return serde_json::from_slice(&line).map_err(nonsense);
            }
            if self.unread.len() > LONGEST || self.taken > MOST {
                return Err(Error::TooMuch { path: self.path.clone() });
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> Result<(), Error> {
        let mut buffer = [0_u8; 4096];
        match rustix::io::read(&self.socket, &mut buffer[..]) {
            Ok(0) => Err(Error::Closed { path: self.path.clone() }),
            Ok(count) => {
                self.taken += count;
                self.unread.extend_from_slice(buffer.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(Errno::AGAIN) => self.wait(PollFlags::IN),
            Err(errno) => Err(self.lost(errno)),
        }
    }

    /// Waits until the socket is ready, at most for what is left of the time.
    fn wait(&mut self, what: PollFlags) -> Result<(), Error> {
        let silent = || Error::Silent { path: self.path.clone() };
        let limit = Timespec::try_from(self.left).map_err(|_| silent())?;
        let start = Instant::now();
        let ready = poll(&mut [PollFd::new(&self.socket.as_fd(), what)], Some(&limit));
        match ready {
            Ok(0) => return Err(silent()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(self.lost(errno)),
        }
        self.left = self.left.saturating_sub(start.elapsed());
        Ok(())
    }

    fn lost(&self, errno: Errno) -> Error {
        match errno {
            Errno::PIPE | Errno::CONNRESET => Error::Closed { path: self.path.clone() },
            other => Error::Lost { path: self.path.clone(), source: other.into() },
        }
    }
}

/// The other side's text, cut, and with what would move a terminal's cursor written out.
#[derive(Debug)]
pub struct Shown(String);

impl Shown {
    fn new(text: &str) -> Self {
        Self(readable(text.chars().take(SHOWN).collect::<String>().as_bytes()))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why a monitor did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way there.
    #[error(
        "cannot connect to the monitor {}: {source}; name the socket of a QMP monitor (-chardev socket,id=m,... -mon \
         chardev=m,mode=control)",
        path.display()
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The time is over.
    #[error(
        "the monitor {} does not answer; a monitor has one client at a time: end the other one, or give the guest a \
         monitor for this",
        path.display()
    )]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// Something else listens there.
    #[error(
        "what listens at {} does not greet as QMP does; is it a monitor for people (mode=readline), or something else?",
        path.display()
    )]
    NoMonitor {
        /// The socket.
        path: PathBuf,
    },
    /// The emulator has ended, or has dropped us.
    #[error("the monitor {} has closed the connection; does the guest still run?", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// More than there is room for.
    #[error("the monitor {} says more than QEMU would; do not trust this guest", path.display())]
    TooMuch {
        /// The socket.
        path: PathBuf,
    },
    /// No JSON.
    #[error("the monitor {} says what is no JSON; do not trust this guest", path.display())]
    Nonsense {
        /// The socket.
        path: PathBuf,
    },
    /// The connection failed.
    #[error("the connection to the monitor {} failed: {source}", path.display())]
    Lost {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// QEMU's own error.
    #[error("QEMU refuses {command}: {what}")]
    Refused {
        /// The command.
        command: &'static str,
        /// What QEMU said.
        what: Shown,
    },
}
