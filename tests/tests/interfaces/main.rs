//! Interfaces that the broker opens, in network namespaces of the tests' own, as the kernel then describes them.

mod bridges;
mod macvtaps;
mod strangers;
mod taps;
mod vhost;

use std::os::fd::{AsFd, OwnedFd};

use broker::open::net::name::InterfaceName;
use broker::open::net::{self, Wanted};
use broker::sys::tun;
use rustix::fs::OFlags;
use rustix::io::FdFlags;
use serde_json::Value;
use tests::{During, Error, Network, PATIENCE, Result, until};

/// One queue.
const ONE: Wanted = Wanted { queues: 1, vnet_hdr: None };
/// Two queues.
const TWO: Wanted = Wanted { queues: 2, vnet_hdr: None };

/// `IFF_TAP`, `IFF_NO_PI`, `IFF_VNET_HDR`, `IFF_MULTI_QUEUE` and `IFF_PERSIST` of linux/if_tun.h.
const TAP: u16 = 0x0002;
const NO_PI: u16 = 0x1000;
const VNET_HDR: u16 = 0x4000;
const MULTI_QUEUE: u16 = 0x0100;
const PERSIST: u16 = 0x0800;

fn name(text: &str) -> Result<InterfaceName> {
    InterfaceName::new(text).map_err(|error| Error::Unexpected(error.to_string()))
}

/// What was opened, or the error as one of the harness.
fn opened<T>(result: std::result::Result<T, net::Error>) -> Result<T> {
    result.map_err(|error| Error::Unexpected(error.to_string()))
}

/// The message of what had to fail.
fn refused<T: std::fmt::Debug>(result: std::result::Result<T, net::Error>) -> Result<String> {
    match result {
        Ok(opened) => Err(Error::Unexpected(format!("it was not refused: {opened:?}"))),
        Err(error) => Ok(error.to_string()),
    }
}

/// The interface that each descriptor is a queue of, with its flags.
fn queues(queues: &[OwnedFd]) -> Result<Vec<(String, u16)>> {
    queues.iter().map(|queue| tun::interface(queue.as_fd()).during("TUNGETIFF")).collect()
}

/// Whether every descriptor is as QEMU's own would be, and closed in programs that are executed.
fn are_open_as_qemu_opens(queues: &[OwnedFd]) -> Result<bool> {
    for queue in queues {
        let status = rustix::fs::fcntl_getfl(queue).during("F_GETFL")?;
        let flags = rustix::io::fcntl_getfd(queue).during("F_GETFD")?;
        if !status.contains(OFlags::RDWR | OFlags::NONBLOCK) || !flags.contains(FdFlags::CLOEXEC) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What `ip` says of an interface, which has to be there.
fn link(network: &Network, name: &str) -> Result<Value> {
    network.link(name)?.ok_or_else(|| Error::Unexpected(format!("{name} is gone")))
}

/// Whether an interface has this flag (`UP`; `LOWER_UP`: it has a carrier).
fn has_flag(link: &Value, flag: &str) -> bool {
    link.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.iter().any(|found| found == flag))
}

/// Waits until the interfaces are these, besides `lo`. A process that another test has just forked may hold what this one
/// has closed, until it executes its program.
fn only_left(network: &Network, expected: &[&str]) -> Result<()> {
    until(PATIENCE, &format!("the interfaces to be {expected:?}"), || {
        let found = network.interfaces()?;
        Ok(found.iter().filter(|name| *name != "lo").eq(expected.iter()).then_some(()))
    })
}
