//! What the broker's answer to a request means for the call that it was asked for.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use protocol::{ReplyOutcome, RequestBody};

/// What is done with the broker's answer.
#[derive(Debug, Clone)]
pub enum Meaning {
    /// It is the answer to the call.
    Answer,
    /// The broker has taken note of a call that is refused with this errno.
    Refused(Errno),
    /// A name that the broker knows is no link; any other one is looked up natively.
    NoLink,
    /// If the broker knows the name it is asked this; any other one is looked up natively.
    AskIfKnown(Box<RequestBody>),
    /// A socket takes the place of the emulator's descriptor of this number.
    Replace(u32),
}

/// An answer to a call of the emulator.
pub enum Reply {
    /// A new descriptor, whose number the call returns.
    Descriptor(OwnedFd),
    /// A descriptor in the place of the caller's `number`.
    Socket {
        /// The descriptor.
        descriptor: OwnedFd,
        /// The number.
        number: u32,
        /// What the call fails with once that is done, as one that began to connect does.
        errno: Option<Errno>,
    },
    /// The call returns 0.
    Done,
    /// The call fails.
    Errno(Errno),
    /// The kernel carries the call out.
    LetRun,
}

impl Meaning {
    /// The answer where the broker is not there to give one.
    #[must_use]
    pub fn without_broker(&self) -> Reply {
        match self {
            Self::Answer | Self::NoLink | Self::AskIfKnown(_) | Self::Replace(_) => Reply::Errno(Errno::EIO),
            Self::Refused(errno) => Reply::Errno(*errno),
        }
    }

    /// The answer that follows from the broker's.
    ///
    /// # Errors
    /// What the broker is to be asked next.
    pub fn reply(self, outcome: ReplyOutcome) -> Result<Reply, Box<RequestBody>> {
        Ok(match (self, outcome) {
            (Self::Refused(errno), _) => Reply::Errno(errno),
            (Self::NoLink, ReplyOutcome::Done) => Reply::Errno(Errno::EINVAL),
            (Self::AskIfKnown(body), ReplyOutcome::Done) => return Err(body),
            // Nothing that the broker knows: the sandbox's own tree decides, as for every native name.
            (Self::NoLink | Self::AskIfKnown(_), _) => Reply::LetRun,
            (Self::Answer, ReplyOutcome::Descriptor(descriptor)) => Reply::Descriptor(descriptor),
            (Self::Replace(number), ReplyOutcome::Descriptor(descriptor)) => {
                Reply::Socket { descriptor, number, errno: None }
            }
            (Self::Replace(number), ReplyOutcome::Connecting(descriptor)) => {
                Reply::Socket { descriptor, number, errno: Some(Errno::EINPROGRESS) }
            }
            (Self::Answer, ReplyOutcome::Done) => Reply::Done,
            (Self::Answer | Self::Replace(_), ReplyOutcome::Errno(errno)) => {
                Reply::Errno(Errno::from_raw(i32::from(errno.get())))
            }
            // No call asks for one.
            (Self::Answer, ReplyOutcome::Status(_) | ReplyOutcome::Connecting(_))
            | (Self::Replace(_), ReplyOutcome::Done | ReplyOutcome::Status(_)) => Reply::Errno(Errno::EIO),
        })
    }
}
