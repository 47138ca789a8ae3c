//! Network interfaces, opened for the emulator, which needs no right of its own to use them.
//!
//! What is there already is only ever opened: never deleted, brought up or down, or given another address. What is made
//! here is not persistent: the kernel removes it when the last of its descriptors is closed, however that comes about.

pub mod address;
pub mod bridge;
pub mod datagrams;
mod error;
pub mod helper;
pub mod host;
mod link;
mod macvtap;
pub mod name;
mod rtnl;
pub mod tap;
mod tun;
pub mod vhost;
pub mod way;

use std::os::fd::OwnedFd;

pub use error::Error;
use name::InterfaceName;

/// What is wanted of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Descriptors, each of which is a queue of its own: one or more.
    pub queues: u16,
    /// `IFF_VNET_HDR`: demanded, forbidden, or taken where the kernel has it.
    pub vnet_hdr: Option<bool>,
}

/// An interface whose queues are open.
#[derive(Debug)]
pub struct Interface {
    /// Its name.
    pub name: InterfaceName,
    /// One descriptor a queue.
    pub queues: Vec<OwnedFd>,
}
