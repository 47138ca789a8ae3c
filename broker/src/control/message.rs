//! What `broker ctl` and a running broker say to each other: one order, one answer, any number of times. Both are postcard
//! messages on a `SOCK_SEQPACKET` socket; both sides are the operator's.

use protocol::{Message, Name};
use serde::{Deserialize, Serialize};

use crate::serve::grants::{Access, Role};
use crate::serve::sockets::SocketRole;

/// Version of these messages; a broker that runs on after an upgrade answers its own version only.
pub const VERSION: u16 = 3;

/// Bytes of an option's text that a list shows.
pub const OPTION_SHOWN: usize = 512;

/// From `broker ctl`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// [`VERSION`]
    pub version: u16,
    /// What is to be done.
    pub body: OrderBody,
}

/// What can be ordered.
#[derive(Debug, Serialize, Deserialize)]
pub enum OrderBody {
    /// Tell how the guest does.
    Status,
    /// Tell what is granted, from this number on.
    List(u64),
    /// Grant a file. Carries a link to the process that holds it.
    Grant(Offer),
    /// Let a backing file be written. Carries a link to the process that holds it.
    Commit(Offer),
    /// Take back what was granted by this absolute path.
    Revoke(Name),
    /// Write down that a network interface was handed to the emulator.
    Handed(Handed),
    /// Tell which sockets are granted, from this number on.
    Sockets(u64),
}

/// A network interface that the emulator was given without the broker.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handed {
    /// Its name on the host.
    pub interface: Name,
    /// The network's name in QEMU.
    pub id: Name,
    /// Its queues.
    pub queues: u16,
    /// Whether vhost-net went with it.
    pub vhost: bool,
}

/// A file that another process holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offer {
    /// Its absolute path, as the emulator will name it.
    pub name: Name,
    /// The same with every link resolved.
    pub resolved: Name,
    /// The file that the operator named; another one where this is a member of its chain.
    pub granted_with: Name,
    /// Device and inode number.
    pub identity: (u64, u64),
    /// The greatest access.
    pub access: Access,
    /// What it is.
    pub role: Role,
    /// For one use only.
    pub once: bool,
}

impl Message for Order {
    fn carries_descriptor(&self) -> bool {
        matches!(self.body, OrderBody::Grant(_) | OrderBody::Commit(_))
    }
}

/// From the broker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is not, and why.
    Failed(String),
    /// How the guest does.
    Status(GuestStatus),
    /// What is granted.
    List(Page),
    /// Which sockets are.
    Sockets(SocketPage),
}

impl Message for Answer {}

/// How a guest does.
#[derive(Debug, Serialize, Deserialize)]
pub struct GuestStatus {
    /// Its name.
    pub guest: String,
    /// The process that was started.
    pub pid: u32,
    /// The user namespace of its processes, by device and inode number.
    pub namespace: Option<(u64, u64)>,
    /// What is granted, and how much of it is used.
    pub granted: protocol::Status,
    /// Requests that were granted, refused, and that failed.
    pub requests: [u64; 3],
}

/// Some of the grants.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// Grants, in the order in which they were made.
    pub grants: Vec<ListedGrant>,
    /// Where to go on; none: that was the last.
    pub next: Option<u64>,
}

/// Some of the sockets.
#[derive(Debug, Serialize, Deserialize)]
pub struct SocketPage {
    /// Sockets, in the order of the command line.
    pub sockets: Vec<ListedSocket>,
    /// Where to go on; none: that was the last.
    pub next: Option<u64>,
}

/// A socket that the emulator may have.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListedSocket {
    /// What it is for.
    pub role: SocketRole,
    /// Its address.
    pub address: String,
    /// What granted it.
    pub option: String,
}

/// One grant.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListedGrant {
    /// The file's absolute path.
    pub path: Vec<u8>,
    /// What granted it.
    pub option: String,
    /// The greatest access.
    pub access: Access,
    /// What it is.
    pub role: Role,
    /// Whether it was granted while the guest ran, and how far that is used up.
    pub later: Option<Use>,
    /// The same of the permission to write it although it is a backing file.
    pub commit: Option<Use>,
}

/// How often something may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Always.
    Always,
    /// Once, which is still to come or goes on.
    Once,
    /// Once, which is over.
    Spent,
}
