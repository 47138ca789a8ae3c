//! The messages. The order of fields and of enum variants is the wire form: append, never insert.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// Open a file. Answered by a descriptor or an errno.
    Open {
        /// The file, as the emulator named it.
        name: Name,
        /// How it is to be opened.
        flags: OpenFlags,
        /// Permission bits if the open creates the file; otherwise without meaning.
        mode: FileMode,
    },
    /// Remove a file's name. Answered by done or an errno.
    Unlink {
        /// The file, as the emulator named it.
        name: Name,
    },
    /// Report that a system call was refused, so that the operator learns of it. Answered by done.
    Refused(RefusedCall),
}

impl RequestBody {
    /// Whether success is a descriptor (otherwise it is [`Outcome::Done`]).
    #[must_use]
    pub const fn wants_descriptor(&self) -> bool {
        match self {
            Self::Open { .. } => true,
            Self::Unlink { .. } | Self::Refused(_) => false,
        }
    }
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
    /// Granted: this packet, and no other kind, carries exactly one descriptor.
    Descriptor,
    /// Done; there is nothing to hand over.
    Done,
    /// Refused or failed.
    Errno(Errno),
}
