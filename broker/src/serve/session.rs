//! One agent's connection: its requests, and the opens that are under way for it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use protocol::{
    Answer, Errno, Name, OpenFlags, RefusedCall, RequestBody, RequestId, ServerHandshake, ServerSession, Step,
};

use super::Broker;
use super::audit::Audit;
use super::grants::{Decision, Grant, Refusal};
use super::workers::{Done, Job, Ticket, Workers};

/// How long an open may take until the emulator is told that it failed. Twice what an NFS client waits for its second
/// answer by default would leave a guest's main loop blocked for minutes; half a minute outlasts a server's restart.
const DEADLINE: Duration = Duration::from_secs(30);

/// A connection, before and after its handshake.
#[derive(Debug)]
pub struct Session {
    state: State,
    opening: HashMap<Ticket, Opening>,
}

#[derive(Debug)]
enum State {
    Greeting(ServerHandshake),
    Open(ServerSession),
    /// Only while the state changes, and after a failed handshake.
    Over,
}

/// An open that a worker carries out.
#[derive(Debug)]
struct Opening {
    request: RequestId,
    deadline: Instant,
    name: String,
    flags: String,
}

impl Session {
    /// Takes over the broker's end of a connection.
    #[must_use]
    pub fn start(socket: OwnedFd) -> Option<Self> {
        let handshake = ServerHandshake::new(socket).ok()?;
        Some(Self { state: State::Greeting(handshake), opening: HashMap::new() })
    }

    /// When the oldest open that is under way must be given up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.opening.values().map(|opening| opening.deadline).min()
    }

    /// Answers all requests that have arrived, or has them carried out.
    ///
    /// # Errors
    /// The session's: [`protocol::Error::Closed`], or a violation that ends it.
    pub fn serve_requests(&mut self, broker: &mut Broker) -> Result<(), protocol::Error> {
        self.greet()?;
        while let State::Open(session) = &mut self.state {
            let Some((request, body)) = session.try_recv()? else { break };
            match body {
                RequestBody::Open { name, flags, .. } => self.open(broker, request, &name, flags)?,
                RequestBody::Unlink { name } => {
                    let answer = unlink(broker, &name);
                    session.reply(request, answer)?;
                }
                RequestBody::Refused(call) => {
                    let name = call_name(call);
                    broker.audit.refused("call", &name, None, &unlisted_call());
                    session.reply(request, Answer::Done)?;
                }
            }
        }
        Ok(())
    }

    fn greet(&mut self) -> Result<(), protocol::Error> {
        let state = std::mem::replace(&mut self.state, State::Over);
        self.state = match state {
            State::Greeting(handshake) => match handshake.try_accept()? {
                Step::Ready(session) => State::Open(session),
                Step::Waiting(handshake) => State::Greeting(handshake),
            },
            other => other,
        };
        Ok(())
    }

    fn open(
        &mut self,
        broker: &mut Broker,
        request: RequestId,
        name: &Name,
        open_flags: OpenFlags,
    ) -> Result<(), protocol::Error> {
        let (name_text, flags) = (name.to_string(), open_flags.to_string());
        let errno = match broker.grants.decide_open(name, open_flags) {
            Decision::Open(grant, flags_to_use) => {
                let job = Job { ticket: next_ticket(), grant, flags: flags_to_use };
                let ticket = job.ticket;
                job.grant.opened.store(true, Ordering::Relaxed);
                match broker.workers.submit(job) {
                    Ok(()) => {
                        let deadline = Instant::now() + DEADLINE;
                        self.opening.insert(ticket, Opening { request, deadline, name: name_text, flags });
                        return Ok(());
                    }
                    Err(error) => {
                        broker.audit.failed("open", &name_text, Some(&flags), &error);
                        Errno::from_io(&error)
                    }
                }
            }
            Decision::Fail(errno) => errno,
            Decision::Refuse(refusal) => {
                broker.audit.refused("open", &name_text, Some(&flags), &refusal);
                Errno::ACCES
            }
            Decision::Remove(_) => Errno::ACCES,
        };
        self.reply(request, Answer::Errno(errno))
    }

    fn reply(&mut self, request: RequestId, answer: Answer<'_>) -> Result<(), protocol::Error> {
        match &mut self.state {
            State::Open(session) => session.reply(request, answer),
            State::Greeting(_) | State::Over => Err(protocol::Error::Closed),
        }
    }

    /// Tells the emulator that opens which took too long have failed; threads that are stuck are left to the kernel.
    pub fn expire(&mut self, now: Instant, workers: &Workers, audit: &mut Audit) {
        let late: Vec<Ticket> =
            self.opening.iter().filter(|(_, opening)| opening.deadline <= now).map(|(ticket, _)| *ticket).collect();
        for ticket in late {
            workers.cancel(ticket);
            self.complete(audit, ticket, Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)));
        }
    }

    /// Replies with what became of an open. The broker's copy of the descriptor is closed on return: one that was kept
    /// would hold the emulator's image locks after its death.
    fn complete(&mut self, audit: &mut Audit, ticket: Ticket, result: io::Result<OwnedFd>) {
        let Some(opening) = self.opening.remove(&ticket) else { return };
        let flags = Some(opening.flags.as_str());
        let replied = match &result {
            Ok(descriptor) => {
                audit.granted("open", &opening.name, flags);
                self.reply_with(opening.request, descriptor)
            }
            Err(error) => {
                audit.failed("open", &opening.name, flags, error);
                self.reply(opening.request, Answer::Errno(Errno::from_io(error)))
            }
        };
        if let Err(error) = replied {
            // The agent is gone, or has stopped to read: the poll loop learns of either by itself.
            audit.failed("open", &opening.name, flags, &io::Error::other(error));
        }
    }

    /// Hands a descriptor over; where the kernel cannot take it (too many in flight for this user), the emulator is told.
    fn reply_with(&mut self, request: RequestId, descriptor: &OwnedFd) -> Result<(), protocol::Error> {
        match self.reply(request, Answer::Descriptor(descriptor.as_fd())) {
            Err(protocol::Error::Send(_)) => self.reply(request, Answer::Errno(Errno::IO)),
            other => other,
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.state {
            State::Greeting(handshake) => handshake.as_fd(),
            State::Open(session) => session.as_fd(),
            State::Over => rustix::fs::CWD,
        }
    }
}

/// Hands a worker's result to the session it belongs to; that of a session that is over is closed.
pub fn finish(session: Option<&mut Session>, audit: &mut Audit, done: Done) {
    if let Some(session) = session {
        session.complete(audit, done.ticket, done.result);
    }
}

/// Tickets are never used twice, so that no late result can be taken for another request's.
fn next_ticket() -> Ticket {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn unlink(broker: &mut Broker, name: &Name) -> Answer<'static> {
    let text = name.to_string();
    match broker.grants.decide_unlink(name) {
        Decision::Remove(grant) => match remove(&grant) {
            Ok(()) => {
                broker.audit.granted("unlink", &text, None);
                Answer::Done
            }
            Err(error) => {
                broker.audit.failed("unlink", &text, None, &error);
                Answer::Errno(Errno::from_io(&error))
            }
        },
        Decision::Fail(errno) => Answer::Errno(errno),
        Decision::Refuse(refusal) => {
            broker.audit.refused("unlink", &text, None, &refusal);
            Answer::Errno(Errno::ACCES)
        }
        Decision::Open(..) => Answer::Errno(Errno::ACCES),
    }
}

/// Removes the name of a file that the broker made for the emulator, if it still is that file's name.
fn remove(grant: &Grant) -> io::Result<()> {
    let home = grant.home.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    crate::open::output::remove(home, &grant.pin)
}

fn call_name(call: RefusedCall) -> String {
    sandbox_profiles::syscall_name(call.nr).map_or_else(|| format!("number {}", call.nr), str::to_owned)
}

fn unlisted_call() -> Refusal {
    Refusal {
        reason: "the profile qemu-system does not allow this system call".into(),
        advice: "nothing does; please report it if the guest needs it".into(),
    }
}
