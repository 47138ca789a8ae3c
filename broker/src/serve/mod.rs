//! The broker while the guest runs: a poll loop that takes requests, decides, has the opens carried out, and replies.

pub mod audit;
pub mod grants;
pub mod session;
pub mod workers;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

use crate::packets;
use audit::Audit;
use grants::Grants;
use session::Session;
use workers::Workers;

/// All that serving needs.
#[derive(Debug)]
pub struct Broker {
    /// The policy.
    pub grants: Grants,
    /// The operator's log.
    pub audit: Audit,
    /// The threads that open.
    pub workers: Workers,
    /// Where the keeper of the agents announces each new session; none once no agent is left.
    pub keeper: Option<OwnedFd>,
    /// A pidfd of the process that was started; none once it has ended.
    pub started: Option<OwnedFd>,
    /// Whether the emulator goes on as another process when that one ends.
    pub daemonizes: bool,
}

/// Serves until the guest has ended.
///
/// # Errors
/// `poll(2)`'s, which only a broken kernel gives.
pub fn serve(broker: &mut Broker) -> io::Result<()> {
    let mut session: Option<Session> = None;
    while broker.started.is_some() || (broker.daemonizes && (broker.keeper.is_some() || session.is_some())) {
        for source in wait(broker, session.as_ref())? {
            match source {
                Source::Started => {
                    broker.started = None;
                    // Who started a daemon waits for the end of its standard error.
                    if broker.daemonizes {
                        broker.audit.leave_terminal();
                    }
                }
                Source::Results => {
                    while let Some(done) = broker.workers.take_result() {
                        session::finish(session.as_mut(), &mut broker.audit, done);
                    }
                }
                Source::Session => serve_session(&mut session, broker),
                Source::Keeper => match announcement(broker) {
                    // An agent that has been replaced is dead.
                    Announcement::Session(new) => session = Some(*new),
                    Announcement::Nonsense => {}
                    Announcement::End => broker.keeper = None,
                },
            }
        }
        if let Some(session) = session.as_mut() {
            session.expire(Instant::now(), &broker.workers, &mut broker.audit);
        }
    }
    Ok(())
}

/// What can be waited for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Results,
    Started,
    Session,
    Keeper,
}

fn wait(broker: &Broker, session: Option<&Session>) -> io::Result<Vec<Source>> {
    let sources = [
        (Source::Results, Some(broker.workers.as_fd())),
        (Source::Started, broker.started.as_ref().map(AsFd::as_fd)),
        (Source::Session, session.map(AsFd::as_fd)),
        (Source::Keeper, broker.keeper.as_ref().map(AsFd::as_fd)),
    ];
    let (sources, mut polled): (Vec<_>, Vec<_>) = sources
        .into_iter()
        .filter_map(|(source, descriptor)| Some((source, PollFd::from_borrowed_fd(descriptor?, PollFlags::IN))))
        .unzip();
    let timeout = session.and_then(Session::next_deadline).map(|deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        Timespec::try_from(left).unwrap_or_default()
    });
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let ready = sources.into_iter().zip(polled).filter(|(_, polled)| !polled.revents().is_empty());
    Ok(ready.map(|(source, _)| source).collect())
}

fn serve_session(session: &mut Option<Session>, broker: &mut Broker) {
    let Some(open) = session.as_mut() else { return };
    match open.serve_requests(broker) {
        Ok(()) => {}
        Err(protocol::Error::Closed) => *session = None,
        Err(violation) => {
            broker.audit.say(&format!("{violation}; the guest runs on, but this agent is served no more"));
            *session = None;
        }
    }
}

/// What the keeper has to say.
enum Announcement {
    Session(Box<Session>),
    /// Something that is no session: the keeper is trusted no more than its agents.
    Nonsense,
    End,
}

fn announcement(broker: &Broker) -> Announcement {
    let Some(keeper) = &broker.keeper else { return Announcement::End };
    match packets::receive(keeper.as_fd()) {
        Ok(None) => Announcement::End,
        Ok(Some((_, descriptors))) => descriptors
            .into_iter()
            .next()
            .and_then(Session::start)
            .map_or(Announcement::Nonsense, |session| Announcement::Session(Box::new(session))),
        // A full table of descriptors: this session is lost, and the next one may find room.
        Err(_) => Announcement::Nonsense,
    }
}
