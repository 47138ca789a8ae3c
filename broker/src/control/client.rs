//! `broker ctl NAME ...`.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use protocol::{Channel, Name, Received};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::FileType;
use rustix::time::Timespec;

use super::granted::{self, Wanted};
use super::holder::{self, Holding};
use super::message::{Answer, GuestStatus, ListedGrant, ListedSocket, Offer, Order, OrderBody, Use, VERSION};
use super::{place, tap};
use crate::administrator;
use crate::confine::capabilities::Keep;
use crate::confine::landlock;
use crate::open::access::needs_override;
use crate::open::chain;
use crate::open::pin::{Pin, check_access};
use crate::paths::absolute_path;
use crate::readable::readable;
use crate::record::change::Change;
use crate::record::{headers, store};
use crate::serve::grants::{Access, Role};
use crate::sys::process;

/// What the operator wants.
#[derive(Debug)]
pub enum Wish {
    /// To know how the guest does.
    Status {
        /// As JSON.
        json: bool,
    },
    /// To grant a file.
    Grant {
        /// Which, and how.
        wanted: Wanted,
        /// For one use.
        once: bool,
    },
    /// To take a grant back.
    Revoke(PathBuf),
    /// To let a backing file be written.
    AllowCommit {
        /// Which. It is the operator who names it: a list that the broker gave might be that of a guest that took the
        /// broker over.
        path: PathBuf,
        /// For one commit.
        once: bool,
    },
    /// To hand a network interface over.
    Tap(tap::Wish),
}

/// Does it.
///
/// # Errors
/// [`Error`]: what failed, and what to do.
pub fn run(guest: &str, wish: &Wish) -> Result<(), Error> {
    // Holders and bridge helpers are waited for, which nobody can where the ends of children are ignored. No kernel refuses.
    let _ = process::restore_default(Signal::SIGCHLD);
    let of_process = guest_of_process(guest);
    let guest = of_process.as_deref().unwrap_or(guest);
    let connect = || Guest::connect(guest);
    // Who asks for something that is not there learns that first; a chain is read before the broker has to wait for it.
    let mut first = connect()?;
    match wish {
        Wish::Status { json } => first.status(*json),
        Wish::Revoke(path) => first.order(OrderBody::Revoke(name_of(&absolute(path)?)?), None),
        Wish::Grant { wanted, once } => {
            drop(first);
            let (path, holdings) = granted::find(wanted)?;
            connect()?.offer(&path, holdings, *once, OrderBody::Grant)
        }
        Wish::AllowCommit { path, once } => first.allow_commit(path, *once),
        Wish::Tap(wish) => {
            drop(first);
            let tell = |handed| connect()?.order(OrderBody::Handed(handed), None);
            tap::hand_over(wish, tell).map_err(|failure| match failure {
                tap::Failure::Own(error) => Error::Tap(error),
                tap::Failure::Told(error) => error,
            })
        }
    }
}

/// How long the search for a process's guest waits for all answers; a broker takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

fn left_until(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

/// A guest that runs.
struct Guest {
    channel: Channel,
}

/// The name of the guest that the process of this number belongs to: a daemon's number is not that of the process that was
/// started. Nothing, if a guest has this name, or none has this process. The kernel tells by their namespace whose it is, not
/// a file that a guest could have written.
fn guest_of_process(number: &str) -> Option<String> {
    let number: u32 = number.parse().ok()?;
    let running = place::running_guests().ok()?;
    if running.contains(&number.to_string()) {
        return None;
    }
    let status = rustix::fs::stat(format!("/proc/{number}/ns/user")).ok()?;
    let end = Instant::now() + PATIENCE;
    // All are asked before the first answer is waited for: one broker that is stopped delays nobody but itself.
    let asked = running.into_iter().filter_map(|name| Some((Guest::ask_for_status(&name, end).ok()?, name)));
    let asked: Vec<_> = asked.collect();
    asked.into_iter().find_map(|(guest, name)| {
        let found = guest.status_until(end).ok()?;
        (found.namespace == Some((status.st_dev, status.st_ino))).then_some(name)
    })
}

impl Guest {
    fn connect(name: &str) -> Result<Self, Error> {
        Ok(Self { channel: Channel::new(place::connect(name)?)? })
    }

    /// Asks a guest how it does, and waits until `end` at most for room.
    fn ask_for_status(name: &str, end: Instant) -> Result<Self, Error> {
        // No time at all would mean for ever.
        let patience = left_until(end).max(Duration::from_millis(1));
        let mut channel = Channel::new(place::connect_within(name, patience)?)?;
        channel.try_send(&Order { version: VERSION, body: OrderBody::Status }, None)?;
        Ok(Self { channel })
    }

    /// What it answers until `end`.
    fn status_until(mut self, end: Instant) -> Result<GuestStatus, Error> {
        let left = Timespec::try_from(left_until(end)).unwrap_or_default();
        let mut waited_for = [PollFd::new(&self.channel, PollFlags::IN)];
        rustix::event::poll(&mut waited_for, Some(&left)).map_err(|error| Error::Silent(error.into()))?;
        match self.channel.try_recv::<Answer>()?.map(|received| received.message) {
            Some(Answer::Status(status)) => Ok(status),
            Some(_) => Err(Error::Nonsense),
            None => Err(Error::Silent(io::ErrorKind::TimedOut.into())),
        }
    }

    fn ask(&mut self, body: OrderBody, link: Option<&OwnedFd>) -> Result<Answer, Error> {
        self.channel.send(&Order { version: VERSION, body }, link.map(AsFd::as_fd))?;
        let Received { message, .. } = self.channel.recv::<Answer>()?;
        match message {
            Answer::Failed(reason) => Err(Error::Failed(readable(reason.as_bytes()))),
            answer => Ok(answer),
        }
    }

    fn order(&mut self, body: OrderBody, link: Option<&OwnedFd>) -> Result<(), Error> {
        match self.ask(body, link)? {
            Answer::Done => Ok(()),
            _ => Err(Error::Nonsense),
        }
    }

    fn status(&mut self, json: bool) -> Result<(), Error> {
        let Answer::Status(status) = self.ask(OrderBody::Status, None)? else { return Err(Error::Nonsense) };
        let grants = self.grants()?;
        let sockets = self.sockets()?;
        let mut out = io::stdout().lock();
        let written = if json {
            write_json(&mut out, &status, &grants, &sockets)
        } else {
            write_words(&mut out, &status, &grants)
        };
        let written = written.and_then(|()| if json { Ok(()) } else { write_sockets(&mut out, &sockets) });
        written.map_err(Error::Output)
    }

    fn grants(&mut self) -> Result<Vec<ListedGrant>, Error> {
        let (mut grants, mut next) = (Vec::new(), Some(0));
        while let Some(first) = next {
            let Answer::List(page) = self.ask(OrderBody::List(first), None)? else { return Err(Error::Nonsense) };
            grants.extend(page.grants);
            if page.next.is_some_and(|next| next <= first) {
                return Err(Error::Nonsense);
            }
            next = page.next;
        }
        Ok(grants)
    }

    fn sockets(&mut self) -> Result<Vec<ListedSocket>, Error> {
        let (mut sockets, mut next) = (Vec::new(), Some(0));
        while let Some(first) = next {
            let Answer::Sockets(page) = self.ask(OrderBody::Sockets(first), None)? else { return Err(Error::Nonsense) };
            sockets.extend(page.sockets);
            if page.next.is_some_and(|next| next <= first) {
                return Err(Error::Nonsense);
            }
            next = page.next;
        }
        Ok(sockets)
    }

    fn allow_commit(&mut self, path: &Path, once: bool) -> Result<(), Error> {
        let path = absolute(path)?;
        let pin = Arc::new(pin(&path, true)?);
        let holding = Holding { pin, name: name_of(&path)?, access: Access::ReadWrite, role: Role::Backing };
        self.offer(&path, vec![holding], once, OrderBody::Commit)
    }

    /// Starts a holder, and offers what it holds.
    fn offer(
        &mut self,
        path: &Path,
        holdings: Vec<Holding>,
        once: bool,
        order: fn(Offer) -> OrderBody,
    ) -> Result<(), Error> {
        let granted_with = name_of(path)?;
        let abi = landlock::abi()?;
        let mut keep = Keep::Nothing;
        let mut offers = Vec::new();
        for Holding { pin, name, access, role } in &holdings {
            if needs_override(pin.as_fd(), *access == Access::ReadWrite).unwrap_or(false) {
                keep = Keep::opening_any_file();
            }
            offers.push(Offer {
                name: name.clone(),
                resolved: name_of(pin.path())?,
                granted_with: granted_with.clone(),
                identity: pin.identity(),
                access: *access,
                role: *role,
                // What lies below the image is read whenever the image is.
                once: once && *name == granted_with,
            });
        }
        let links = holder::begin(holdings, abi, keep)?;
        for (offer, link) in offers.into_iter().zip(&links) {
            self.order(order(offer), Some(link))?;
        }
        Ok(())
    }
}

/// Pins a file that may be granted.
pub(super) fn pin(path: &Path, write: bool) -> Result<Pin, Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let pin = Pin::take(path).map_err(failed)?;
    match pin.file_type() {
        FileType::RegularFile | FileType::BlockDevice => {}
        _ => return Err(Error::Kind(path.to_owned())),
    }
    check_access(pin.as_fd(), write).map_err(failed)?;
    Ok(pin)
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let folder = std::env::current_dir().map_err(Error::WorkingDirectory)?;
    Ok(absolute_path(&folder, path.as_os_str()))
}

pub(super) fn name_of(path: &Path) -> Result<Name, Error> {
    Name::new(path.as_os_str().as_bytes()).map_err(|_| Error::TooLong(path.to_owned()))
}

fn write_json(
    out: &mut impl Write,
    status: &GuestStatus,
    grants: &[ListedGrant],
    sockets: &[ListedSocket],
) -> io::Result<()> {
    let [granted, refused, failed] = status.requests;
    let grants: Vec<serde_json::Value> = grants
        .iter()
        .map(|grant| {
            serde_json::json!({
                "path": String::from_utf8_lossy(&grant.path), "option": grant.option, "access": grant.access,
                "role": grant.role, "later": grant.later, "commit": grant.commit,
            })
        })
        .collect();
    let whole = serde_json::json!({
        "guest": status.guest, "pid": status.pid, "granted": status.granted, "grants": grants,
        "sockets": sockets,
        "requests": { "granted": granted, "refused": refused, "failed": failed },
    });
    serde_json::to_writer_pretty(&mut *out, &whole)?;
    writeln!(out)
}

fn write_words(out: &mut impl Write, status: &GuestStatus, grants: &[ListedGrant]) -> io::Result<()> {
    let protocol::Status { grants: count, commits, files_created, files_allowed, bytes_created, bytes_allowed } =
        status.granted;
    let [granted, refused, failed] = status.requests;
    writeln!(out, "guest      {}, process {}", readable(status.guest.as_bytes()), status.pid)?;
    writeln!(out, "requests   {granted} granted, {refused} refused, {failed} failed")?;
    writeln!(out, "created    {files_created} of {files_allowed} files, {bytes_created} of {bytes_allowed} bytes")?;
    writeln!(out, "grants     {count}, of which {commits} backing files may be written")?;
    for grant in grants {
        let name = grant.path.escape_ascii();
        write!(
            out,
            "grant      {name} {}, as {:?}, by `{}`",
            grant.access,
            grant.role,
            readable(grant.option.as_bytes())
        )?;
        for (usage, what) in [(grant.later, "granted"), (grant.commit, "commit allowed")] {
            match usage {
                Some(Use::Always) => write!(out, "; {what} by broker ctl")?,
                Some(Use::Once) => write!(out, "; {what} once by broker ctl")?,
                Some(Use::Spent) => write!(out, "; {what} once by broker ctl, used up")?,
                None => {}
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_sockets(out: &mut impl Write, sockets: &[ListedSocket]) -> io::Result<()> {
    for ListedSocket { role, address, option } in sockets {
        let verb = role.verb();
        writeln!(out, "{verb:<10} {}, by `{}`", readable(address.as_bytes()), readable(option.as_bytes()))?;
    }
    Ok(())
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to the guest.
    #[error(transparent)]
    Place(#[from] place::Error),
    /// The connection failed.
    #[error("the guest's broker does not answer: {0}")]
    Channel(#[from] protocol::Error),
    /// No answer came in time.
    #[error("the guest's broker does not answer: {0}")]
    Silent(io::Error),
    /// The broker said no.
    #[error("{0}")]
    Failed(String),
    /// The broker said something else than it was asked for.
    #[error("the guest's broker gave an answer that does not fit; is it of another version?")]
    Nonsense,
    /// The file cannot be used.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is no image.
    #[error("{} is neither a regular file nor a block device; only those can be granted", .0.display())]
    Kind(PathBuf),
    /// A name that no request can hold.
    #[error("{} is too long for a name", .0.display())]
    TooLong(PathBuf),
    /// The current folder is gone.
    #[error("cannot find the current folder: {0}; change to one that exists")]
    WorkingDirectory(io::Error),
    /// A chain that is refused.
    #[error(transparent)]
    Chain(#[from] chain::Error),
    /// A file of it was lost while it was read.
    #[error(transparent)]
    Headers(#[from] headers::Error),
    /// An image is not what it was.
    #[error(transparent)]
    Changed(Box<Change>),
    /// The records of image chains.
    #[error(transparent)]
    Records(#[from] store::Error),
    /// The administrator's policy.
    #[error(transparent)]
    Administrator(#[from] administrator::Error),
    /// The prober cannot be made.
    #[error("cannot prepare to read image headers: {0}")]
    Prober(crate::confine::seccomp::Error),
    /// No Landlock.
    #[error(transparent)]
    Landlock(#[from] landlock::Error),
    /// No holder.
    #[error(transparent)]
    Holder(#[from] holder::Error),
    /// No network interface was handed over.
    #[error(transparent)]
    Tap(#[from] tap::Error),
    /// Standard output is closed.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}
