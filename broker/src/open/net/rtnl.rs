//! Questions and orders about interfaces, by rtnetlink (rtnetlink(7)): each is one request and one answer.
//!
//! The messages are those of `netlink-packet-route` and `netlink-sys`, the kept and synchronous half of the rust-netlink
//! project. Its other half, `rtnetlink`, needs the tokio runtime; `neli` and nix's ioctls know neither an interface's other
//! names nor its kind. An answer is read into a bounded buffer, and believed only from the kernel and for the request
//! made.

use std::{fmt, io};

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::link::Link;
use super::name::InterfaceName;

/// The longest answer that is read, in bytes: one interface takes about 1500, with many other names some more.
const LONGEST_ANSWER: usize = 256 * 1024;

/// What every request is numbered with: an answer is taken before the next request is made.
const SEQUENCE_NUMBER: u32 = 1;

/// A socket to ask by, in the network namespace in which it was made.
pub struct Client(Socket);

impl Client {
    /// Opens it.
    ///
    /// # Errors
    /// `EAFNOSUPPORT`, `EPERM`: a filter denies netlink.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Self(socket))
    }

    /// The interface that has `name`, or has it as another name; `None` if there is none.
    ///
    /// # Errors
    /// What the kernel said; `InvalidData`: what it said makes no sense.
    pub fn find(&self, name: &InterfaceName) -> io::Result<Option<Link>> {
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(name.as_str().to_owned()));
        match self.get(question) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            other => other.map(Some),
        }
    }

    /// The interface of this index.
    ///
    /// # Errors
    /// `ENODEV`: it is gone. Else as [`Self::find`].
    pub fn at(&self, index: u32) -> io::Result<Link> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        self.get(question)
    }

    /// Sets attributes of the interface of this index.
    ///
    /// # Errors
    /// What the kernel said: `EPERM`, `ENODEV` ...
    pub fn set(&self, index: u32, attributes: Vec<LinkAttribute>) -> io::Result<()> {
        let mut order = LinkMessage::default();
        order.header.index = index;
        order.attributes = attributes;
        self.order(order)
    }

    /// Brings the interface of this index up.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn bring_up(&self, index: u32) -> io::Result<()> {
        let mut order = LinkMessage::default();
        order.header.index = index;
        order.header.flags = LinkFlags::Up;
        order.header.change_mask = LinkFlags::Up;
        self.order(order)
    }

    /// Whether this process may change interfaces here. An order that names no interface changes none: the kernel
    /// looks for `CAP_NET_ADMIN` over the network namespace first (`rtnetlink_rcv_msg`, net/core/rtnetlink.c), and only then
    /// finds `EINVAL`.
    pub fn may_change(&self) -> bool {
        let answer = self.order(LinkMessage::default());
        answer.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV)))
    }

    fn get(&self, mut question: LinkMessage) -> io::Result<Link> {
        question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self.ask(RouteNetlinkMessage::GetLink(question), NLM_F_REQUEST)? {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                Link::read(link).ok_or_else(|| nonsense("an interface without index, name or sense"))
            }
            _ => Err(nonsense("no description of an interface")),
        }
    }

    fn order(&self, order: LinkMessage) -> io::Result<()> {
        match self.ask(RouteNetlinkMessage::SetLink(order), NLM_F_REQUEST | NLM_F_ACK)? {
            NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
            _ => Err(nonsense("no acknowledgement")),
        }
    }

    /// Sends one request and takes the answer. An error is one, whatever was asked.
    fn ask(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = SEQUENCE_NUMBER;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        let answer = self.receive()?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(nonsense)?;
        if answer.header.sequence_number != SEQUENCE_NUMBER {
            return Err(nonsense("an answer to another question"));
        }
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            payload => Ok(payload),
        }
    }

    /// The kernel has put its answer into the socket's queue before the request's `sendto` returns.
    fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut buffer = Vec::with_capacity(LONGEST_ANSWER);
            let (length, sender) = self.0.recv_from(&mut buffer, libc::MSG_TRUNC)?;
            if sender.port_number() != 0 {
                continue;
            }
            if length > buffer.len() {
                return Err(nonsense("an answer that is too long"));
            }
            return Ok(buffer);
        }
    }
}

fn nonsense(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer: {what}"))
}
