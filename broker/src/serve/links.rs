//! Links to the processes that hold what was granted after the start.
//!
//! A broker that has settled can open what it pinned and nothing else, and nobody can widen that again. So `broker ctl
//! grant` leaves a process behind that pins the new file, confines itself to it as the broker does, and opens it when
//! this broker asks, in the protocol of docs/protocol.md. It ends when this end of the link is closed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use protocol::{
    AccessMode, ClientHandshake, ClientSession, Name, OpenBits, OpenFlags, ReplyOutcome, RequestBody, RequestId, Step,
};

use super::grants::{Access, only_reads};
use super::workers::Ticket;

/// Processes that may hold grants of one guest at a time.
const MAX_LINKS: usize = 256;

/// Number of a link, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

/// How far a permission for one use is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// Not at all.
    Unused,
    /// The file was opened for writing, and not for reading since.
    Writing,
    /// QEMU has gone back to reading, at this time.
    Ending(Instant),
    /// Wholly.
    Spent,
}

/// How long after QEMU has gone back to reading it may still go on to write. It does so, within one step, when it makes
/// the file that it has committed into the guest's disk (`block-job-complete`), and ends itself if it then may not.
const PIVOT: Duration = Duration::from_secs(5);

impl Once {
    /// Whether an open with `flags` is still permitted. A permission to write ends when the file, after it was opened for
    /// writing, is opened only for reading, and not for writing again in the same step; one to read ends with its first
    /// open. Opens without waiting (`O_NONBLOCK`), by which QEMU looks what a name is, count for neither.
    pub fn admit(&mut self, access: Access, flags: OpenFlags) -> bool {
        let looks = flags.contains(OpenBits::NONBLOCK) && flags.access() == AccessMode::Read;
        let (admitted, next) = match (self.now(), only_reads(flags)) {
            (Self::Spent, _) => (false, Self::Spent),
            (before, true) if looks => (true, before),
            (before @ Self::Ending(_), true) => (true, before),
            (Self::Unused | Self::Writing | Self::Ending(_), false) => (true, Self::Writing),
            (Self::Unused, true) if access != Access::ReadOnly => (true, Self::Unused),
            (Self::Unused, true) => (true, Self::Spent),
            (Self::Writing, true) => (true, Self::Ending(Instant::now())),
        };
        *self = next;
        admitted
    }

    /// What it is by now.
    #[must_use]
    pub fn now(self) -> Self {
        match self {
            Self::Ending(since) if since.elapsed() >= PIVOT => Self::Spent,
            other => other,
        }
    }
}

#[derive(Debug)]
enum State {
    Greeting(ClientHandshake),
    Open(ClientSession),
    /// Only while the state changes.
    Over,
}

#[derive(Debug)]
struct Link {
    state: State,
    waiting: Vec<(RequestId, Ticket)>,
}

/// What a link has to say.
#[derive(Debug)]
pub enum News {
    /// The process at the other end is confined and serves.
    Ready,
    /// An open that it was asked for.
    Opened(Ticket, io::Result<OwnedFd>),
    /// It is gone, with all that it was asked for.
    Lost(Vec<Ticket>),
}

/// All links.
#[derive(Debug, Default)]
pub struct Links {
    links: BTreeMap<LinkId, Link>,
    next: u64,
    /// Opens that were asked for over links that were let go of.
    abandoned: Vec<Ticket>,
}

impl Links {
    /// Takes over this process's end of a link. The other end says that it serves by [`News::Ready`].
    ///
    /// # Errors
    /// `EMFILE`: there are as many links as may be. Otherwise the socket is none of this kind.
    pub fn add(&mut self, socket: OwnedFd) -> io::Result<LinkId> {
        if self.links.len() >= MAX_LINKS {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let state = State::Greeting(ClientHandshake::start(socket).map_err(io::Error::other)?);
        let id = LinkId(self.next);
        self.next += 1;
        self.links.insert(id, Link { state, waiting: Vec::new() });
        Ok(id)
    }

    /// Lets go of a link, upon which the process at its other end ends.
    pub fn remove(&mut self, id: LinkId) {
        let waiting = self.links.remove(&id).map(|link| link.waiting).unwrap_or_default();
        self.abandoned.extend(waiting.into_iter().map(|(_, ticket)| ticket));
    }

    /// The opens that nobody carries out any more since this was last asked.
    pub fn take_abandoned(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.abandoned)
    }

    /// All links, to be waited for.
    pub fn iter(&self) -> impl Iterator<Item = (LinkId, BorrowedFd<'_>)> {
        self.links.iter().map(|(id, link)| match &link.state {
            State::Greeting(handshake) => (*id, handshake.as_fd()),
            State::Open(session) => (*id, session.as_fd()),
            State::Over => (*id, rustix::fs::CWD),
        })
    }

    /// Asks the process behind `id` to open `name`.
    ///
    /// # Errors
    /// `EIO`: it is gone, or has stopped to answer.
    pub fn forward(&mut self, id: LinkId, ticket: Ticket, name: &Name, flags: OpenFlags) -> io::Result<()> {
        let gone = || io::Error::from_raw_os_error(libc::EIO);
        let link = self.links.get_mut(&id).ok_or_else(gone)?;
        let State::Open(session) = &mut link.state else { return Err(gone()) };
        let request = session.request(&RequestBody::Open { name: name.clone(), flags }).map_err(|_| gone())?;
        link.waiting.push((request, ticket));
        Ok(())
    }

    /// What link `id` has to say, one thing at a time.
    pub fn news(&mut self, id: LinkId) -> Option<News> {
        let link = self.links.get_mut(&id)?;
        match link.news() {
            Ok(news) => news,
            Err(_) => {
                let link = self.links.remove(&id)?;
                Some(News::Lost(link.waiting.into_iter().map(|(_, ticket)| ticket).collect()))
            }
        }
    }
}

impl Link {
    fn news(&mut self) -> Result<Option<News>, protocol::Error> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Greeting(handshake) => {
                let (state, news) = match handshake.try_finish()? {
                    Step::Waiting(handshake) => (State::Greeting(handshake), None),
                    Step::Ready(session) => (State::Open(session), Some(News::Ready)),
                };
                self.state = state;
                return Ok(news);
            }
            other => self.state = other,
        }
        match &mut self.state {
            State::Open(session) => {
                let Some((request, outcome)) = session.try_recv()? else { return Ok(None) };
                let result = match outcome {
                    ReplyOutcome::Descriptor(descriptor) => Ok(descriptor),
                    ReplyOutcome::Errno(errno) => Err(errno.into()),
                    ReplyOutcome::Done | ReplyOutcome::Status(_) | ReplyOutcome::Connecting(_) => {
                        Err(io::Error::from_raw_os_error(libc::EIO))
                    }
                };
                let position = self.waiting.iter().position(|(waiting, _)| *waiting == request);
                let waiting = position.map(|position| self.waiting.swap_remove(position));
                Ok(waiting.map(|(_, ticket)| News::Opened(ticket, result)))
            }
            State::Greeting(_) | State::Over => Err(protocol::Error::Closed),
        }
    }
}
