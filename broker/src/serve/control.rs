//! The broker's side of the control socket: the operator's orders while the guest runs.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use protocol::{Channel, Error, Name, Received};
use rustix::net::{SocketFlags, accept_with, sockopt};
use rustix::process::Uid;

use super::Broker;
use super::grants::{Access, Role};
use super::links::{LinkId, Once};
use super::table::{File, Found, Held, Slot, SlotId};
use crate::control::message::{
    Answer, GuestStatus, Handed, ListedGrant, OPTION_SHOWN, Offer, Order, OrderBody, Page, Use, VERSION,
};

/// Connections at a time; the operator has one or two terminals.
const MAX_CONNECTIONS: usize = 16;

/// How long a connection may be there. What takes long, reading the headers of a chain, is done before.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long nobody is accepted after that failed: the table of descriptors is full, and looking again at once would not
/// empty it.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes that the grants of one page take up at most, so that the page fits into a message.
const PAGE: usize = 6000;

/// Bytes that a grant takes up in a page beside its path and its option.
const LISTED: usize = 64;

/// Number of a connection, never used twice.
pub type ConnectionId = u64;

/// The control socket and its connections.
#[derive(Debug)]
pub struct Control {
    socket: OwnedFd,
    operator: Uid,
    namespace: (u64, u64),
    connections: BTreeMap<ConnectionId, Connection>,
    next: ConnectionId,
    /// Nobody is accepted until then.
    resumes: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    channel: Channel,
    deadline: Instant,
    /// What will be granted once the process that holds it serves.
    offer: Option<(LinkId, Offer, Kind)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grant,
    Commit,
}

impl Control {
    /// Listens on `socket` for `operator`, who started the guest; `namespace` is the user namespace of its processes, by device
    /// and inode number.
    #[must_use]
    pub fn new(socket: OwnedFd, operator: Uid, namespace: (u64, u64)) -> Self {
        Self { socket, operator, namespace, connections: BTreeMap::new(), next: 0, resumes: None }
    }

    /// All connections.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionId, BorrowedFd<'_>)> {
        self.connections.iter().map(|(id, connection)| (*id, connection.channel.as_fd()))
    }

    /// When the oldest connection must be given up, or somebody can be accepted again.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.connections.values().map(|connection| connection.deadline).chain(self.resumes).min()
    }

    /// Whether somebody can be accepted now.
    #[must_use]
    pub fn accepts(&self, now: Instant) -> bool {
        self.resumes.is_none_or(|resumes| resumes <= now)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Takes a new connection, if it is the operator's.
pub fn accept(broker: &mut Broker) {
    let Some(control) = &mut broker.control else { return };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = accept_with(&control.socket, flags) else {
        control.resumes = Some(Instant::now() + PAUSE);
        return;
    };
    match sockopt::socket_peercred(&socket) {
        Ok(peer) if peer.uid == control.operator => {}
        Ok(peer) => {
            let uid = peer.uid.as_raw();
            broker.audit.say(&format!("uid {uid} may not use the control socket of this guest"));
            return;
        }
        Err(_) => return,
    }
    let Ok(channel) = Channel::new(socket) else { return };
    let deadline = Instant::now() + PATIENCE;
    control.connections.insert(control.next, Connection { channel, deadline, offer: None });
    control.next += 1;
    let full = control.connections.len() > MAX_CONNECTIONS;
    if let Some(oldest) = control.connections.keys().next().copied().filter(|_| full) {
        close(broker, oldest);
    }
}

/// Gives up connections that have been there for too long.
pub fn expire(broker: &mut Broker, now: Instant) {
    let Some(control) = &mut broker.control else { return };
    control.resumes.take_if(|resumes| *resumes <= now);
    let late = control.connections.iter().filter(|(_, connection)| connection.deadline <= now);
    for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
        close(broker, id);
    }
}

/// Carries out the next order of a connection.
pub fn serve_connection(broker: &mut Broker, id: ConnectionId) {
    let connections = broker.control.as_mut().map(|control| &mut control.connections);
    let Some(connection) = connections.and_then(|connections| connections.get_mut(&id)) else { return };
    let answer = match connection.channel.try_recv::<Order>() {
        Ok(None) => return,
        Ok(Some(Received { message: Order { version, .. }, .. })) if version != VERSION => Some(Answer::Failed(
            format!("this guest's broker speaks version {VERSION} of these orders; use its `broker`"),
        )),
        Ok(Some(Received { message: Order { body, .. }, descriptor })) => broker.carry_out_order(id, body, descriptor),
        Err(Error::Violation(violation)) => Some(Answer::Failed(violation.to_string())),
        Err(_) => return close(broker, id),
    };
    if let Some(answer) = answer {
        send(broker, id, &answer);
    }
}

fn send(broker: &mut Broker, id: ConnectionId, answer: &Answer) {
    let Some(control) = &mut broker.control else { return };
    let Some(connection) = control.connections.get_mut(&id) else { return };
    // Who does not read is not waited for.
    if connection.channel.try_send(answer, None).is_err() {
        close(broker, id);
    }
}

fn close(broker: &mut Broker, id: ConnectionId) {
    let connection = broker.control.as_mut().and_then(|control| control.connections.remove(&id));
    if let Some((link, ..)) = connection.and_then(|connection| connection.offer) {
        broker.links.remove(link);
    }
}

/// The process at the other end of `link` serves: what it was offered for is granted.
pub fn link_is_ready(broker: &mut Broker, link: LinkId) {
    match broker.take_offered(link) {
        Some((id, offer, kind)) => {
            let answer = broker.accept_offer(link, offer, kind);
            send(broker, id, &answer);
        }
        // Who offered it has left meanwhile.
        None => broker.links.remove(link),
    }
}

/// The process at the other end of `link` is gone, and what it held with it.
pub fn link_is_lost(broker: &mut Broker, link: LinkId) {
    if let Some((id, ..)) = broker.take_offered(link) {
        send(broker, id, &Answer::Failed("the process that was to hold the grant has ended, and has said why".into()));
    }
    let holds = |held: &Held| held.link == link;
    let (mut slots, mut names) = (Vec::new(), Vec::new());
    for (id, slot) in broker.policy.table.iter_mut() {
        names.extend(slot.commit.take_if(|held| holds(held)).map(|held| held.name));
        if let File::Held(held) = &slot.file
            && holds(held)
        {
            names.push(held.name.clone());
            slots.push(id);
        }
    }
    for id in slots {
        broker.policy.table.remove(id);
    }
    for name in names {
        broker.audit.say(&format!("the process that held {name} was ended; grant it again if the guest needs it"));
    }
}

impl Broker {
    /// What was to be granted once `link` serves, and who waits for it.
    fn take_offered(&mut self, link: LinkId) -> Option<(ConnectionId, Offer, Kind)> {
        let connections = self.control.as_mut()?.connections.iter_mut();
        let offered = |connection: &Connection| connection.offer.as_ref().is_some_and(|(offered, ..)| *offered == link);
        let (id, connection) = connections.into_iter().find(|(_, connection)| offered(connection))?;
        let (_, offer, kind) = connection.offer.take()?;
        Some((*id, offer, kind))
    }

    /// `None`: the answer comes later.
    fn carry_out_order(&mut self, id: ConnectionId, body: OrderBody, link: Option<OwnedFd>) -> Option<Answer> {
        match body {
            OrderBody::Status => Some(Answer::Status(GuestStatus {
                guest: self.audit.guest().to_owned(),
                pid: self.audit.pid(),
                namespace: self.control.as_ref().map(|control| control.namespace),
                granted: self.policy.status(),
                requests: self.audit.totals(),
            })),
            OrderBody::List(first) => Some(Answer::List(self.list(first))),
            OrderBody::Sockets(first) => Some(Answer::Sockets(self.policy.sockets.list(first))),
            OrderBody::Revoke(path) => Some(self.revoke(&path)),
            OrderBody::Handed(handed) => Some(self.note(&handed)),
            OrderBody::Grant(offer) => self.take_offer(id, offer, Kind::Grant, link?),
            OrderBody::Commit(offer) => self.take_offer(id, offer, Kind::Commit, link?),
        }
    }

    fn note(&mut self, handed: &Handed) -> Answer {
        let Handed { interface, id, queues, vhost } = handed;
        let vhost = if *vhost { ", vhost-net" } else { "" };
        self.audit.ordered(&format!(
            "tap {interface}, {queues} queue(s){vhost}, offered to the emulator by broker ctl as {id}"
        ));
        Answer::Done
    }

    fn take_offer(&mut self, id: ConnectionId, offer: Offer, kind: Kind, link: OwnedFd) -> Option<Answer> {
        if kind == Kind::Commit && self.backing_file(offer.identity).is_none() {
            return Some(Answer::Failed(format!(
                "{} is no backing file of this guest; `broker ctl NAME status` lists them, and `grant PATH --write` grants \
                 any file",
                offer.name
            )));
        }
        if let Some(option) = self.granted_already(&offer).filter(|_| kind == Kind::Grant) {
            // A member of a chain that another image shares needs no second grant.
            let member = offer.granted_with != offer.name;
            let refusal = format!("{} is granted already, by `{option}`", offer.name);
            return Some(if member { Answer::Done } else { Answer::Failed(refusal) });
        }
        let link = match self.links.add(link) {
            Ok(link) => link,
            Err(error) => {
                return Some(Answer::Failed(format!(
                    "no more can be granted to this guest ({error}); revoke something first"
                )));
            }
        };
        let connections = self.control.as_mut().map(|control| &mut control.connections);
        let connection = connections.and_then(|connections| connections.get_mut(&id))?;
        // An offer that was not waited for is none any more.
        if let Some((earlier, ..)) = connection.offer.replace((link, offer, kind)) {
            self.links.remove(earlier);
        }
        None
    }

    /// What grants the offered file already, with no less access.
    fn granted_already(&mut self, offer: &Offer) -> Option<String> {
        match self.policy.table.look_up(offer.name.as_bytes()) {
            Some(Found::Slot(_, slot)) => {
                let same = matches!(&slot.file, File::Pinned(grant) if grant.pin.identity() == offer.identity);
                let enough = slot.access() == offer.access || slot.access() == Access::ReadWrite;
                (same && enough).then(|| slot.option().to_owned())
            }
            _ => None,
        }
    }

    fn accept_offer(&mut self, link: LinkId, offer: Offer, kind: Kind) -> Answer {
        let Offer { name, resolved, granted_with, identity, access, role, once } = offer;
        let written = format!("{name} {}{}", access, if once { ", once" } else { "" });
        let held = Held { link, name, granted_with, access, role, once: once.then_some(Once::Unused) };
        match kind {
            Kind::Grant => {
                use std::os::unix::ffi::OsStrExt;
                let resolved = std::path::Path::new(std::ffi::OsStr::from_bytes(resolved.as_bytes()));
                self.policy.table.hold(held, resolved);
            }
            Kind::Commit => match self.backing_file(identity) {
                Some(slot) => {
                    if let Some(before) = slot.commit.replace(held) {
                        self.links.remove(before.link);
                    }
                }
                None => return Answer::Failed("the backing file is not granted any more".into()),
            },
        }
        self.audit.ordered(&written);
        Answer::Done
    }

    fn backing_file(&mut self, identity: (u64, u64)) -> Option<&mut Slot> {
        let wanted = |slot: &Slot| {
            slot.role() == Role::Backing
                && matches!(&slot.file, File::Pinned(grant) if grant.pin.identity() == identity)
        };
        self.policy.table.iter_mut().map(|(_, slot)| slot).find(|slot| wanted(slot))
    }

    fn revoke(&mut self, path: &Name) -> Answer {
        let by_path = |held: &Held| held.name == *path || held.granted_with == *path;
        let mut links = Vec::new();
        let mut slots: Vec<SlotId> = Vec::new();
        for (id, slot) in self.policy.table.iter_mut() {
            links.extend(slot.commit.take_if(|held| by_path(held)).map(|held| held.link));
            if let File::Held(held) = &slot.file
                && by_path(held)
            {
                links.push(held.link);
                slots.push(id);
            }
        }
        if links.is_empty() {
            return self.cannot_revoke(path);
        }
        for id in slots {
            self.policy.table.remove(id);
        }
        for link in links {
            self.links.remove(link);
        }
        self.audit.ordered(&format!("{path} revoked"));
        Answer::Done
    }

    fn cannot_revoke(&mut self, path: &Name) -> Answer {
        Answer::Failed(match self.policy.table.look_up(path.as_bytes()) {
            Some(Found::Slot(_, slot)) => {
                format!("{path} was granted at the start by `{}`, for as long as the guest runs", slot.option())
            }
            _ => format!("{path} is not granted; `broker ctl NAME status` lists what is"),
        })
    }

    fn list(&self, first: u64) -> Page {
        let mut room = PAGE;
        let mut page = Page { grants: Vec::new(), next: None };
        for (number, slot) in self.policy.table.from(first) {
            let listed = listed(slot, self.policy.table.absolute(slot.name()));
            let size = LISTED + listed.path.len() + listed.option.len();
            if size > room && !page.grants.is_empty() {
                page.next = Some(number);
                break;
            }
            room = room.saturating_sub(size);
            page.grants.push(listed);
        }
        page
    }
}

fn listed(slot: &Slot, path: Vec<u8>) -> ListedGrant {
    let usage = |held: &Held| match held.once.map(Once::now) {
        None => Use::Always,
        Some(Once::Spent) => Use::Spent,
        Some(Once::Unused | Once::Writing | Once::Ending(_)) => Use::Once,
    };
    let later = match &slot.file {
        File::Pinned(_) => None,
        File::Held(held) => Some(usage(held)),
    };
    ListedGrant {
        path,
        option: slot.option().chars().take(OPTION_SHOWN / 4).collect(),
        access: slot.access(),
        role: slot.role(),
        later,
        commit: slot.commit.as_ref().map(usage),
    }
}
