//! What can go wrong on a channel: the peer's fault, the system's, or the caller's.

use std::io;

use thiserror::Error;

use crate::limits::{MAX_IN_FLIGHT, MAX_MESSAGE, VERSION};
use crate::message::RequestId;

/// A peer that did not keep to the protocol. The channel is unusable from then on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// A packet longer than any message.
    #[error("a packet of more than {MAX_MESSAGE} bytes")]
    Oversize,
    /// An empty packet from a peer that is still there.
    #[error("an empty packet")]
    Empty,
    /// More descriptors than the receive buffer takes; or fewer than were sent could be received.
    #[error("descriptors were lost: too many in one packet, or this process is at RLIMIT_NOFILE")]
    DescriptorsLost,
    /// Not as many descriptors as the message must have.
    #[error("{found} descriptors with a message that carries {expected}")]
    Descriptors {
        /// How many belong to the message, 0 or 1.
        expected: usize,
        /// How many came with the packet. All of them are closed.
        found: usize,
    },
    /// The greeting is not a greeting of this protocol in any version.
    #[error("the first packet is not a greeting of this protocol")]
    NotThisProtocol,
    /// The greeting is of another version.
    #[error("protocol version {theirs} instead of {VERSION}; install both sides from one build")]
    Version {
        /// The version that the peer speaks.
        theirs: u16,
    },
    /// The packet ends early or is not postcard.
    #[error("a malformed message: {0}")]
    Malformed(postcard::Error),
    /// A field has a value that is not allowed.
    #[error("an unknown kind of message, or a name, flag, mode or errno out of bounds")]
    BadValue,
    /// The packet goes on behind the message.
    #[error("{count} bytes behind the end of a message")]
    TrailingBytes {
        /// How many bytes.
        count: usize,
    },
    /// The message is spelled in another way than the shortest.
    #[error("a message whose integers are not in their shortest form")]
    NotCanonical,
    /// A request with the id of one that is still unanswered.
    #[error("request id {0} used again before its answer")]
    ReusedId(RequestId),
    /// More unanswered requests than the welcome allowed.
    #[error("more than {MAX_IN_FLIGHT} unanswered requests")]
    TooManyInFlight,
    /// More unread replies than there can be unanswered requests, so that the socket is full.
    #[error("it does not read its replies")]
    RepliesUnread,
    /// A welcome that allows no request at all.
    #[error("a welcome that allows no request")]
    NothingAllowed,
    /// A reply to a request that was not made or is answered already.
    #[error("a reply to request {0}, which is not waiting for one")]
    UnknownReply(RequestId),
    /// A reply that the request cannot have: another kind of success than
    /// [`RequestBody::success`](crate::RequestBody::success) names.
    #[error("the wrong kind of reply to request {0}")]
    WrongReply(RequestId),
}

impl From<postcard::Error> for Violation {
    fn from(error: postcard::Error) -> Self {
        match error {
            // The only way in which this crate's own types object to a value.
            postcard::Error::SerdeDeCustom => Self::BadValue,
            other => Self::Malformed(other),
        }
    }
}

/// Why a channel or a session could not do what it was asked.
#[derive(Debug, Error)]
pub enum Error {
    /// The peer broke the protocol just now. Close the session.
    #[error("the peer broke the protocol: {0}; close its session")]
    Violation(Violation),
    /// The peer broke the protocol earlier; nothing more is received or sent.
    #[error("the session ended with a protocol violation; start a new one")]
    Poisoned,
    /// The peer is gone.
    #[error("the peer closed the connection; start a new session")]
    Closed,
    /// The socket's buffer is full. Nothing was sent; poll for writing and try again.
    #[error("the peer has not read what was sent before; poll for writing and try again")]
    Full,
    /// As many requests are unanswered as may be. Nothing was sent; receive a reply first.
    #[error("too many unanswered requests; wait for a reply first")]
    TooManyInFlight,
    /// An answer to a request that is not waiting for one.
    #[error("request {0} is not waiting for an answer; answer each request once")]
    NotInFlight(RequestId),
    /// An answer that the request cannot have.
    #[error("request {0} cannot have this kind of answer; send an errno, or what its kind is answered by")]
    WrongAnswer(RequestId),
    /// A descriptor with a message that carries none, or none where one is needed.
    #[error("the message and the descriptor do not belong together; send a descriptor with a grant")]
    DescriptorMismatch,
    /// The descriptor is not a UNIX socket that keeps packets apart.
    #[error("the descriptor is not a SOCK_SEQPACKET socket of AF_UNIX; pass the number the broker gave")]
    NotSeqpacket,
    /// The message could not be encoded.
    #[error("cannot encode the message; keep names within their bound")]
    Encode(#[source] postcard::Error),
    /// getsockopt(2) failed.
    #[error("cannot inspect the socket; pass an open socket")]
    Inspect(#[source] io::Error),
    /// recvmsg(2) failed for another reason than an empty queue.
    #[error("cannot receive from the peer; close the session")]
    Receive(#[source] io::Error),
    /// sendmsg(2) failed for another reason than a full queue; nothing was sent. `ETOOMANYREFS`
    /// means that this user has more descriptors in flight than `RLIMIT_NOFILE` (unix(7)).
    #[error("cannot send to the peer; answer with an errno instead")]
    Send(#[source] io::Error),
    /// poll(2) failed.
    #[error("cannot wait for the peer; close the session")]
    Poll(#[source] io::Error),
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}
