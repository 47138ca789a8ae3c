//! Carrying datagrams.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::open::net::datagrams::{Peer, Socket};

/// The longest datagram that QEMU sends or takes whole, in bytes (`NET_BUFSIZE` in its `include/net/net.h`).
const LONGEST: usize = 4096 + 65536;

/// Datagrams that go one way before the others are looked at.
const BURST: usize = 64;

/// Until a UNIX socket is tried again whose queue was full, in nanoseconds: no poll tells of another socket's queue.
const PAUSE: i64 = 1_000_000;

const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// A socket of the host's and the end of a pair, with one datagram at most in each direction.
#[derive(Debug)]
pub(super) struct Link<'l> {
    guest: BorrowedFd<'l>,
    host: &'l Socket,
    to_host: Held,
    to_guest: Held,
}

/// A datagram for which there is no room yet.
#[derive(Debug)]
struct Held {
    bytes: Box<[u8]>,
    /// 0: none.
    length: usize,
}

/// What is waited for, in memory that is there beforehand.
#[derive(Debug)]
pub(super) struct Waits<'l> {
    list: Vec<PollFd<'l>>,
}

impl<'l> Link<'l> {
    pub(super) fn new(guest: BorrowedFd<'l>, host: &'l Socket) -> Self {
        Self { guest, host, to_host: Held::default(), to_guest: Held::default() }
    }

    /// Carries what there is and what there is room for.
    fn carry(&mut self) {
        let (guest, host) = (self.guest, self.host.socket.as_fd());
        let peer = &self.host.peer;
        self.to_host.carry(guest, |bytes| match peer {
            Peer::Inet(address) => rustix::net::sendto(host, bytes, SEND, address),
            Peer::Unix(peer) => rustix::net::sendto(host, bytes, SEND, peer.address()),
            // What an earlier datagram met with is told now, and this one is not sent yet (udp(7)).
            Peer::Connected => match rustix::net::send(host, bytes, SEND) {
                Err(Errno::CONNREFUSED) => rustix::net::send(host, bytes, SEND),
                other => other,
            },
        });
        self.to_guest.carry(host, |bytes| rustix::net::send(guest, bytes, SEND));
    }

    /// What the pair's end and the host's socket are waited for.
    fn events(&self) -> [PollFlags; 2] {
        let wanted = |from: &Held, to: &Held| {
            let read = if from.length == 0 { PollFlags::IN } else { PollFlags::empty() };
            read | if to.length == 0 { PollFlags::empty() } else { PollFlags::OUT }
        };
        let [guest, host] = [wanted(&self.to_host, &self.to_guest), wanted(&self.to_guest, &self.to_host)];
        [guest, if self.tries_again() { host - PollFlags::OUT } else { host }]
    }

    /// Whether a UNIX socket has no room.
    fn tries_again(&self) -> bool {
        self.to_host.length > 0 && matches!(self.host.peer, Peer::Unix(_))
    }
}

impl Held {
    /// Takes datagrams from one socket and sends them, until there is none, or no room. One that cannot be sent is lost,
    /// as it would be in a network.
    fn carry(&mut self, from: BorrowedFd<'_>, send: impl Fn(&[u8]) -> Result<usize, Errno>) {
        for _ in 0..BURST {
            if self.length == 0 {
                match rustix::net::recv(from, &mut *self.bytes, RecvFlags::DONTWAIT) {
                    Ok((length, _)) => self.length = length,
                    Err(_) => return,
                }
            }
            // QEMU takes an empty datagram for the end of all.
            if self.length > 0
                && let Err(Errno::AGAIN) = send(self.bytes.get(..self.length).unwrap_or_default())
            {
                return;
            }
            self.length = 0;
        }
    }
}

impl Default for Held {
    fn default() -> Self {
        Self { bytes: vec![0; LONGEST].into(), length: 0 }
    }
}

impl Waits<'_> {
    pub(super) fn for_links(count: usize) -> Self {
        Self { list: Vec::with_capacity(1 + 2 * count) }
    }
}

/// Carries datagrams until `end` hangs up, with what the emulator has left.
pub(super) fn carry_until<'l>(end: BorrowedFd<'l>, links: &mut [Link<'l>], waits: &mut Waits<'l>) {
    loop {
        waits.list.clear();
        waits.list.push(PollFd::from_borrowed_fd(end, PollFlags::empty()));
        for link in &*links {
            let [guest, host] = link.events();
            waits.list.push(PollFd::from_borrowed_fd(link.guest, guest));
            waits.list.push(PollFd::from_borrowed_fd(link.host.socket.as_fd(), host));
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: PAUSE };
        let timeout = links.iter().any(Link::tries_again).then_some(&pause);
        // Only a signal interrupts it, and then it is time to look as well.
        let _ = rustix::event::poll(&mut waits.list, timeout);
        let sockets = waits.list.get(1..).unwrap_or_default().chunks(2);
        for (link, sockets) in links.iter_mut().zip(sockets) {
            if sockets.get(1).is_some_and(|host| host.revents().contains(PollFlags::ERR)) {
                // Taken note of, or poll would tell of it again at once while nothing is read from there.
                let _ = rustix::net::sockopt::socket_error(&link.host.socket);
            }
            if link.tries_again() || sockets.iter().any(|socket| !socket.revents().is_empty()) {
                link.carry();
            }
        }
        if waits.list.first().is_some_and(|end| !end.revents().is_empty()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
