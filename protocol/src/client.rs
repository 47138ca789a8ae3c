//! The client's side: say hello, then ask and take the answers in whatever order they come.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;

use crate::Step;
use crate::channel::{Channel, Received};
use crate::error::{Error, Violation};
use crate::in_flight::InFlight;
use crate::limits::MAX_IN_FLIGHT;
use crate::message::{Hello, Outcome, Reply, RequestBody, RequestId, Status, Success, Welcome};
use crate::socket;
use crate::value::Errno;

/// A connection on which hello is said and the welcome awaited. No request can be sent on it.
#[derive(Debug)]
pub struct ClientHandshake {
    channel: Channel,
}

impl ClientHandshake {
    /// Takes over the client's end of a connection and says hello.
    ///
    /// # Errors
    /// As [`Channel::new`] and [`Channel::try_send`].
    pub fn start(socket: OwnedFd) -> Result<Self, Error> {
        let mut channel = Channel::new(socket)?;
        channel.try_send(&Hello::default(), None)?;
        Ok(Self { channel })
    }

    /// Takes the broker's welcome, if it is there.
    ///
    /// # Errors
    /// As [`Channel::try_recv`]; [`Error::Closed`] if the broker does not speak this version;
    /// [`Violation::NothingAllowed`].
    pub fn try_finish(mut self) -> Result<Step<ClientSession, Self>, Error> {
        let Some(Received { message: welcome, .. }) = self.channel.try_recv::<Welcome>()? else {
            return Ok(Step::Waiting(self));
        };
        if welcome.max_in_flight == 0 {
            return Err(Violation::NothingAllowed.into());
        }
        let limit = usize::try_from(welcome.max_in_flight).unwrap_or(MAX_IN_FLIGHT);
        let in_flight = InFlight::with_limit(limit);
        Ok(Step::Ready(ClientSession { channel: self.channel, in_flight, next_id: 1 }))
    }

    /// Waits for the broker's welcome.
    ///
    /// # Errors
    /// As [`ClientHandshake::try_finish`], and [`Error::Poll`].
    pub fn finish(mut self) -> Result<ClientSession, Error> {
        loop {
            match self.try_finish()? {
                Step::Ready(session) => return Ok(session),
                Step::Waiting(handshake) => self = handshake,
            }
            socket::wait_readable(self.as_fd())?;
        }
    }
}

impl AsFd for ClientHandshake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// How a request ended, with what it brought.
#[derive(Debug)]
pub enum ReplyOutcome {
    /// Granted: the descriptor, close-on-exec.
    Descriptor(OwnedFd),
    /// Done, with nothing to hand over.
    Done,
    /// Refused or failed.
    Errno(Errno),
    /// What is granted, and how much of it is used.
    Status(Status),
    /// Granted: a socket, close-on-exec, whose connection is under way.
    Connecting(OwnedFd),
}

/// Encodes like [`crate::message::Request`], without taking the body from a caller who may have to
/// send it again.
#[derive(Serialize)]
struct BorrowedRequest<'body> {
    id: RequestId,
    body: &'body RequestBody,
}

/// A client that has been welcomed.
#[derive(Debug)]
pub struct ClientSession {
    channel: Channel,
    in_flight: InFlight,
    next_id: u32,
}

impl ClientSession {
    /// Sends a request and returns the id that its reply will have.
    ///
    /// # Errors
    /// [`Error::TooManyInFlight`] where a reply has to be received first; otherwise as
    /// [`Channel::try_send`]. Nothing was sent then, and the request may be tried again.
    pub fn request(&mut self, body: &RequestBody) -> Result<RequestId, Error> {
        let id = self.free_id();
        if self.in_flight.add(id, body.success()).is_err() {
            return Err(Error::TooManyInFlight);
        }
        if let Err(error) = self.channel.try_send_parts(&BorrowedRequest { id, body }, None) {
            self.in_flight.remove(id);
            return Err(error);
        }
        self.next_id = id.0.wrapping_add(1);
        Ok(id)
    }

    /// Takes the next reply, if one is waiting.
    ///
    /// # Errors
    /// As [`Channel::try_recv`]; [`Violation::UnknownReply`] and [`Violation::WrongReply`] too.
    pub fn try_recv(&mut self) -> Result<Option<(RequestId, ReplyOutcome)>, Error> {
        let Some(Received { message, descriptor }) = self.channel.try_recv::<Reply>()? else {
            return Ok(None);
        };
        let Reply { id, outcome } = message;
        let Some(success) = self.in_flight.success(id) else {
            return Err(self.channel.poison(Violation::UnknownReply(id)));
        };
        let outcome = match (outcome, descriptor, success) {
            (Outcome::Descriptor, Some(granted), Success::Descriptor | Success::Connection) => {
                ReplyOutcome::Descriptor(granted)
            }
            (Outcome::Connecting, Some(granted), Success::Connection) => ReplyOutcome::Connecting(granted),
            (Outcome::Done, None, Success::Done) => ReplyOutcome::Done,
            (Outcome::Status(status), None, Success::Status) => ReplyOutcome::Status(status),
            (Outcome::Errno(errno), None, _) => ReplyOutcome::Errno(errno),
            _ => return Err(self.channel.poison(Violation::WrongReply(id))),
        };
        self.in_flight.remove(id);
        Ok(Some((id, outcome)))
    }

    /// Waits for the next reply and takes it.
    ///
    /// # Errors
    /// As [`ClientSession::try_recv`], and [`Error::Poll`].
    pub fn recv(&mut self) -> Result<(RequestId, ReplyOutcome), Error> {
        loop {
            if let Some(reply) = self.try_recv()? {
                return Ok(reply);
            }
            socket::wait_readable(self.as_fd())?;
        }
    }

    /// Requests that are not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The next number that no waiting request has. Ends within 65 steps, since no more wait.
    fn free_id(&self) -> RequestId {
        let mut id = RequestId(self.next_id);
        while self.in_flight.contains(id) {
            id = RequestId(id.0.wrapping_add(1));
        }
        id
    }
}

impl AsFd for ClientSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
