//! The relay: a process that has the guest's sockets of datagrams, and carries datagrams between each and one end of a
//! pair, whose other end is the emulator's.
//!
//! Who holds a socket of datagrams can send to every address that the host reaches, for no filter can look at the
//! address of a `sendto`. The relay sends to the one address that the command line names, and looks at no byte of what it
//! carries.

mod link;
mod process;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use landlock::ABI;
use rustix::net::RecvFlags;
use rustix::pipe::PipeFlags;

use self::process::Work;
use crate::open::net::datagrams::{Peer, Socket};
use crate::packets;
use crate::sys::process::{Between, detach};

/// The most sockets that one relay can have: their ends go to the emulator's process in one message.
const MOST: usize = packets::MAX_DESCRIPTORS;

/// What a message of the relay's is, while it starts.
mod kind {
    /// The emulator's ends, one a socket.
    pub(super) const ENDS: u8 = 0;
    /// It is confined.
    pub(super) const READY: u8 = 1;
    /// It is not; a text with the reason follows.
    pub(super) const FAILED: u8 = 2;
}

/// The most bytes of that text.
const LONGEST_REASON: usize = 1024;

/// What the emulator inherits.
#[derive(Debug)]
pub struct Ends {
    /// One end of a pair of UNIX datagram sockets for each socket, in their order.
    pub sockets: Vec<OwnedFd>,
    /// Closed with the emulator's end, for which the relay waits.
    pub life: OwnedFd,
}

/// Starts a relay for `sockets`. It ends, and removes their names, when every copy of what is returned is closed.
///
/// # Errors
/// [`Error`]; then nothing of it is left, and the names are removed.
pub fn start(sockets: Vec<Socket>, abi: ABI) -> Result<Ends, Error> {
    let started = start_all(&sockets, abi);
    if started.is_err() {
        sockets.iter().filter_map(|socket| socket.file.as_ref()).for_each(|file| file.remove());
    }
    started
}

fn start_all(sockets: &[Socket], abi: ABI) -> Result<Ends, Error> {
    if sockets.len() > MOST {
        return Err(Error::TooMany(sockets.len()));
    }
    let (link, own) = packets::pair().map_err(Error::Descriptors)?;
    let (end, life) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|source| Error::Descriptors(source.into()))?;
    let work = Work { sockets, end: &end, link: &own, abi, stays: stays(sockets) };
    detach(|| process::live(&work)).and_then(Between::reap).map_err(Error::Fork)?;
    drop(own);
    Ok(Ends { sockets: hear(&link, sockets.len())?, life })
}

/// Whether the relay needs the folder of the start, from which QEMU reads a relative path whenever it sends: where it could
/// pin no folder.
fn stays(sockets: &[Socket]) -> bool {
    sockets.iter().any(|socket| match &socket.peer {
        Peer::Inet(_) | Peer::Connected => false,
        Peer::Unix(peer) => peer.is_relative(),
    })
}

/// Takes the emulator's ends, and waits until the relay is confined.
fn hear(link: &OwnedFd, sockets: usize) -> Result<Vec<OwnedFd>, Error> {
    let mut ends = Vec::new();
    loop {
        match packets::receive(link.as_fd()).map_err(Error::Descriptors)? {
            Some((kind::ENDS, descriptors)) => ends = descriptors,
            Some((kind::READY, _)) if ends.len() == sockets => return Ok(ends),
            Some((kind::FAILED, _)) => return Err(Error::NotConfined(reason(link))),
            _ => return Err(Error::NotConfined("it ended".to_owned())),
        }
    }
}

fn reason(link: &OwnedFd) -> String {
    let mut text = [0; LONGEST_REASON];
    let length = rustix::net::recv(link, &mut text, RecvFlags::empty()).map_or(0, |(length, _)| length);
    String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned()
}

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than fit into a message.
    #[error("{0} networks of datagrams are too many; name at most {MOST}")]
    TooMany(usize),
    /// No descriptor is left.
    #[error("cannot make the sockets of the datagram relay: {0}; raise the limit on open files (ulimit -n)")]
    Descriptors(io::Error),
    /// No process is left.
    #[error("cannot fork the datagram relay off: {0}; raise the limit on processes (ulimit -u)")]
    Fork(io::Error),
    /// It could not give up what it does not need.
    #[error("cannot confine the datagram relay: {0}")]
    NotConfined(String),
}
