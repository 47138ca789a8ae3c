//! Addresses of sockets, and what is told of a socket that is to be bound or connected.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

use crate::limits::MAX_UNIX_NAME;

/// Where a socket is bound, or what it is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum SocketAddress {
    /// `AF_UNIX`
    Unix(UnixName),
    /// `AF_INET`
    V4 {
        /// The address, in the order of the network.
        ip: [u8; 4],
        /// The port; 0: any.
        port: u16,
    },
    /// `AF_INET6`
    V6 {
        /// The address, in the order of the network.
        ip: [u8; 16],
        /// The port; 0: any.
        port: u16,
        /// Index of the interface of a link-local address, as the emulator's network namespace counts; else 0.
        scope: u32,
    },
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(name) => match name.as_abstract() {
                Some(name) => write!(out, "abstract:{}", name.escape_ascii()),
                None => write!(out, "unix:{name}"),
            },
            Self::V4 { ip, port } => write!(out, "{}:{port}", Ipv4Addr::from(*ip)),
            Self::V6 { ip, port, .. } => write!(out, "[{}]:{port}", Ipv6Addr::from(*ip)),
        }
    }
}

/// The name of a UNIX socket, 1 to [`MAX_UNIX_NAME`] bytes: a path without NUL, or, behind a NUL, any bytes (an abstract
/// name).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnixName(Box<[u8]>);

/// Why bytes are not the name of a UNIX socket.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnixNameError {
    /// No byte at all: the kernel would choose an abstract name.
    #[error("the socket's name is empty; name it")]
    Empty,
    /// More bytes than a `sockaddr_un` holds.
    #[error("the socket's name has {length} bytes; use at most {MAX_UNIX_NAME}")]
    TooLong {
        /// Length found, in bytes.
        length: usize,
    },
    /// A NUL inside a path.
    #[error("the socket's path has a NUL byte at offset {offset}; remove it")]
    Nul {
        /// Offset of the first NUL, in bytes.
        offset: usize,
    },
}

impl UnixName {
    /// Takes `bytes`, without the NUL at the end of a path.
    ///
    /// # Errors
    /// [`UnixNameError`].
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, UnixNameError> {
        let bytes = bytes.into();
        match bytes.split_first() {
            None => return Err(UnixNameError::Empty),
            _ if bytes.len() > MAX_UNIX_NAME => return Err(UnixNameError::TooLong { length: bytes.len() }),
            Some((0, _)) => {}
            Some(_) => {
                if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
                    return Err(UnixNameError::Nul { offset });
                }
            }
        }
        Ok(Self(bytes))
    }

    /// The bytes, with the NUL before an abstract name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The abstract name, without its NUL.
    #[must_use]
    pub fn as_abstract(&self) -> Option<&[u8]> {
        self.0.strip_prefix(&[0])
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_abstract() {
            Some(name) => write!(out, "@{}", name.escape_ascii()),
            None => write!(out, "{}", self.0.escape_ascii()),
        }
    }
}

impl fmt::Debug for UnixName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Serialize for UnixName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for UnixName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = UnixName;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the name of a UNIX socket")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<UnixName, E> {
        UnixName::new(bytes).map_err(E::custom)
    }
}

/// What kind of socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum SocketKind {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_DGRAM`
    Datagram,
}

/// The socket that is to be bound or connected, as the emulator has set it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a socket")]
pub struct Socket {
    /// Its kind; its family is that of the address.
    pub kind: SocketKind,
    /// `O_NONBLOCK`: connecting does not wait.
    pub nonblocking: bool,
    /// `SO_REUSEADDR`
    pub reuse_address: bool,
    /// `SO_KEEPALIVE`
    pub keep_alive: bool,
    /// `IPV6_V6ONLY`
    pub v6_only: bool,
}
