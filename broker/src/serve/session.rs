//! One client's connection: its requests, and what is under way for it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use protocol::{Answer, Errno, RefusedCall, RequestBody, RequestId, ServerHandshake, ServerSession, Step};

use super::Broker;
use super::audit::Audit;
use super::policy::{Decision, Policy};
use super::refusal::Refusal;
use super::work::Failure;
use super::workers::{Job, Ticket, Workers};

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

/// A request that is being carried out elsewhere.
#[derive(Debug)]
struct UnderWay {
    request: RequestId,
    deadline: Instant,
    body: RequestBody,
    /// It is decided about for the second time.
    again: bool,
}

impl Session {
    /// Takes over the broker's end of a connection.
    #[must_use]
    pub fn start(socket: OwnedFd) -> Option<Self> {
        let handshake = ServerHandshake::new(socket).ok()?;
        Some(Self { state: State::Greeting(handshake), under_way: HashMap::new() })
    }

    /// Ends it: the client is gone, or is served no more.
    pub fn end(&mut self, workers: &Workers) {
        self.state = State::Over;
        self.under_way.drain().for_each(|(ticket, _)| workers.cancel(ticket));
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// When the oldest request that is under way must be given up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.under_way.values().map(|under_way| under_way.deadline).min()
    }

    /// Answers requests that have arrived, or has them carried out: no more at a time than a client may have unanswered,
    /// so that one that never stops to ask keeps nobody else from the loop.
    ///
    /// # Errors
    /// The session's: [`protocol::Error::Closed`], or a violation that ends it.
    pub fn serve_requests(&mut self, broker: &mut Broker) -> Result<(), protocol::Error> {
        self.greet()?;
        for _ in 0..protocol::MAX_IN_FLIGHT {
            let State::Open(session) = &mut self.state else { break };
            let Some((request, body)) = session.try_recv()? else { break };
            if let RequestBody::Refused(call) = &body {
                let call = call_name(*call);
                broker.audit.refused("call", &call, None, &Refusal::unlisted_call(&call));
            }
            let decision = broker.policy.decide(&body);
            self.carry_out(broker, request, body, decision)?;
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
        body: RequestBody,
        decision: Decision,
    ) -> Result<(), protocol::Error> {
        let ticket = next_ticket();
        let begun = match decision {
            Decision::Work(work) => broker.workers.submit(Job { ticket, work }),
            Decision::Forward(link, name, flags) => broker.links.forward(link, ticket, &name, flags),
            Decision::Done => {
                if matches!(body, RequestBody::CommitBegin { .. } | RequestBody::CommitEnd { .. }) {
                    let asked = Asked::of(&body);
                    broker.audit.granted(asked.kind, &asked.name, None);
                }
                return self.reply(request, Answer::Done);
            }
            Decision::Status(status) => return self.reply(request, Answer::Status(status)),
            Decision::Fail(errno) => return self.reply(request, Answer::Errno(errno)),
            Decision::Refuse(refusal) => {
                let asked = Asked::of(&body);
                broker.audit.refused(asked.kind, &asked.name, asked.flags.as_deref(), &refusal);
                return self.reply(request, Answer::Errno(Errno::ACCES));
            }
        };
        let deadline = Instant::now() + broker.open_timeout;
        self.under_way.insert(ticket, UnderWay { request, deadline, body, again: false });
        if let Err(error) = begun {
            self.complete(&mut broker.audit, ticket, Err(Failure::Errno(error)));
        }
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
            // The emulator's own words for it name neither.
            if let Some(asked) = self.asked(ticket).map(Asked::of) {
                audit.say(&format!(
                    "{} {}: nothing came in time; is its file server there, or the other end of a FIFO? It may take longer \
                     with --open-timeout",
                    asked.kind, asked.name
                ));
            }
            let timeout = io::Error::from_raw_os_error(libc::ETIMEDOUT);
            self.complete(audit, ticket, Err(Failure::Errno(timeout)));
        }
    }

    /// What request `ticket` asked for, if it waits in this session.
    #[must_use]
    pub fn asked(&self, ticket: Ticket) -> Option<&RequestBody> {
        self.under_way.get(&ticket).map(|under_way| &under_way.body)
    }

    /// Decides once more about a request that was overtaken by another one for the same name.
    pub fn try_again(&mut self, broker: &mut Broker, ticket: Ticket) {
        let Some(UnderWay { request, body, .. }) = self.under_way.remove(&ticket) else { return };
        let decision = broker.policy.decide(&body);
        let before: Vec<Ticket> = self.under_way.keys().copied().collect();
        // The poll loop learns by itself that the agent is gone.
        let _ = self.carry_out(broker, request, body, decision);
        let new = self.under_way.iter_mut().filter(|(ticket, _)| !before.contains(ticket));
        new.for_each(|(_, under_way)| under_way.again = true);
    }

    /// Whether `ticket` asks to create a file which another request has created meanwhile. Once.
    pub fn may_try_again(&self, ticket: Ticket, policy: &mut Policy) -> bool {
        let under_way = self.under_way.get(&ticket).filter(|under_way| !under_way.again);
        under_way.is_some_and(|under_way| policy.was_created_meanwhile(&under_way.body))
    }

    /// Replies with what became of a request. The broker's copy of a descriptor is to be closed then: one that was kept
    /// would hold the emulator's image locks after its death.
    pub fn complete(&mut self, audit: &mut Audit, ticket: Ticket, result: Result<Answer<'_>, Failure>) {
        let Some(UnderWay { request, body, .. }) = self.under_way.remove(&ticket) else { return };
        let asked = Asked::of(&body);
        let flags = asked.flags.as_deref();
        let replied = match result {
            Ok(answer) => {
                audit.granted(asked.kind, &asked.name, flags);
                self.reply_done(request, answer)
            }
            Err(Failure::Errno(error)) => {
                audit.failed(asked.kind, &asked.name, flags, &error);
                self.reply(request, Answer::Errno(Errno::from_io(&error)))
            }
            Err(Failure::Refused(refusal, errno)) => {
                audit.refused(asked.kind, &asked.name, flags, &refusal);
                self.reply(request, Answer::Errno(Errno::from_io(&errno.into())))
            }
        };
        if let Err(error) = replied {
            // The agent is gone, or has stopped to read: the poll loop learns of either by itself.
            audit.failed(asked.kind, &asked.name, flags, &io::Error::other(error));
        }
    }

    /// Hands a descriptor over; where the kernel cannot take it (too many in flight for this user), the emulator is told.
    fn reply_done(&mut self, request: RequestId, answer: Answer<'_>) -> Result<(), protocol::Error> {
        match self.reply(request, answer) {
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
    fn of(body: &RequestBody) -> Self {
        let (kind, name, flags) = match body {
            RequestBody::Bind { address, .. } => {
                return Self { kind: "bind", name: address.to_string(), flags: None };
            }
            RequestBody::Connect { address, .. } => {
                return Self { kind: "connect", name: address.to_string(), flags: None };
            }
            RequestBody::Open { name, flags } => ("open", Some(name), Some(flags)),
            RequestBody::Create { name, flags, .. } => ("create", Some(name), Some(flags)),
            RequestBody::ChangeMedium { name, flags } => ("medium", Some(name), Some(flags)),
            RequestBody::Unlink { name } => ("unlink", Some(name), None),
            RequestBody::CommitBegin { name } | RequestBody::CommitEnd { name } => ("commit", Some(name), None),
            RequestBody::Resolve { name } => ("resolve", Some(name), None),
            RequestBody::Status => ("status", None, None),
            RequestBody::Refused(_) => ("call", None, None),
        };
        Self { kind, name: name.map(ToString::to_string).unwrap_or_default(), flags: flags.map(ToString::to_string) }
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
