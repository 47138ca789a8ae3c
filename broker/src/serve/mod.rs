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
pub mod table;
pub mod work;
pub mod workers;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

use crate::packets;
use audit::Audit;
use control::{ConnectionId, Control};
use links::{LinkId, Links, News};
use policy::Policy;
use session::Session;
use table::File;
use work::Carried;
use workers::{Done, Workers};

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
        sources.push((Source::Control, control.as_fd()));
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
        Err(protocol::Error::Closed) => session.end(),
        Err(violation) => {
            broker.audit.say(&format!("{violation}; the guest runs on, but this client is served no more"));
            session.end();
        }
    }
}

/// Hands a worker's result to the session that it belongs to. A file that was created stays granted even if nobody waits
/// for it any more; any other result that comes too late is closed.
fn finish(sessions: &mut Sessions, broker: &mut Broker, done: Done) {
    let Done { ticket, result } = done;
    let owner = sessions.iter_mut().find(|(_, session)| session.asked(ticket).is_some());
    let result = match result {
        Ok(Carried::Opened(descriptor)) => Ok(Some(descriptor)),
        Ok(Carried::Created(descriptor, grant)) => {
            broker.policy.add_created(grant);
            Ok(Some(descriptor))
        }
        Ok(Carried::Removed(grant)) => {
            broker.policy.note_removal(&grant);
            Ok(None)
        }
        Err(failure) => Err(failure),
    };
    let Some((_, session)) = owner else { return };
    if result.is_err() && session.may_try_again(ticket, &mut broker.policy) {
        session.try_again(broker, ticket);
    } else {
        session.complete(&mut broker.audit, ticket, result);
    }
}

fn take_news(sessions: &mut Sessions, broker: &mut Broker, id: LinkId, news: News) {
    let (tickets, lost) = match news {
        News::Ready => {
            control::link_is_ready(broker, id);
            return;
        }
        News::Opened(ticket, result) => (vec![(ticket, result.map(Some).map_err(work::Failure::Errno))], false),
        News::Lost(tickets) => {
            let gone = || Err(work::Failure::Errno(io::Error::from_raw_os_error(libc::EIO)));
            (tickets.into_iter().map(|ticket| (ticket, gone())).collect(), true)
        }
    };
    if lost {
        control::link_is_lost(broker, id);
    }
    for (ticket, result) in tickets {
        if let Some((_, session)) = sessions.iter_mut().find(|(_, session)| session.asked(ticket).is_some()) {
            session.complete(&mut broker.audit, ticket, result);
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
            sessions.retain(|(client, _)| *client != Client::Agent);
            sessions.push((Client::Agent, session));
        }
        // A full table of descriptors: this session is lost, and the next one may find room.
        Err(_) => {}
    }
}

impl Policy {
    /// Grants a file that was created, in the place of one that had the name before.
    fn add_created(&mut self, grant: Arc<grants::Grant>) {
        let before = match self.table.look_up(&grant.name) {
            Some(table::Found::Slot(id, slot)) if slot.role() == grants::Role::Created => Some(id),
            _ => None,
        };
        before.and_then(|id| self.table.remove(id));
        self.table.pin(grant);
    }

    /// Takes back what was granted for a file whose name the emulator had removed.
    fn note_removal(&mut self, grant: &grants::Grant) {
        self.ledger.note_removal(&grant.pin);
        let same = |file: &File| matches!(file, File::Pinned(other) if other.pin.identity() == grant.pin.identity());
        let slots: Vec<_> = self.table.iter().filter(|(_, slot)| same(&slot.file)).map(|(id, _)| id).collect();
        for id in slots {
            self.table.remove(id);
        }
    }
}
