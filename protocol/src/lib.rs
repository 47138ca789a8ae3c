//! What crosses the boundary between the broker and a client inside the sandbox, and nothing else.
//!
//! A client (the agent, or an emulator that speaks the protocol itself) holds one end of a
//! `SOCK_SEQPACKET` pair, the broker the other. Every packet is one whole postcard message of at
//! most [`MAX_MESSAGE`] bytes; a descriptor travels with exactly one kind of message, the reply
//! that grants it. `docs/protocol.md` describes the bytes.
//!
//! The broker trusts nothing that arrives here, so a packet is either understood completely or is
//! a [`Violation`], after which the channel refuses every further use.
//!
//! Where to start reading:
//! - [`message`]: what is said;
//! - [`server`] and [`client`]: in which order it is said (the types allow no other);
//! - [`channel`]: how a packet is received and judged;
//! - [`connection`]: all of it behind one blocking call for each request, for programs in the emulator's place.
#![forbid(unsafe_code)]

pub mod address;
mod adopt;
pub mod channel;
pub mod client;
pub mod codec;
pub mod connection;
pub mod error;
pub mod flags;
mod in_flight;
pub mod limits;
pub mod message;
pub mod name;
pub mod server;
mod socket;
pub mod value;

pub use address::{Socket, SocketAddress, SocketKind, UnixName, UnixNameError};
pub use channel::{Channel, Received};
pub use client::{ClientHandshake, ClientSession, ReplyOutcome};
pub use codec::Message;
pub use connection::{Connected, Connection, ConnectionError, SOCKET_VARIABLE};
pub use error::{Error, Violation};
pub use flags::{AccessMode, OpenBits, OpenFlags, UnknownFlags};
pub use limits::{MAX_IN_FLIGHT, MAX_MESSAGE, MAX_NAME, VERSION};
pub use message::{Hello, Outcome, RefusedCall, Reply, Request, RequestBody, RequestId, Status, Success, Welcome};
pub use name::{Name, NameError};
pub use server::{Answer, ServerHandshake, ServerSession};
pub use socket::{SocketMode, socketpair};
pub use value::{Errno, FileMode, ValueError};

/// How far a handshake got with what has arrived so far.
#[derive(Debug)]
#[must_use]
pub enum Step<Session, Handshake> {
    /// The handshake is complete; requests may flow.
    Ready(Session),
    /// The peer's message is not here yet: poll the descriptor for reading and try again.
    Waiting(Handshake),
}
