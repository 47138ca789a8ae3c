//! A process that holds one socket and one image at a time, may read the one and answer on the other, and no more.

mod child;
mod reap;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use sandbox_profiles::Program;

use super::header::{NAMES_LIMIT, REFERENCE_LIMIT};
use crate::sys::process::{Fork, fork};
pub use child::{NotConfined, Step};
use reap::Child;
pub use reap::End;

/// The longest answer, in bytes: all names, and 16 bytes beside each for role, lengths, and format.
pub const ANSWER_LIMIT: usize = NAMES_LIMIT + REFERENCE_LIMIT * 16;
/// The longest question, in bytes.
pub const QUESTION_LIMIT: usize = 16;
/// The longest greeting, in bytes.
const HELLO_LIMIT: usize = 16;
/// Send buffer of the socket, in bytes: Linux's default of `net.core.wmem_default`, named so that an answer fits where
/// an administrator lowers the default.
const SEND_BUFFER: usize = 212_992;

/// A process that reads images.
#[derive(Debug)]
pub struct Process {
    child: Child,
    socket: OwnedFd,
}

impl Process {
    /// Starts a process that can do nothing but read the images that it is sent, and answer; waits until it is confined.
    ///
    /// `task` gets each image with the question that came with it, writes its answer into the buffer and returns its
    /// length. It must not allocate: the filter forbids to ask the kernel for memory.
    ///
    /// # Errors
    /// [`Error`]; the process is gone then.
    pub fn start(
        filter: &Program,
        patience: Duration,
        task: impl FnMut(BorrowedFd<'_>, &[u8], &mut [u8; ANSWER_LIMIT]) -> usize,
    ) -> Result<Self, Error> {
        let (socket, childs) = pair().map_err(|errno| Error::Start(errno.into()))?;
        let child = match fork().map_err(Error::Start)? {
            Fork::Child => child::serve(&childs, filter, task),
            Fork::Parent(child) => Child::of(child.as_raw())?,
        };
        // The child's copy must be the last one, or its death would not end the connection.
        drop(childs);
        let mut process = Self { child, socket };
        let mut hello = [0; HELLO_LIMIT];
        let hello = process.receive(&mut hello, patience)?;
        match postcard::take_from_bytes::<Result<(), NotConfined>>(hello) {
            Ok((confined, [])) => confined?,
            _ => return Err(Error::Irregular),
        }
        Ok(process)
    }

    /// Sends `image` with a `question`, and returns what comes back. After an error the process must not be asked again.
    ///
    /// # Errors
    /// [`Error`]
    pub fn ask<'b>(
        &mut self,
        question: &[u8],
        image: BorrowedFd<'_>,
        patience: Duration,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], Error> {
        // Whoever speaks before it is asked has been taken over.
        match self.receive_now(buffer)? {
            None => {}
            Some(0) => return Err(self.died()),
            Some(_) => return Err(Error::Irregular),
        }
        match send(self.socket.as_fd(), question, image) {
            Ok(()) => self.receive(buffer, patience),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(self.died()),
            Err(errno) => Err(Error::Send(errno.into())),
        }
    }

    /// Waits for one packet, for no longer than `patience`.
    fn receive<'b>(&mut self, buffer: &'b mut [u8], patience: Duration) -> Result<&'b [u8], Error> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| Error::Late(patience))?;
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(Error::Late(patience)),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Error::Receive(errno.into())),
            }
            match self.receive_now(buffer)? {
                Some(0) => return Err(self.died()),
                Some(length) => return Ok(buffer.get(..length).unwrap_or_default()),
                None => {}
            }
        }
    }

    /// One packet, if one is there: how long it is, which is 0 where the process has ended.
    fn receive_now(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        // There is no room for a descriptor: none comes into this process, and the kernel says that one was sent.
        let mut control = RecvAncillaryBuffer::default();
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        match recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Ok(received) if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) => {
                Err(Error::Irregular)
            }
            Ok(received) => Ok(Some(received.bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            // It ended before it took what it was sent.
            Err(Errno::CONNRESET) => Ok(Some(0)),
            Err(errno) => Err(Error::Receive(errno.into())),
        }
    }

    /// Reaps the process, which has closed its side.
    fn died(&mut self) -> Error {
        self.child.end().map_or_else(|error| error, Error::Died)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It was reaped already, or is killed now; what else there is to say was said where it was asked.
        let _ = self.child.end();
    }
}

/// Two ends of a connection that keeps packets apart.
fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_send_buffer_size(&other, SEND_BUFFER)?;
    Ok((one, other))
}

fn send(socket: BorrowedFd<'_>, question: &[u8], image: BorrowedFd<'_>) -> Result<(), Errno> {
    let descriptors = [image];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::INVAL);
    }
    // The socket is empty, so that there is room; and none is no reason to wait.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(question)], &mut control, flags).map(drop)
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `socketpair(2)`, `fork(2)` or `pidfd_open(2)`.
    #[error("cannot start the prober: {0}; is a limit on processes or descriptors reached?")]
    Start(io::Error),
    /// `sendmsg(2)`.
    #[error("cannot send the image to the prober: {0}")]
    Send(io::Error),
    /// `poll(2)` or `recvmsg(2)`.
    #[error("cannot read the prober's answer: {0}")]
    Receive(io::Error),
    /// `pidfd_send_signal(2)` or `waitid(2)`.
    #[error("cannot end the prober: {0}")]
    Reap(io::Error),
    /// It took too long.
    #[error("its header was not read within {} seconds; does its file server answer?", .0.as_secs_f32())]
    Late(Duration),
    /// It is not confined, and so was sent nothing.
    #[error(transparent)]
    NotConfined(#[from] NotConfined),
    /// A packet that no honest process sends: too long, with a descriptor, or before it was asked.
    #[error("the prober answered out of turn; take the image for hostile")]
    Irregular,
    /// It ended without a word.
    #[error("the prober gave no answer: {0}; take the image for hostile")]
    Died(End),
}

#[cfg(test)]
mod tests;
