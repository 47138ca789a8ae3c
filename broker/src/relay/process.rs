//! The life of the relay: let go of everything, make the pairs, settle, carry datagrams, remove the names.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use caps::Capability;
use landlock::ABI;
use nix::sched::CloneFlags;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use sandbox_profiles::Profile;

use super::link::{self, Link};
use super::{LONGEST_REASON, kind};
use crate::confine::capabilities::{self, Keep};
use crate::confine::landlock::{NetworkRights, enforce_grants};
use crate::confine::{namespaces, seccomp, settle};
use crate::host::Host;
use crate::open::net::datagrams::Socket;
use crate::packets;

/// What the relay is forked with.
#[derive(Debug)]
pub(super) struct Work<'w> {
    /// The sockets of the host.
    pub(super) sockets: &'w [Socket],
    /// Hangs up when the emulator has ended.
    pub(super) end: &'w OwnedFd,
    /// To the process that becomes the emulator.
    pub(super) link: &'w OwnedFd,
    /// Landlock ABI of the kernel.
    pub(super) abi: ABI,
    /// Whether it stays in the folder of the start.
    pub(super) stays: bool,
}

/// Lives to the emulator's end. Nothing is dropped behind the filter, which knows no `close`.
pub(super) fn live(work: &Work<'_>) -> i32 {
    let pairs = match set_up(work) {
        Ok(pairs) => pairs,
        Err(reason) => {
            say_failed(work.link, &reason);
            return 1;
        }
    };
    let mut links: Vec<Link<'_>> =
        pairs.iter().zip(work.sockets).map(|(guest, host)| Link::new(guest.as_fd(), host)).collect();
    let mut waits = link::Waits::for_links(links.len());
    if let Err(reason) = confine(work) {
        say_failed(work.link, &reason);
        return 1;
    }
    if rustix::net::send(work.link, &[kind::READY], SendFlags::NOSIGNAL).is_ok() {
        link::carry_until(work.end.as_fd(), &mut links, &mut waits);
    }
    work.sockets.iter().filter_map(|socket| socket.file.as_ref()).for_each(|file| file.remove());
    std::mem::forget((links, waits));
    std::mem::forget(pairs);
    0
}

/// Lets go of what is the caller's, and makes the pairs, in an empty network namespace: an end of a pair can send to the
/// abstract UNIX sockets of the namespace that it was made in. What is returned are the relay's ends.
fn set_up(work: &Work<'_>) -> Result<Vec<OwnedFd>, String> {
    let folder = work.stays.then(|| rustix::fs::open(".", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()));
    let mut kept: Vec<RawFd> = work.sockets.iter().map(|socket| socket.socket.as_raw_fd()).collect();
    kept.extend(work.sockets.iter().flat_map(Socket::folders).map(|folder| folder.as_raw_fd()));
    kept.extend([work.end.as_raw_fd(), work.link.as_raw_fd()]);
    let folder = folder.transpose().map_err(|error| error.to_string())?;
    kept.extend(folder.as_ref().map(AsRawFd::as_raw_fd));
    settle::leave_the_caller(kept, c"broker-relay").map_err(|error| error.to_string())?;
    if let Some(folder) = folder {
        rustix::process::fchdir(&folder).map_err(|error| error.to_string())?;
    }
    enter_empty_network()?;
    let (own, emulators) = make_pairs(work.sockets.len()).map_err(|error| error.to_string())?;
    let emulators_borrowed: Vec<_> = emulators.iter().map(AsFd::as_fd).collect();
    packets::send(work.link.as_fd(), kind::ENDS, &emulators_borrowed).map_err(|error| error.to_string())?;
    Ok(own)
}

/// Root needs no user namespace for it, in which its right to other users' files would count for nothing.
fn enter_empty_network() -> Result<(), String> {
    let entered = nix::sched::unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET));
    entered.map_err(|errno| format!("no network namespace: {errno}; to allow them: {}", namespaces::hint()))
}

fn make_pairs(count: usize) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>), rustix::io::Errno> {
    let pair = |_| rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    (0..count).map(pair).collect::<Result<Vec<_>, _>>().map(|pairs| pairs.into_iter().unzip())
}

/// As the broker does, with less.
fn confine(work: &Work<'_>) -> Result<(), String> {
    let files: Vec<_> = work.sockets.iter().filter_map(|socket| socket.file.as_ref()).collect();
    // Sending to a UNIX socket takes the right to write it, which the operator has by this one alone if it is root.
    let by_override = !files.is_empty() && capabilities::holds(Capability::CAP_DAC_OVERRIDE).unwrap_or(false);
    let keep = if by_override { Keep::opening_any_file() } else { Keep::Nothing };
    capabilities::drop_all(keep).map_err(|error| error.to_string())?;
    capabilities::forbid_new_privileges().map_err(|error| error.to_string())?;
    let rights: Vec<_> = files.iter().map(|file| (file.folder(), settle::removing_files())).collect();
    let network = NetworkRights { bind: Some(BTreeSet::new()), ..NetworkRights::default() };
    enforce_grants(work.abi, &rights, &network).map_err(|error| error.to_string())?;
    // Who waits for the end of the caller's standard error is not to wait for this process.
    rustix::stdio::dup2_stderr(rustix::stdio::stdout()).map_err(|error| error.to_string())?;
    seccomp::install_profile(Profile::Relay, &Host::own_variant(work.abi)).map_err(|error| error.to_string())
}

/// If nobody is left to be told, nobody waits for the relay.
fn say_failed(link: &OwnedFd, reason: &str) {
    let reason = reason.as_bytes().get(..LONGEST_REASON).unwrap_or(reason.as_bytes());
    let _ = rustix::net::send(link, &[kind::FAILED], SendFlags::NOSIGNAL)
        .and_then(|_| rustix::net::send(link, reason, SendFlags::NOSIGNAL));
}
