//! The agent: a small process of the sandbox that turns the emulator's blocked system calls into requests, and the
//! broker's replies into answers. It is trusted no more than the emulator: what it lets run natively was decided by
//! the mount namespace and Landlock, and what it asks for is decided by the broker.

pub mod call;
pub mod keeper;
pub mod memory;
pub mod names;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;
use protocol::{ClientSession, FileMode, Name, OpenFlags, RefusedCall, ReplyOutcome, RequestBody, RequestId};
use rustix::event::{PollFd, PollFlags};

use crate::sys::in_flight::InFlight;
use crate::sys::seccomp::{self, Notification};
use call::Call;
use names::{Names, Place};

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
    /// Requests that the broker has not answered, with the slot of each one's notification.
    waiting: Vec<(RequestId, Waiting)>,
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

/// What is done with the broker's answer.
#[derive(Debug, Clone)]
enum Meaning {
    /// It is the answer to the call.
    Answer,
    /// The broker has taken note of a call that is refused with this errno.
    Refused(Errno),
    /// A name that the broker knows is no link; any other one is looked up natively.
    NoLink,
    /// If the broker knows the name it is asked this; any other one is looked up natively.
    AskIfKnown(Box<RequestBody>),
}

/// An answer to a call of the emulator.
enum Reply {
    Descriptor(OwnedFd),
    Done,
    Errno(Errno),
    LetRun,
}

/// How a call is answered at once.
enum Verdict {
    LetRun,
    Refuse(Errno),
    Ask(RequestBody, Waiting),
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
    ) -> Self {
        Self { listener, session, life, names, in_flight, waiting: Vec::new() }
    }

    /// Serves until the emulator has ended.
    ///
    /// # Errors
    /// `poll(2)`'s and the listener's own, after which another agent must take over.
    pub fn serve(mut self) -> io::Result<()> {
        for (slot, notification) in self.in_flight.unanswered() {
            self.handle(slot, &notification);
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
            Ok(Some((slot, notification))) => self.handle(slot, &notification),
            Ok(None) => {}
            // The caller was killed before; EINTR: a signal to the agent.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn handle(&mut self, slot: usize, notification: &Notification) {
        let verdict = self.judge(slot, notification);
        let answered = match verdict {
            Verdict::LetRun => seccomp::let_run(self.listener, notification.id),
            Verdict::Refuse(errno) => refuse(self.listener, notification.id, errno),
            Verdict::Ask(body, waiting) => return self.ask_for(&body, waiting),
        };
        // ENOENT: the caller was killed meanwhile. There is nobody left to answer in any case.
        drop(answered);
        self.in_flight.release(slot);
    }

    fn judge(&self, slot: usize, notification: &Notification) -> Verdict {
        let waiting = Waiting { slot, id: notification.id, close_on_exec: false, meaning: Meaning::Answer };
        match Call::of(notification) {
            Call::Open { path, flags, mode } => match self.read_foreign_name(notification, path) {
                Err(verdict) => verdict,
                Ok((name, place)) => match opening(name, flags, mode) {
                    None => Verdict::Refuse(Errno::EINVAL),
                    Some(body) => {
                        let close_on_exec = flags & libc::O_CLOEXEC != 0;
                        ask_at(place, body, Waiting { close_on_exec, ..waiting })
                    }
                },
            },
            Call::Unlink { path } => match self.read_foreign_name(notification, path) {
                Err(verdict) => verdict,
                Ok((name, place)) => ask_at(place, RequestBody::Unlink { name }, waiting),
            },
            Call::ReadLink { path } => match self.read_foreign_name(notification, path) {
                Err(verdict) => verdict,
                // What the broker opens by this name is seen nowhere in the sandbox, and is no link there.
                Ok((name, _)) => {
                    Verdict::Ask(RequestBody::Resolve { name }, Waiting { meaning: Meaning::NoLink, ..waiting })
                }
            },
            // One execve makes this process the emulator; there is no second.
            Call::Execute if self.in_flight.take_execution() => Verdict::LetRun,
            Call::Signal { process } if is_own_process(process, notification.pid) => Verdict::LetRun,
            Call::Execute | Call::Signal { .. } | Call::Unlisted => {
                let nr = notification.data.nr.unsigned_abs();
                // A number without a name is newer than this program: the caller must take it for missing.
                let known = sandbox_profiles::syscall_name(nr).is_some();
                let errno = if known { Errno::EPERM } else { Errno::ENOSYS };
                let call = RefusedCall { nr, arch: notification.data.arch };
                let meaning = Meaning::Refused(errno);
                Verdict::Ask(RequestBody::Refused(call), Waiting { meaning, ..waiting })
            }
        }
    }

    /// The name at `address`, unless the sandbox's own tree answers it or it cannot be read.
    fn read_foreign_name(&self, notification: &Notification, address: u64) -> Result<(Name, Place), Verdict> {
        let thread = i32::try_from(notification.pid).map_err(|_| Verdict::Refuse(Errno::ESRCH))?;
        let name = memory::read_name(Pid::from_raw(thread), address).map_err(Verdict::Refuse)?;
        let place = self.names.place_of(&name);
        if place == Place::Native {
            return Err(Verdict::LetRun);
        }
        // Only now it is certain that the memory belonged to the thread that asked, and not to a successor of its id.
        if !seccomp::is_waiting(self.listener, notification.id) {
            return Err(Verdict::Refuse(Errno::ESRCH));
        }
        Name::new(name).map(|name| (name, place)).map_err(|_| Verdict::Refuse(Errno::ENOENT))
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
            Reply::Descriptor(descriptor) => self.hand_over(&descriptor, waiting),
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

    fn hand_over(&self, descriptor: &OwnedFd, waiting: &Waiting) -> io::Result<()> {
        let added = seccomp::answer_descriptor(self.listener, waiting.id, descriptor.as_fd(), waiting.close_on_exec);
        // The emulator's table is full: it is told so, in its own words.
        added.or_else(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            seccomp::answer_errno(self.listener, waiting.id, errno)
        })
    }

    /// The broker is gone: the guest runs on, and what it asks for is refused.
    fn lose_session(&mut self) {
        self.session = None;
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            self.settle(&waiting, waiting.meaning.without_broker());
        }
    }
}

impl Meaning {
    /// The answer where the broker is not there to give one.
    fn without_broker(&self) -> Reply {
        match self {
            Self::Answer | Self::NoLink | Self::AskIfKnown(_) => Reply::Errno(Errno::EIO),
            Self::Refused(errno) => Reply::Errno(*errno),
        }
    }

    /// The answer that follows from the broker's.
    ///
    /// # Errors
    /// What the broker is to be asked next.
    fn reply(self, outcome: ReplyOutcome) -> Result<Reply, Box<RequestBody>> {
        Ok(match (self, outcome) {
            (Self::Refused(errno), _) => Reply::Errno(errno),
            (Self::NoLink, ReplyOutcome::Done) => Reply::Errno(Errno::EINVAL),
            (Self::AskIfKnown(body), ReplyOutcome::Done) => return Err(body),
            // Nothing that the broker knows: the sandbox's own tree decides, as for every native name.
            (Self::NoLink | Self::AskIfKnown(_), _) => Reply::LetRun,
            (Self::Answer, ReplyOutcome::Descriptor(descriptor)) => Reply::Descriptor(descriptor),
            (Self::Answer, ReplyOutcome::Done) => Reply::Done,
            (Self::Answer, ReplyOutcome::Errno(errno)) => Reply::Errno(Errno::from_raw(i32::from(errno.get()))),
            // No call asks for one.
            (Self::Answer, ReplyOutcome::Status(_)) => Reply::Errno(Errno::EIO),
        })
    }
}

/// The request that an open makes; none for flags that no request can carry.
fn opening(name: Name, flags: i32, mode: u32) -> Option<RequestBody> {
    let open_flags = OpenFlags::from_linux(flags & !libc::O_CREAT).ok()?;
    Some(if flags & libc::O_CREAT == 0 {
        RequestBody::Open { name, flags: open_flags }
    } else {
        RequestBody::Create { name, flags: open_flags, mode: FileMode::from_raw(mode) }
    })
}

/// Asks the broker, at once or only if it knows the name.
fn ask_at(place: Place, body: RequestBody, waiting: Waiting) -> Verdict {
    let name = match &body {
        RequestBody::Open { name, .. } | RequestBody::Create { name, .. } | RequestBody::Unlink { name } => name,
        _ => return Verdict::Ask(body, waiting),
    };
    if place == Place::Private {
        let known = RequestBody::Resolve { name: name.clone() };
        return Verdict::Ask(known, Waiting { meaning: Meaning::AskIfKnown(Box::new(body)), ..waiting });
    }
    Verdict::Ask(body, waiting)
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

/// Whether `thread` is a thread of `process`: the null signal to a thread of another process is ESRCH. A signal's
/// target is in a register, which cannot be changed while the call waits.
fn is_own_process(process: i32, thread: u32) -> bool {
    let Ok(thread) = i32::try_from(thread) else { return false };
    crate::sys::process::is_thread_of(thread, process)
}
