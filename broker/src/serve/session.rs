//! One agent's connection: its requests, and what is under way for it.

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
use super::grants::{Decision, Refusal};
use super::workers::{Done, Job, Ticket, Workers};

/// How long the emulator waits for a file until it is told that it failed. An NFSv4 server that restarts grants nothing
/// for 90 seconds (its grace period, nfsd(7)), and a guest should outlive that.
const DEADLINE: Duration = Duration::from_secs(120);

/// A connection, before and after its handshake.
#[derive(Debug)]
pub struct Session {
    state: State,
    under_way: HashMap<Ticket, UnderWay>,
}

#[derive(Debug)]
enum State {
    Greeting(ServerHandshake),
    Open(ServerSession),
    /// Only while the state changes, and after a failed handshake.
    Over,
}

/// A request that a worker carries out.
#[derive(Debug)]
struct UnderWay {
    request: RequestId,
    deadline: Instant,
    kind: &'static str,
    name: String,
    flags: Option<String>,
}

impl Session {
    /// Takes over the broker's end of a connection.
    #[must_use]
    pub fn start(socket: OwnedFd) -> Option<Self> {
        let handshake = ServerHandshake::new(socket).ok()?;
        Some(Self { state: State::Greeting(handshake), under_way: HashMap::new() })
    }

    /// When the oldest request that is under way must be given up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.under_way.values().map(|under_way| under_way.deadline).min()
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
                RequestBody::Open { name, flags, .. } => {
                    let decision = broker.grants.decide_open(&name, flags);
                    self.carry_out(broker, request, decision, &Asked::open(&name, flags))?;
                }
                RequestBody::Unlink { name } => {
                    let decision = broker.grants.decide_unlink(&name);
                    self.carry_out(broker, request, decision, &Asked::unlink(&name))?;
                }
                RequestBody::Refused(call) => {
                    broker.audit.refused("call", &call_name(call), None, &unlisted_call());
                    self.reply(request, Answer::Done)?;
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

    fn carry_out(
        &mut self,
        broker: &mut Broker,
        request: RequestId,
        decision: Decision,
        asked: &Asked,
    ) -> Result<(), protocol::Error> {
        let flags = asked.flags.as_deref();
        let (grant, work) = match decision {
            Decision::Carry(grant, work) => (grant, work),
            Decision::Fail(errno) => return self.reply(request, Answer::Errno(errno)),
            Decision::Refuse(refusal) => {
                broker.audit.refused(asked.kind, &asked.name, flags, &refusal);
                return self.reply(request, Answer::Errno(Errno::ACCES));
            }
        };
        let ticket = next_ticket();
        if let Err(error) = broker.workers.submit(Job { ticket, grant, work }) {
            broker.audit.failed(asked.kind, &asked.name, flags, &error);
            return self.reply(request, Answer::Errno(Errno::from_io(&error)));
        }
        let under_way = UnderWay {
            request,
            deadline: Instant::now() + DEADLINE,
            kind: asked.kind,
            name: asked.name.clone(),
            flags: asked.flags.clone(),
        };
        self.under_way.insert(ticket, under_way);
        Ok(())
    }

    fn reply(&mut self, request: RequestId, answer: Answer<'_>) -> Result<(), protocol::Error> {
        match &mut self.state {
            State::Open(session) => session.reply(request, answer),
            State::Greeting(_) | State::Over => Err(protocol::Error::Closed),
        }
    }

    /// Tells the emulator that what took too long has failed; threads that are stuck are left to the kernel.
    pub fn expire(&mut self, now: Instant, workers: &Workers, audit: &mut Audit) {
        let late = self.under_way.iter().filter(|(_, under_way)| under_way.deadline <= now);
        let late: Vec<Ticket> = late.map(|(ticket, _)| *ticket).collect();
        for ticket in late {
            workers.cancel(ticket);
            self.complete(audit, ticket, Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)));
        }
    }

    /// Replies with what became of a request. The broker's copy of a descriptor is closed on return: one that was kept
    /// would hold the emulator's image locks after its death.
    fn complete(&mut self, audit: &mut Audit, ticket: Ticket, result: io::Result<Option<OwnedFd>>) {
        let Some(UnderWay { request, kind, name, flags, .. }) = self.under_way.remove(&ticket) else { return };
        let flags = flags.as_deref();
        let replied = match &result {
            Ok(descriptor) => {
                audit.granted(kind, &name, flags);
                self.reply_done(request, descriptor.as_ref())
            }
            Err(error) => {
                audit.failed(kind, &name, flags, error);
                self.reply(request, Answer::Errno(Errno::from_io(error)))
            }
        };
        if let Err(error) = replied {
            // The agent is gone, or has stopped to read: the poll loop learns of either by itself.
            audit.failed(kind, &name, flags, &io::Error::other(error));
        }
    }

    /// Hands a descriptor over; where the kernel cannot take it (too many in flight for this user), the emulator is told.
    fn reply_done(&mut self, request: RequestId, descriptor: Option<&OwnedFd>) -> Result<(), protocol::Error> {
        let Some(descriptor) = descriptor else { return self.reply(request, Answer::Done) };
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

/// A request in words.
struct Asked {
    kind: &'static str,
    name: String,
    flags: Option<String>,
}

impl Asked {
    fn open(name: &Name, flags: OpenFlags) -> Self {
        Self { kind: "open", name: name.to_string(), flags: Some(flags.to_string()) }
    }

    fn unlink(name: &Name) -> Self {
        Self { kind: "unlink", name: name.to_string(), flags: None }
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

fn call_name(call: RefusedCall) -> String {
    sandbox_profiles::syscall_name(call.nr).map_or_else(|| format!("number {}", call.nr), str::to_owned)
}

fn unlisted_call() -> Refusal {
    Refusal {
        reason: "the profile qemu-system does not allow this system call".into(),
        advice: "no option does; please report it if the guest needs it".into(),
    }
}
