//! A client for programs that want one thing at a time: each request is a call that returns with its answer.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::Path;

use thiserror::Error;

use crate::address::{Socket, SocketAddress};
use crate::adopt;
use crate::client::{ClientHandshake, ClientSession, ReplyOutcome};
use crate::error::{Error, Violation};
use crate::flags::OpenFlags;
use crate::message::{RequestBody, RequestId, Status};
use crate::name::{Name, NameError};
use crate::socket;
use crate::value::{Errno, FileMode};

/// The environment variable in which an emulator that was started with `--protocol-socket` finds the number of its
/// connection's descriptor, in decimal.
pub const SOCKET_VARIABLE: &str = "BROKER_SOCKET";

/// Why a request brought nothing.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// [`SOCKET_VARIABLE`] is not in the environment.
    #[error("{SOCKET_VARIABLE} is not set; start this program with: broker --protocol-socket -- PROGRAM ...")]
    NotOffered,
    /// [`SOCKET_VARIABLE`] does not hold a descriptor's number.
    #[error("{SOCKET_VARIABLE} is {value:?}, not the number of a descriptor; leave it as the broker set it")]
    BadNumber {
        /// What it holds.
        value: OsString,
    },
    /// The descriptor of that number cannot be taken over; `EBADF`: it is not open.
    #[error("cannot take over descriptor {number}, which {SOCKET_VARIABLE} names; leave it open")]
    Adopt {
        /// The descriptor's number.
        number: RawFd,
        /// Of socketpair(2), sendmsg(2) or recvmsg(2).
        source: io::Error,
    },
    /// The name cannot be sent.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The session cannot go on, or never began.
    #[error(transparent)]
    Session(#[from] Error),
    /// The broker refused, or tried and failed. The connection is as good as before.
    #[error("the broker answered: {}", io::Error::from(*.0))]
    Refused(Errno),
}

/// As the system call would have failed, where the broker answered; [`io::ErrorKind::Other`] else.
impl From<ConnectionError> for io::Error {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Refused(errno) => errno.into(),
            other => io::Error::other(other),
        }
    }
}

/// A connection to the broker, for one thread: each method sends one request and waits for its reply, at most as
/// long as the broker's `--open-timeout`. A program that wants several requests on their way at once drives a
/// [`ClientSession`] with its own poll loop.
///
/// Names are sent as they are given. The broker resolves relative ones from the folder in which it was started.
///
/// ```no_run
/// use protocol::{AccessMode, Connection, OpenBits, OpenFlags};
///
/// let mut broker = Connection::from_env()?;
/// let flags = OpenFlags::new(AccessMode::ReadWrite, OpenBits::CLOEXEC);
/// let cached = broker.open("/srv/vm/disk.raw", flags)?;
/// let direct = broker.open("/srv/vm/disk.raw", flags.with(OpenBits::DIRECT))?;
/// # Ok::<_, protocol::ConnectionError>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    session: ClientSession,
}

impl Connection {
    /// Connects over the socket that [`SOCKET_VARIABLE`] names, and greets. Call it once: what is used is a copy, so a
    /// second connection would share its socket with the first and break the order of messages. The number itself stays
    /// open, and open in programs that this one executes, until the process ends; so does the broker's end.
    ///
    /// # Errors
    /// [`ConnectionError::NotOffered`], [`ConnectionError::BadNumber`], [`ConnectionError::Adopt`];
    /// [`Error::NotSeqpacket`] where the number is of something else than a UNIX socket that keeps packets apart,
    /// which is left as it was; otherwise as [`Connection::new`].
    pub fn from_env() -> Result<Self, ConnectionError> {
        let value = env::var_os(SOCKET_VARIABLE).ok_or(ConnectionError::NotOffered)?;
        let Some(number) = value.to_str().and_then(number) else {
            return Err(ConnectionError::BadNumber { value });
        };
        Self::from_number(number)
    }

    /// Connects over a copy of the descriptor `number` of this process, and greets.
    fn from_number(number: RawFd) -> Result<Self, ConnectionError> {
        let socket = adopt::duplicate(number).map_err(|source| ConnectionError::Adopt { number, source })?;
        Self::new(socket)
    }

    /// Takes over the client's end of a connection, and greets.
    ///
    /// # Errors
    /// As [`ClientHandshake::start`] and [`ClientHandshake::finish`]; [`Error::Closed`] also from a broker of
    /// another version.
    pub fn new(socket: OwnedFd) -> Result<Self, ConnectionError> {
        Ok(Self { session: ClientHandshake::start(socket)?.finish()? })
    }

    /// Opens a file that is there; each call gives a file description of its own.
    ///
    /// # Errors
    /// [`ConnectionError::Refused`] with the errno; [`ConnectionError::Name`]; otherwise
    /// [`ConnectionError::Session`], after which the connection is useless. The other methods fail alike.
    pub fn open(&mut self, name: impl AsRef<Path>, flags: OpenFlags) -> Result<OwnedFd, ConnectionError> {
        let name = Name::try_from(name.as_ref())?;
        self.ask_for_descriptor(&RequestBody::Open { name, flags })
    }

    /// Opens a file, and creates it with `mode` if it is not there;
    /// with [`OpenBits::EXCLUSIVE`](crate::OpenBits::EXCLUSIVE) only if it is not.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn create(
        &mut self,
        name: impl AsRef<Path>,
        flags: OpenFlags,
        mode: FileMode,
    ) -> Result<OwnedFd, ConnectionError> {
        let name = Name::try_from(name.as_ref())?;
        self.ask_for_descriptor(&RequestBody::Create { name, flags, mode })
    }

    /// Removes the name of a file that was created for this emulator.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn unlink(&mut self, name: impl AsRef<Path>) -> Result<(), ConnectionError> {
        let name = Name::try_from(name.as_ref())?;
        self.ask_to_be_done(&RequestBody::Unlink { name })
    }

    /// Asks whether a backing file may be written from now on, to commit into it.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn commit_begin(&mut self, name: impl AsRef<Path>) -> Result<(), ConnectionError> {
        let name = Name::try_from(name.as_ref())?;
        self.ask_to_be_done(&RequestBody::CommitBegin { name })
    }

    /// Says that the commit into a backing file has ended.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn commit_end(&mut self, name: impl AsRef<Path>) -> Result<(), ConnectionError> {
        let name = Name::try_from(name.as_ref())?;
        self.ask_to_be_done(&RequestBody::CommitEnd { name })
    }

    /// Opens a medium that is to be inserted. The descriptor cannot be written, nor be made writable.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn change_medium(&mut self, name: impl AsRef<Path>, flags: OpenFlags) -> Result<OwnedFd, ConnectionError> {
        let name = Name::try_from(name.as_ref())?;
        self.ask_for_descriptor(&RequestBody::ChangeMedium { name, flags })
    }

    /// Makes a socket like the one that `socket` describes, and binds it to `address`.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn bind(&mut self, address: SocketAddress, socket: Socket) -> Result<OwnedFd, ConnectionError> {
        self.ask_for_descriptor(&RequestBody::Bind { address, socket })
    }

    /// Makes a socket like the one that `socket` describes, and connects it to `address`; one that does not block may
    /// still be on its way.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn connect(&mut self, address: SocketAddress, socket: Socket) -> Result<Connected, ConnectionError> {
        match self.ask(&RequestBody::Connect { address, socket })? {
            (_, ReplyOutcome::Descriptor(granted)) => Ok(Connected::Already(granted)),
            (_, ReplyOutcome::Connecting(granted)) => Ok(Connected::Soon(granted)),
            (id, outcome) => Err(failure(id, &outcome)),
        }
    }

    /// Asks what is granted, and how much of it is used.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn status(&mut self) -> Result<Status, ConnectionError> {
        match self.ask(&RequestBody::Status)? {
            (_, ReplyOutcome::Status(status)) => Ok(status),
            (id, outcome) => Err(failure(id, &outcome)),
        }
    }

    fn ask_for_descriptor(&mut self, body: &RequestBody) -> Result<OwnedFd, ConnectionError> {
        match self.ask(body)? {
            (_, ReplyOutcome::Descriptor(granted)) => Ok(granted),
            (id, outcome) => Err(failure(id, &outcome)),
        }
    }

    fn ask_to_be_done(&mut self, body: &RequestBody) -> Result<(), ConnectionError> {
        match self.ask(body)? {
            (_, ReplyOutcome::Done) => Ok(()),
            (id, outcome) => Err(failure(id, &outcome)),
        }
    }

    /// Sends `body` and waits for its reply.
    fn ask(&mut self, body: &RequestBody) -> Result<(RequestId, ReplyOutcome), Error> {
        let asked = loop {
            match self.session.request(body) {
                Err(Error::Full) => socket::wait_writable(self.session.as_fd())?,
                // Of calls that failed while they waited; nobody wants those replies any more.
                Err(Error::TooManyInFlight) => drop(self.session.recv()?),
                result => break result?,
            }
        };
        loop {
            let reply = self.session.recv()?;
            if reply.0 == asked {
                return Ok(reply);
            }
        }
    }
}

/// A socket that has been connected, or is about to be.
#[derive(Debug)]
pub enum Connected {
    /// It is connected.
    Already(OwnedFd),
    /// It is writable once it is connected, or has failed (`EINPROGRESS`).
    Soon(OwnedFd),
}

/// Decimal digits and nothing else: no sign, no space.
fn number(text: &str) -> Option<RawFd> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// What is wrong with a reply that is not the success asked for. The session lets none through that is neither.
fn failure(id: RequestId, outcome: &ReplyOutcome) -> ConnectionError {
    match outcome {
        ReplyOutcome::Errno(errno) => ConnectionError::Refused(*errno),
        _ => Error::from(Violation::WrongReply(id)).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_digits_are_a_number() {
        assert_eq!((number("0"), number("17")), (Some(0), Some(17)));
        for text in ["", "-1", "+3", " 3", "3 ", "0x3", "2147483648"] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_packet_socket_is_left_as_it_was() {
        let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for number in [stream.as_raw_fd(), file.as_raw_fd()] {
            let refused = Connection::from_number(number);
            assert!(matches!(refused, Err(ConnectionError::Session(Error::NotSeqpacket))), "{refused:?}");
        }
        let peeked = rustix::net::recv(&_peer, &mut [0_u8; 1], rustix::net::RecvFlags::DONTWAIT);
        assert_eq!(peeked.map(|(_, length)| length), Err(rustix::io::Errno::AGAIN), "a greeting was sent");
        assert!(rustix::fs::fstat(&stream).is_ok());
        let absent = Connection::from_number(RawFd::MAX);
        assert!(matches!(absent, Err(ConnectionError::Adopt { number: RawFd::MAX, .. })), "{absent:?}");
    }
}
