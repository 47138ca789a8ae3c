//! The broker's side: greet, then take requests and answer each once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::Step;
use crate::channel::Channel;
use crate::error::{Error, Violation};
use crate::in_flight::{CannotAdd, InFlight};
use crate::limits::MAX_IN_FLIGHT;
use crate::message::{Hello, Outcome, Reply, Request, RequestBody, RequestId, Status, Success, Welcome};
use crate::socket;
use crate::value::Errno;

/// A connection on which the client has not said hello yet. No request can be received from it.
#[derive(Debug)]
pub struct ServerHandshake {
    channel: Channel,
}

impl ServerHandshake {
    /// Takes over the broker's end of a connection.
    ///
    /// # Errors
    /// As [`Channel::new`].
    pub fn new(socket: OwnedFd) -> Result<Self, Error> {
        Ok(Self { channel: Channel::new(socket)? })
    }

    /// Takes the client's hello, if it is there, and welcomes the client.
    ///
    /// # Errors
    /// As [`Channel::try_recv`] and [`Channel::try_send`]. The connection is closed with the
    /// handshake that was given up.
    pub fn try_accept(mut self) -> Result<Step<ServerSession, Self>, Error> {
        if self.channel.try_recv::<Hello>()?.is_none() {
            return Ok(Step::Waiting(self));
        }
        self.channel.try_send(&Welcome::default(), None)?;
        Ok(Step::Ready(ServerSession { channel: self.channel, in_flight: InFlight::with_limit(MAX_IN_FLIGHT) }))
    }

    /// Waits for the client's hello and welcomes the client.
    ///
    /// # Errors
    /// As [`ServerHandshake::try_accept`], and [`Error::Poll`].
    pub fn accept(mut self) -> Result<ServerSession, Error> {
        loop {
            match self.try_accept()? {
                Step::Ready(session) => return Ok(session),
                Step::Waiting(handshake) => self = handshake,
            }
            socket::wait_readable(self.as_fd())?;
        }
    }
}

impl AsFd for ServerHandshake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// How the broker answers a request.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'descriptor> {
    /// Granted. The client gets a duplicate; close this one when it is sent.
    Descriptor(BorrowedFd<'descriptor>),
    /// Done, with nothing to hand over.
    Done,
    /// Refused or failed.
    Errno(Errno),
    /// What is granted, and how much of it is used.
    Status(Status),
    /// Granted: a socket whose connection is under way. The client gets a duplicate.
    Connecting(BorrowedFd<'descriptor>),
}

/// A client that has been welcomed.
#[derive(Debug)]
pub struct ServerSession {
    channel: Channel,
    in_flight: InFlight,
}

impl ServerSession {
    /// Takes the next request, if one is waiting. It stays in flight until it is answered.
    ///
    /// # Errors
    /// As [`Channel::try_recv`]; [`Violation::ReusedId`] and [`Violation::TooManyInFlight`] too.
    pub fn try_recv(&mut self) -> Result<Option<(RequestId, RequestBody)>, Error> {
        let Some(received) = self.channel.try_recv::<Request>()? else {
            return Ok(None);
        };
        let Request { id, body } = received.message;
        match self.in_flight.add(id, body.success()) {
            Ok(()) => Ok(Some((id, body))),
            Err(CannotAdd::Reused) => Err(self.channel.poison(Violation::ReusedId(id))),
            Err(CannotAdd::Full) => Err(self.channel.poison(Violation::TooManyInFlight)),
        }
    }

    /// Answers request `id`. On an error that is not the end of the session ([`Error::Send`]
    /// above all) the request is still in flight and can be answered in another way.
    ///
    /// # Errors
    /// [`Error::NotInFlight`] and [`Error::WrongAnswer`] for an answer that cannot be; otherwise
    /// as [`Channel::try_send`], but with [`Violation::RepliesUnread`] instead of [`Error::Full`]:
    /// a client that keeps to the limit leaves at most 64 replies unread, and those fit.
    pub fn reply(&mut self, id: RequestId, answer: Answer<'_>) -> Result<(), Error> {
        let success = self.in_flight.success(id).ok_or(Error::NotInFlight(id))?;
        let (outcome, descriptor) = match (answer, success) {
            (Answer::Descriptor(descriptor), Success::Descriptor | Success::Connection) => {
                (Outcome::Descriptor, Some(descriptor))
            }
            (Answer::Connecting(descriptor), Success::Connection) => (Outcome::Connecting, Some(descriptor)),
            (Answer::Done, Success::Done) => (Outcome::Done, None),
            (Answer::Status(status), Success::Status) => (Outcome::Status(status), None),
            (Answer::Errno(errno), _) => (Outcome::Errno(errno), None),
            (Answer::Descriptor(_) | Answer::Connecting(_) | Answer::Done | Answer::Status(_), _) => {
                return Err(Error::WrongAnswer(id));
            }
        };
        match self.channel.try_send(&Reply { id, outcome }, descriptor) {
            Err(Error::Full) => Err(self.channel.poison(Violation::RepliesUnread)),
            Err(other) => Err(other),
            Ok(()) => {
                self.in_flight.remove(id);
                Ok(())
            }
        }
    }

    /// Waits for the next request and takes it.
    ///
    /// # Errors
    /// As [`ServerSession::try_recv`], and [`Error::Poll`].
    pub fn recv(&mut self) -> Result<(RequestId, RequestBody), Error> {
        loop {
            if let Some(request) = self.try_recv()? {
                return Ok(request);
            }
            socket::wait_readable(self.as_fd())?;
        }
    }

    /// Requests that are not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

impl AsFd for ServerSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
