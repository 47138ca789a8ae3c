//! One end of the connection: typed messages in and out, and an end to it at the first violation.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;

use crate::codec::{self, Message};
use crate::error::{Error, Violation};
use crate::limits::MAX_MESSAGE;
use crate::socket::{self, Packet};

/// One byte more than a message may have, so that a longer packet shows.
const INBOX: usize = MAX_MESSAGE + 1;

/// A message, with the descriptor that belongs to it.
#[derive(Debug)]
pub struct Received<M> {
    /// The message.
    pub message: M,
    /// There exactly if [`Message::carries_descriptor`] says so. Close-on-exec.
    pub descriptor: Option<OwnedFd>,
}

/// Whether the channel can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closed,
    Poisoned,
}

/// One end of a `SOCK_SEQPACKET` connection.
///
/// `try_` methods never wait, whether or not the socket is non-blocking, so a channel can be driven
/// by the caller's own poll loop (see [`AsFd`]); the others wait by poll(2). The channel allocates
/// its two buffers once.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    state: State,
    inbox: Box<[u8; INBOX]>,
    outbox: Box<[u8; MAX_MESSAGE]>,
}

impl Channel {
    /// Takes over one end of a connection.
    ///
    /// # Errors
    /// [`Error::NotSeqpacket`]; [`Error::Inspect`] where getsockopt(2) fails.
    pub fn new(socket: OwnedFd) -> Result<Self, Error> {
        socket::require_seqpacket(socket.as_fd())?;
        Ok(Self { socket, state: State::Open, inbox: Box::new([0; INBOX]), outbox: Box::new([0; MAX_MESSAGE]) })
    }

    /// Receives a message if one is waiting, `None` otherwise.
    ///
    /// # Errors
    /// [`Error::Violation`] for a packet that is not exactly one `M` with its descriptor;
    /// [`Error::Poisoned`] ever after; [`Error::Closed`] when the peer is gone;
    /// [`Error::Receive`] and [`Error::Poll`] where the system call fails.
    pub fn try_recv<M: Message>(&mut self) -> Result<Option<Received<M>>, Error> {
        self.require_open()?;
        let result = self.receive_and_judge();
        match result {
            Err(Error::Violation(_)) => self.state = State::Poisoned,
            Err(Error::Closed) => self.state = State::Closed,
            _ => (),
        }
        result
    }

    /// Waits for a message and receives it.
    ///
    /// # Errors
    /// As [`Channel::try_recv`].
    pub fn recv<M: Message>(&mut self) -> Result<Received<M>, Error> {
        loop {
            if let Some(received) = self.try_recv()? {
                return Ok(received);
            }
            socket::wait_readable(self.socket.as_fd())?;
        }
    }

    /// Sends a message, with its descriptor if it carries one, or changes nothing.
    ///
    /// # Errors
    /// [`Error::Full`] where the peer has to read first; [`Error::DescriptorMismatch`];
    /// [`Error::Encode`]; [`Error::Poisoned`]; [`Error::Closed`]; [`Error::Send`]. None of them
    /// ends the channel: what the peer sent before it left can still be received.
    pub fn try_send<M: Message>(&mut self, message: &M, descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        if message.carries_descriptor() != descriptor.is_some() {
            return Err(Error::DescriptorMismatch);
        }
        self.try_send_parts(message, descriptor)
    }

    /// Sends a message, and waits where the peer has to read first.
    ///
    /// # Errors
    /// As [`Channel::try_send`] without [`Error::Full`]; and [`Error::Poll`].
    pub fn send<M: Message>(&mut self, message: &M, descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        loop {
            match self.try_send(message, descriptor) {
                Err(Error::Full) => socket::wait_writable(self.socket.as_fd())?,
                result => return result,
            }
        }
    }

    /// Sends what encodes like a message: the sessions build theirs from borrowed parts.
    pub(crate) fn try_send_parts(
        &mut self,
        message: &impl Serialize,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        self.require_open()?;
        let bytes = codec::encode(message, &mut self.outbox).map_err(Error::Encode)?;
        socket::send(self.socket.as_fd(), bytes, descriptor)
    }

    /// Ends the channel for a violation that only the session can see.
    pub(crate) fn poison(&mut self, violation: Violation) -> Error {
        self.state = State::Poisoned;
        violation.into()
    }

    fn require_open(&self) -> Result<(), Error> {
        match self.state {
            State::Open => Ok(()),
            State::Closed => Err(Error::Closed),
            State::Poisoned => Err(Error::Poisoned),
        }
    }

    fn receive_and_judge<M: Message>(&mut self) -> Result<Option<Received<M>>, Error> {
        let Some(packet) = socket::receive(self.socket.as_fd(), self.inbox.as_mut_slice())? else {
            return Ok(None);
        };
        if packet.length == 0 && packet.count == 0 && socket::peer_is_gone(self.socket.as_fd())? {
            return Err(Error::Closed);
        }
        // An early return drops the packet and so closes its descriptor.
        let bytes = whole_bytes(&packet, self.inbox.as_slice())?;
        let message: M = codec::decode(bytes)?;
        let expected = usize::from(message.carries_descriptor());
        if packet.count != expected {
            return Err(Violation::Descriptors { expected, found: packet.count }.into());
        }
        Ok(Some(Received { message, descriptor: packet.descriptor }))
    }
}

/// The packet's bytes, if all that was sent has arrived.
fn whole_bytes<'inbox>(packet: &Packet, inbox: &'inbox [u8]) -> Result<&'inbox [u8], Violation> {
    if packet.control_truncated {
        return Err(Violation::DescriptorsLost);
    }
    if packet.truncated || packet.length > MAX_MESSAGE {
        return Err(Violation::Oversize);
    }
    if packet.length == 0 {
        return Err(Violation::Empty);
    }
    inbox.get(..packet.length).ok_or(Violation::Oversize)
}

impl AsFd for Channel {
    /// For the caller's poll set: `POLLIN` means that `try_recv` has something to say, `POLLOUT`
    /// that `try_send` has room.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
