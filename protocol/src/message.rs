//! The messages. The order of fields and of enum variants is the wire form: append, never insert.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::address::{Socket, SocketAddress};
use crate::flags::OpenFlags;
use crate::limits::{MAGIC, MAX_IN_FLIGHT, VERSION};
use crate::name::Name;
use crate::value::{Errno, FileMode};

/// First packet from the client: which version it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`]
    pub magic: [u8; 4],
    /// [`VERSION`]
    pub version: u16,
}

impl Default for Hello {
    fn default() -> Self {
        Self { magic: MAGIC, version: VERSION }
    }
}

/// First packet from the broker, in answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`MAGIC`]
    pub magic: [u8; 4],
    /// [`VERSION`]
    pub version: u16,
    /// Requests that the client may have unanswered at a time, at least 1.
    pub max_in_flight: u32,
}

impl Default for Welcome {
    fn default() -> Self {
        // The limit is a small constant; a conversion that failed would only make it looser here,
        // and the server enforces the constant itself.
        let max_in_flight = u32::try_from(MAX_IN_FLIGHT).unwrap_or(u32::MAX);
        Self { magic: MAGIC, version: VERSION, max_in_flight }
    }
}

/// Number that the client gives a request and the broker repeats in its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u32);

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// Client to broker, any number of times after the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Not the id of a request that is still unanswered.
    pub id: RequestId,
    /// What is asked.
    pub body: RequestBody,
}

/// What a client can ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestBody {
    /// Open a file that is there. Answered by a descriptor or an errno.
    Open {
        /// The file, as the emulator named it.
        name: Name,
        /// How it is to be opened.
        flags: OpenFlags,
    },
    /// Remove the name of a file that was created for the emulator. Answered by done or an errno.
    Unlink {
        /// The file, as the emulator named it.
        name: Name,
    },
    /// Report that a system call was refused, so that the operator learns of it. Answered by done.
    Refused(RefusedCall),
    /// Open a file, and create it if it is not there. Answered by a descriptor or an errno.
    Create {
        /// The file, as the emulator named it.
        name: Name,
        /// How it is to be opened; with [`OpenBits::EXCLUSIVE`](crate::OpenBits::EXCLUSIVE), only if it is not there.
        flags: OpenFlags,
        /// Permission bits of a file that is created.
        mode: FileMode,
    },
    /// Ask whether a backing file may be written from now on, to commit into it. Answered by done or an errno.
    CommitBegin {
        /// The backing file, as the emulator named it.
        name: Name,
    },
    /// Say that the commit into a backing file has ended: a permission that was given for one time is used up, and so
    /// it is when the file is opened for reading after it was opened for writing. Answered by done or an errno.
    CommitEnd {
        /// The backing file, as the emulator named it.
        name: Name,
    },
    /// Open a medium that is to be inserted. Answered by a descriptor that cannot be written, or an errno.
    ChangeMedium {
        /// The medium, as the emulator named it.
        name: Name,
        /// How it is to be opened.
        flags: OpenFlags,
    },
    /// Ask how much of what is granted is used. Answered by a status or an errno.
    Status,
    /// Ask whether a name is that of a file which this emulator may open, or of a folder on the way to one, so that it
    /// can be resolved where the emulator does not see it. Answered by done or an errno.
    Resolve {
        /// The file or folder, as the emulator named it.
        name: Name,
    },
    /// Make a socket like the emulator's and bind it. Answered by a descriptor that takes its place, or an errno.
    Bind {
        /// Where.
        address: SocketAddress,
        /// What is known of the emulator's socket.
        socket: Socket,
    },
    /// Make a socket like the emulator's and connect it. Answered by a descriptor that takes its place, connected or about
    /// to be, or an errno.
    Connect {
        /// To what.
        address: SocketAddress,
        /// What is known of the emulator's socket.
        socket: Socket,
    },
}

impl RequestBody {
    /// What the answer to this request is, if it is no errno.
    #[must_use]
    pub const fn success(&self) -> Success {
        match self {
            Self::Open { .. } | Self::Create { .. } | Self::ChangeMedium { .. } | Self::Bind { .. } => {
                Success::Descriptor
            }
            Self::Connect { .. } => Success::Connection,
            Self::Unlink { .. }
            | Self::Refused(_)
            | Self::CommitBegin { .. }
            | Self::CommitEnd { .. }
            | Self::Resolve { .. } => Success::Done,
            Self::Status => Success::Status,
        }
    }
}

/// The kinds of answer that are no errno; each kind of request has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// [`Outcome::Descriptor`]
    Descriptor,
    /// [`Outcome::Done`]
    Done,
    /// [`Outcome::Status`]
    Status,
    /// [`Outcome::Descriptor`] or [`Outcome::Connecting`]
    Connection,
}

/// A system call that the emulator tried and its profile does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCall {
    /// System call number, in the numbering of `arch`.
    pub nr: u32,
    /// `AUDIT_ARCH_*` (`linux/audit.h`), as `struct seccomp_data` has it.
    pub arch: u32,
}

/// Broker to client, once for each request, in any order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request that is answered.
    pub id: RequestId,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Granted: this packet carries exactly one descriptor, as [`Outcome::Connecting`] does and no other kind.
    Descriptor,
    /// Done; there is nothing to hand over.
    Done,
    /// Refused or failed.
    Errno(Errno),
    /// What is granted, and how much of it is used.
    Status(Status),
    /// Granted: a socket whose connection is under way (`EINPROGRESS`).
    Connecting,
}

/// What is granted to one emulator, and how much of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Files that it may open now.
    pub grants: u32,
    /// Backing files that it may write now.
    pub commits: u32,
    /// Files that were created for it and still exist.
    pub files_created: u32,
    /// Files that may exist so at a time.
    pub files_allowed: u32,
    /// What those files took up on disk when it was last looked at, in bytes.
    pub bytes_created: u64,
    /// What they may take up until another one is created, in bytes.
    pub bytes_allowed: u64,
}
