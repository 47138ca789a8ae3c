//! The broker while the guest runs: a poll loop that takes requests, decides, has the opens carried out, and replies.

pub mod audit;
pub mod control;
pub mod folders;
pub mod grants;
pub mod ledger;
pub mod links;
pub mod policy;
pub mod refusal;
pub mod session;
pub mod sockets;
pub mod table;
pub mod terminals;
pub mod work;
pub mod workers;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

use crate::packets;
use audit::Audit;
use control::{ConnectionId, Control};
use links::{LinkId, Links, News};
use policy::Policy;
use session::Session;
use work::{Carried, Failure, Granted, Neighbourhood};
use workers::{Done, Ticket, Workers};

/// All that serving needs.
#[derive(Debug)]
pub struct Broker {
    /// What is granted.
    pub policy: Policy,
    /// The operator's log.
    pub audit: Audit,
    /// The threads that open.
    pub workers: Workers,
    /// The processes that hold what was granted later.
    pub links: Links,
    /// Where the operator grants while the guest runs.
    pub control: Option<Control>,
    /// Where the keeper of the agents announces each new session; none once no agent is left.
    pub keeper: Option<OwnedFd>,
    /// How long the emulator waits for a file until it is told that it failed.
    pub open_timeout: Duration,
    /// What is served for.
    pub life: Life,
}

/// How long there is something to serve.
#[derive(Debug)]
pub enum Life {
    /// Until the guest ends.
    Guest {
        /// A pidfd of the process that was started; none once it has ended.
        started: Option<OwnedFd>,
        /// Whether the emulator goes on as another process when that one ends.
        daemonizes: bool,
    },
    /// As long as somebody is connected.
    Sessions,
}

/// Who is at the other end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// An agent; a new one takes the place of one that has died.
    Agent,
    /// Whoever was given a connection at the start.
    Given,
}

/// The sessions, at most one an agent and those given at the start.
type Sessions = Vec<(Client, Session)>;

/// Serves until there is nobody left to serve.
///
/// # Errors
/// `poll(2)`'s, which only a broken kernel gives.
pub fn serve(broker: &mut Broker, mut sessions: Sessions) -> io::Result<()> {
    while broker.is_needed(&sessions) {
        for source in wait(broker, &sessions)? {
            match source {
                Source::Started => broker.note_end_of_start(),
                Source::Results => {
                    while let Some(done) = broker.workers.take_result() {
                        finish(&mut sessions, broker, done);
                    }
                }
                Source::Session(index) => serve_session(&mut sessions, index, broker),
                Source::Keeper => take_announcement(&mut sessions, broker),
                Source::Link(id) => {
                    while let Some(news) = broker.links.news(id) {
                        take_news(&mut sessions, broker, id, news);
                    }
                }
                Source::Control => control::accept(broker),
                Source::Connection(id) => control::serve_connection(broker, id),
            }
        }
        // What was asked of a process that is let go of is not answered any more.
        for ticket in broker.links.take_abandoned() {
            let gone = Failure::Errno(io::Error::from_raw_os_error(libc::EIO));
            tell(&mut sessions, broker, ticket, Err(gone), &[]);
        }
        sessions.retain(|(_, session)| !session.is_over());
        let now = Instant::now();
        for (_, session) in &mut sessions {
            session.expire(now, &broker.workers, &mut broker.audit);
        }
        control::expire(broker, now);
    }
    Ok(())
}

impl Broker {
    fn is_needed(&self, sessions: &Sessions) -> bool {
        match &self.life {
            Life::Guest { started: Some(_), .. } => true,
            Life::Guest { daemonizes, .. } => *daemonizes && (self.keeper.is_some() || !sessions.is_empty()),
            Life::Sessions => !sessions.is_empty(),
        }
    }

    fn note_end_of_start(&mut self) {
        if let Life::Guest { started, daemonizes } = &mut self.life {
            *started = None;
            // Who started a daemon waits for the end of its standard error.
            if *daemonizes {
                self.audit.leave_terminal();
            }
        }
    }
}

/// What can be waited for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Results,
    Started,
    Session(usize),
    Keeper,
    Link(LinkId),
    Control,
    Connection(ConnectionId),
}

fn wait(broker: &Broker, sessions: &Sessions) -> io::Result<Vec<Source>> {
    let mut sources: Vec<(Source, BorrowedFd<'_>)> = vec![(Source::Results, broker.workers.as_fd())];
    if let Life::Guest { started: Some(started), .. } = &broker.life {
        sources.push((Source::Started, started.as_fd()));
    }
    let served = sessions.iter().enumerate();
    sources.extend(served.map(|(index, (_, session))| (Source::Session(index), session.as_fd())));
    sources.extend(broker.keeper.iter().map(|keeper| (Source::Keeper, keeper.as_fd())));
    sources.extend(broker.links.iter().map(|(id, link)| (Source::Link(id), link)));
    if let Some(control) = &broker.control {
        if control.accepts(Instant::now()) {
            sources.push((Source::Control, control.as_fd()));
        }
        sources.extend(control.connections().map(|(id, socket)| (Source::Connection(id), socket)));
    }
    let mut polled: Vec<PollFd<'_>> =
        sources.iter().map(|(_, descriptor)| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN)).collect();
    let deadlines = sessions.iter().filter_map(|(_, session)| session.next_deadline());
    let deadline = deadlines.chain(broker.control.as_ref().and_then(Control::next_deadline)).min();
    let timeout = deadline.map(|deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        Timespec::try_from(left).unwrap_or_default()
    });
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let ready = sources.iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
    Ok(ready.map(|((source, _), _)| *source).collect())
}

fn serve_session(sessions: &mut Sessions, index: usize, broker: &mut Broker) {
    let Some((_, session)) = sessions.get_mut(index) else { return };
    match session.serve_requests(broker) {
        Ok(()) => {}
        Err(protocol::Error::Closed) => session.end(&broker.workers),
        Err(violation) => {
            broker.audit.say(&format!("{violation}; the guest runs on, but this client is served no more"));
            session.end(&broker.workers);
        }
    }
}

/// Hands a worker's result to the session that it belongs to. A file that was created stays granted even if nobody waits
/// for it any more; any other result that comes too late is closed.
fn finish(sessions: &mut Sessions, broker: &mut Broker, done: Done) {
    let Done { ticket, result, places } = done;
    let result = match result {
        Ok(Carried::Opened(descriptor)) => Ok(Granted::Descriptor(descriptor)),
        Ok(Carried::Connecting(socket)) => Ok(Granted::Connecting(socket)),
        Ok(Carried::Made(descriptor, grant)) => {
            broker.policy.add_made(grant);
            Ok(Granted::Descriptor(descriptor))
        }
        Ok(Carried::Removed(grant)) => {
            broker.policy.forget(grant.pin.identity());
            Ok(Granted::Nothing)
        }
        Ok(Carried::Closed | Carried::SocketRemoved) => Ok(Granted::Nothing),
        Err(failure) => Err(failure),
    };
    for identity in broker.policy.ledger.take_gone() {
        broker.policy.forget(identity);
    }
    tell(sessions, broker, ticket, result, &places);
}

/// Replies to the request that waits for `ticket`, if any does, and has the broker's copy of a descriptor closed.
fn tell(
    sessions: &mut Sessions,
    broker: &mut Broker,
    ticket: Ticket,
    result: Result<Granted, Failure>,
    places: &[Neighbourhood],
) {
    let session = sessions.iter_mut().map(|(_, session)| session).find(|session| session.asked(ticket).is_some());
    let descriptor = match (session, result) {
        (Some(session), Ok(granted)) => {
            session.complete(&mut broker.audit, ticket, Ok(granted.answer()));
            granted.into_descriptor()
        }
        (Some(session), Err(_)) if session.may_try_again(ticket, &mut broker.policy) => {
            session.try_again(broker, ticket);
            None
        }
        (Some(session), Err(failure)) => {
            session.complete(&mut broker.audit, ticket, Err(failure));
            None
        }
        (None, result) => result.ok().and_then(Granted::into_descriptor),
    };
    if let Some(descriptor) = descriptor {
        broker.workers.close(descriptor, places.to_vec());
    }
}

fn take_news(sessions: &mut Sessions, broker: &mut Broker, id: LinkId, news: News) {
    match news {
        News::Ready => control::link_is_ready(broker, id),
        News::Opened(ticket, result) => {
            let result = result.map(Granted::Descriptor).map_err(Failure::Errno);
            tell(sessions, broker, ticket, result, &[Neighbourhood::elsewhere()]);
        }
        News::Lost(tickets) => {
            control::link_is_lost(broker, id);
            for ticket in tickets {
                let gone = Failure::Errno(io::Error::from_raw_os_error(libc::EIO));
                tell(sessions, broker, ticket, Err(gone), &[]);
            }
        }
    }
}

/// Comes after the sessions that have something to say, whose places it may change.
fn take_announcement(sessions: &mut Sessions, broker: &mut Broker) {
    let Some(keeper) = &broker.keeper else { return };
    match packets::receive(keeper.as_fd()) {
        Ok(None) => broker.keeper = None,
        Ok(Some((_, descriptors))) => {
            // Something that is no session: the keeper is trusted no more than its agents.
            let Some(session) = descriptors.into_iter().next().and_then(Session::start) else { return };
            // An agent that has been replaced is dead.
            let replaced = sessions.extract_if(.., |(client, _)| *client == Client::Agent);
            replaced.for_each(|(_, mut session)| session.end(&broker.workers));
            sessions.push((Client::Agent, session));
        }
        // A full table of descriptors: this session is lost, and the next one may find room.
        Err(_) => {}
    }
}
