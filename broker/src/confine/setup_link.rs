//! What the broker does for the sandbox while it is being set up: map the ids of its user namespace, where
//! they are not the caller's own, learn which namespace it is, take over the descriptors that read-only grants are opened
//! through, and say when it has settled. In this order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::mounts::Views;
use crate::packets;

/// Packets, each of one byte.
const NAMESPACES_ENTERED: u8 = 1;
const IDS_MAPPED: u8 = 2;
const VIEWS: u8 = 3;
const LAST_VIEWS: u8 = 4;
const READY: u8 = 5;
const FAILED: u8 = 6;
const NAMESPACE: u8 = 7;

/// The user namespace of this process (namespaces(7)).
const OWN_NAMESPACE: &str = "/proc/self/ns/user";

/// A connected pair: one end for the process that becomes the emulator, one for the broker.
///
/// # Errors
/// `EMFILE`: no descriptor is left.
pub fn pair() -> Result<(SandboxEnd, BrokerEnd), Error> {
    let (sandbox, broker) = packets::pair().map_err(Error::Socket)?;
    Ok((SandboxEnd { socket: sandbox }, BrokerEnd { socket: broker }))
}

/// The end of the process that becomes the emulator.
#[derive(Debug)]
pub struct SandboxEnd {
    socket: OwnedFd,
}

impl SandboxEnd {
    /// Lets the broker write the id maps of the namespace that this process has just entered.
    ///
    /// # Errors
    /// [`Error::BrokerEnded`]: it could not, and has said why.
    pub fn map_ids(&mut self) -> Result<(), Error> {
        send(&self.socket, NAMESPACES_ENTERED, &[])?;
        expect(&self.socket, IDS_MAPPED)
    }

    /// Shows the broker the user namespace that this process has entered, by which its processes are known later.
    ///
    /// # Errors
    /// [`Error::BrokerEnded`]. [`Error::Namespace`]: there is no `/proc`.
    pub fn show_namespace(&mut self) -> Result<(), Error> {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let opened = rustix::fs::open(OWN_NAMESPACE, flags, rustix::fs::Mode::empty());
        let namespace = opened.map_err(|source| Error::Namespace(source.into()))?;
        send(&self.socket, NAMESPACE, &[namespace.as_fd()])
    }

    /// Gives the broker a duplicate of each view, in order.
    ///
    /// # Errors
    /// [`Error::BrokerEnded`].
    pub fn hand_over(&mut self, views: &Views) -> Result<(), Error> {
        let views: Vec<BorrowedFd<'_>> = views.for_the_broker().collect();
        let mut chunks = views.chunks(packets::MAX_DESCRIPTORS).peekable();
        if chunks.peek().is_none() {
            return send(&self.socket, LAST_VIEWS, &[]);
        }
        while let Some(chunk) = chunks.next() {
            let kind = if chunks.peek().is_some() { VIEWS } else { LAST_VIEWS };
            send(&self.socket, kind, chunk)?;
        }
        Ok(())
    }

    /// Waits until the broker serves, confined.
    ///
    /// # Errors
    /// [`Error::BrokerEnded`]: it could not confine itself, and has said why.
    pub fn wait_until_ready(&mut self) -> Result<(), Error> {
        expect(&self.socket, READY)
    }
}

/// The broker's end.
#[derive(Debug)]
pub struct BrokerEnd {
    socket: OwnedFd,
}

impl AsFd for BrokerEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl BrokerEnd {
    /// Waits until the other side stands in its user namespace. `false`: it ended before.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn wait_for_namespaces(&mut self) -> Result<bool, Error> {
        Ok(receive(&self.socket)?.is_some_and(|(kind, _)| kind == NAMESPACES_ENTERED))
    }

    /// Tells that the ids are mapped.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn ids_mapped(&mut self) -> Result<(), Error> {
        send(&self.socket, IDS_MAPPED, &[])
    }

    /// Device and inode number of the namespace that the other side has entered. `None`: it ended before.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn look_at_namespace(&mut self) -> Result<Option<(u64, u64)>, Error> {
        let Some((NAMESPACE, descriptors)) = receive(&self.socket)? else { return Ok(None) };
        let Some(namespace) = descriptors.first() else { return Ok(None) };
        let status = rustix::fs::fstat(namespace).map_err(|source| Error::Socket(source.into()))?;
        Ok(Some((status.st_dev, status.st_ino)))
    }

    /// Takes the views over. `None`: the other side ended before.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn take_views(&mut self) -> Result<Option<Vec<OwnedFd>>, Error> {
        let mut views = Vec::new();
        while let Some((kind, descriptors)) = receive(&self.socket)? {
            views.extend(descriptors);
            match kind {
                VIEWS => {}
                LAST_VIEWS => return Ok(Some(views)),
                _ => break,
            }
        }
        Ok(None)
    }

    /// Tells that the broker has failed, and has said why.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn failed(&mut self) -> Result<(), Error> {
        send(&self.socket, FAILED, &[])
    }

    /// Tells that the broker serves.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn ready(&mut self) -> Result<(), Error> {
        send(&self.socket, READY, &[])
    }
}

fn send(socket: &OwnedFd, kind: u8, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
    packets::send(socket.as_fd(), kind, descriptors).map_err(|source| match source.raw_os_error() {
        Some(libc::EPIPE | libc::ECONNRESET) => Error::BrokerEnded,
        _ => Error::Socket(source),
    })
}

fn receive(socket: &OwnedFd) -> Result<Option<(u8, Vec<OwnedFd>)>, Error> {
    packets::receive(socket.as_fd()).map_err(|source| match source.raw_os_error() {
        Some(libc::EMFILE) => Error::DescriptorsLost,
        _ => Error::Socket(source),
    })
}

fn expect(socket: &OwnedFd, wanted: u8) -> Result<(), Error> {
    match receive(socket)? {
        Some((kind, _)) if kind == wanted => Ok(()),
        Some((FAILED, _)) => Err(Error::BrokerFailed),
        _ => Err(Error::BrokerEnded),
    }
}

/// Why the two sides could not go on together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side has failed, and has said why.
    #[error("the broker could not be set up")]
    BrokerFailed,
    /// The other side is gone without a word.
    #[error("the other side was killed during the start; start again")]
    BrokerEnded,
    /// A limit on descriptors cut a packet short.
    #[error("cannot take over the descriptors of the images: too many open files; raise the limit (ulimit -n)")]
    DescriptorsLost,
    /// The other side's namespace cannot be told.
    #[error("cannot open {OWN_NAMESPACE}: {0}; mount /proc")]
    Namespace(io::Error),
    /// The socket failed.
    #[error("the socket between broker and sandbox failed: {0}")]
    Socket(io::Error),
}
