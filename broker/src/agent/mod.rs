//! The agent: a small process of the sandbox that turns the emulator's blocked system calls into requests, and the
//! broker's replies into answers. It is trusted no more than the emulator: what it lets run natively was decided by
//! the mount namespace and Landlock, and what it asks for is decided by the broker.

pub mod address;
pub mod call;
mod judge;
pub mod keeper;
pub mod leaders;
pub mod meaning;
pub mod memory;
pub mod mode;
pub mod names;
pub mod ring;
pub mod socket;
mod uevents;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use protocol::{ClientSession, ReplyOutcome, RequestBody, RequestId};
use rustix::event::{PollFd, PollFlags};

use crate::confine::shared_mounts::SharedMounts;
use crate::sys::in_flight::InFlight;
use crate::sys::seccomp::{self, Notification};
use judge::{Verdict, thread_of};
use leaders::Leaders;
use meaning::{Meaning, Reply};
use names::Names;

/// What an agent works with.
pub struct Agent<'a> {
    /// The listener of the emulator's filter.
    pub listener: BorrowedFd<'a>,
    /// The connection to the broker; none when the broker is gone.
    pub session: Option<ClientSession>,
    /// Becomes readable when the emulator has ended; none where its end shows on the listener alone.
    pub life: Option<BorrowedFd<'a>>,
    /// Who looks up which name.
    pub names: &'a Names,
    /// What was received and not answered yet.
    pub in_flight: &'a InFlight,
    /// What the emulator may change the modes of.
    pub shared: &'a SharedMounts,
    /// Requests that the broker has not answered, with the slot of each one's notification.
    waiting: Vec<(RequestId, Waiting)>,
    /// Which processes the emulator's threads belong to.
    leaders: Leaders,
}

/// What to do when the broker's reply comes.
#[derive(Debug, Clone)]
struct Waiting {
    slot: usize,
    id: u64,
    close_on_exec: bool,
    /// What the broker's answer means.
    meaning: Meaning,
}

/// Whether an agent has seen a notification before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It has just come.
    First,
    /// It was left by an agent that died, perhaps with its work half done.
    Again,
}

impl<'a> Agent<'a> {
    /// An agent that starts with nothing in flight.
    #[must_use]
    pub fn new(
        listener: BorrowedFd<'a>,
        session: Option<ClientSession>,
        life: Option<BorrowedFd<'a>>,
        names: &'a Names,
        in_flight: &'a InFlight,
        shared: &'a SharedMounts,
    ) -> Self {
        Self { listener, session, life, names, in_flight, shared, waiting: Vec::new(), leaders: Leaders::default() }
    }

    /// Serves until the emulator has ended.
    ///
    /// # Errors
    /// `poll(2)`'s and the listener's own, after which another agent must take over.
    pub fn serve(mut self) -> io::Result<()> {
        for (slot, notification) in self.in_flight.unanswered() {
            self.handle(slot, &notification, Turn::Again);
        }
        loop {
            let ready = self.wait()?;
            if ready.ended {
                return Ok(());
            }
            if ready.replies {
                self.take_replies();
            }
            if ready.notifications {
                self.receive()?;
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        // Without a free slot nothing more is received: the emulator's threads wait in the kernel.
        let listen = if self.in_flight.has_room() { PollFlags::IN } else { PollFlags::empty() };
        let mut descriptors = vec![PollFd::from_borrowed_fd(self.listener, listen)];
        let life = self.life.unwrap_or(self.listener);
        let life_events = if self.life.is_some() { PollFlags::IN } else { PollFlags::empty() };
        descriptors.push(PollFd::from_borrowed_fd(life, life_events));
        if let Some(session) = &self.session {
            descriptors.push(PollFd::from_borrowed_fd(session.as_fd(), PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut descriptors, None))?;
        let events = |index: usize| descriptors.get(index).map_or(PollFlags::empty(), PollFd::revents);
        Ok(Ready {
            // HUP on the listener: no process has the filter any more.
            ended: events(0).contains(PollFlags::HUP) || events(1).intersects(PollFlags::IN | PollFlags::HUP),
            notifications: events(0).contains(PollFlags::IN),
            replies: !events(2).is_empty(),
        })
    }

    fn receive(&mut self) -> io::Result<()> {
        match self.in_flight.receive(self.listener) {
            Ok(Some((slot, notification))) => self.handle(slot, &notification, Turn::First),
            Ok(None) => {}
            // The caller was killed before; EINTR: a signal to the agent.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn handle(&mut self, slot: usize, notification: &Notification, turn: Turn) {
        let verdict = self.judge(slot, notification, turn);
        let answered = match verdict {
            Verdict::LetRun => seccomp::let_run(self.listener, notification.id),
            Verdict::Refuse(errno) => refuse(self.listener, notification.id, errno),
            Verdict::Done => seccomp::answer_value(self.listener, notification.id, 0),
            Verdict::Give(descriptor, close_on_exec) => self.hand_over(&descriptor, notification.id, close_on_exec),
            Verdict::Ask(body, waiting) => return self.ask_for(&body, waiting),
        };
        // ENOENT: the caller was killed meanwhile. There is nobody left to answer in any case.
        drop(answered);
        self.in_flight.release(slot);
    }

    /// Asks the broker on behalf of a call, which is answered when the reply comes.
    fn ask_for(&mut self, body: &RequestBody, waiting: Waiting) {
        match self.ask(body) {
            Some(request) => self.waiting.push((request, waiting)),
            None => self.settle(&waiting, waiting.meaning.without_broker()),
        }
    }

    /// Answers a call.
    fn settle(&self, waiting: &Waiting, reply: Reply) {
        let answered = match reply {
            Reply::Descriptor(descriptor) => self.hand_over(&descriptor, waiting.id, waiting.close_on_exec),
            Reply::Socket { descriptor, number, errno } => self.put_in_place(&descriptor, number, errno, waiting.id),
            Reply::Done => seccomp::answer_value(self.listener, waiting.id, 0),
            Reply::Errno(errno) => refuse(self.listener, waiting.id, errno),
            Reply::LetRun => seccomp::let_run(self.listener, waiting.id),
        };
        // ENOENT: the caller was killed meanwhile.
        drop(answered);
        self.in_flight.release(waiting.slot);
    }

    /// Sends a request, if the broker is there.
    fn ask(&mut self, body: &RequestBody) -> Option<RequestId> {
        let session = self.session.as_mut()?;
        match session.request(body) {
            Ok(request) => Some(request),
            Err(protocol::Error::TooManyInFlight | protocol::Error::Full) => None,
            Err(_) => {
                self.lose_session();
                None
            }
        }
    }

    fn take_replies(&mut self) {
        while let Some(session) = self.session.as_mut() {
            match session.try_recv() {
                Ok(Some((request, outcome))) => self.answer(request, outcome),
                Ok(None) => return,
                Err(_) => self.lose_session(),
            }
        }
    }

    fn answer(&mut self, request: RequestId, outcome: ReplyOutcome) {
        let Some(position) = self.waiting.iter().position(|(id, _)| *id == request) else {
            return;
        };
        let (_, waiting) = self.waiting.swap_remove(position);
        match waiting.meaning.clone().reply(outcome) {
            Ok(reply) => self.settle(&waiting, reply),
            Err(body) => self.ask_for(&body, Waiting { meaning: Meaning::Answer, ..waiting }),
        }
    }

    fn hand_over(&self, descriptor: &OwnedFd, id: u64, close_on_exec: bool) -> io::Result<()> {
        let added = seccomp::answer_descriptor(self.listener, id, descriptor.as_fd(), close_on_exec);
        // The emulator's table is full: it is told so, in its own words.
        added.or_else(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            seccomp::answer_errno(self.listener, id, errno)
        })
    }

    /// Puts a socket in the place of the emulator's, and answers its call. An agent that dies in between leaves a socket
    /// that its successor takes for what it is ([`socket::step`]).
    fn put_in_place(&self, socket: &OwnedFd, number: u32, errno: Option<Errno>, id: u64) -> io::Result<()> {
        match (seccomp::replace_descriptor(self.listener, id, number, socket.as_fd()), errno) {
            (Ok(()), None) => seccomp::answer_value(self.listener, id, 0),
            (Ok(()), Some(errno)) => refuse(self.listener, id, errno),
            (Err(error), _) => seccomp::answer_errno(self.listener, id, error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    /// The broker is gone: the guest runs on, and what it asks for is refused.
    fn lose_session(&mut self) {
        self.session = None;
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            self.settle(&waiting, waiting.meaning.without_broker());
        }
    }
}

struct Ready {
    ended: bool,
    notifications: bool,
    replies: bool,
}

fn refuse(listener: BorrowedFd<'_>, id: u64, errno: Errno) -> io::Result<()> {
    // The numbers of nix's enumeration are the kernel's.
    seccomp::answer_errno(listener, id, errno as i32)
}
