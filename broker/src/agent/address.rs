//! The socket address that the emulator binds or connects to, as it stands in its memory.

use nix::errno::Errno;
use nix::unistd::Pid;
use protocol::{SocketAddress, UnixName};

use super::call::SocketCall;
use super::memory;

/// Bytes of an address at most: `sizeof(struct sockaddr_storage)`, which is also the kernel's limit (`move_addr_to_kernel`).
const ADDRESS_MAX: usize = 128;
/// `offsetof(struct sockaddr_un, sun_path)`, unix(7).
const UNIX_PATH: usize = 2;
/// `sizeof(struct sockaddr_un)`, unix(7).
const UNIX_MAX: usize = 110;

/// What is to be done with a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `bind(2)`
    Bind,
    /// `connect(2)`
    Connect,
}

/// The bytes of the address that `call` of `thread` gives, 128 at most.
///
/// # Errors
/// What the kernel would say: `EFAULT`, `EINVAL` for a length that does not fit. And `EPERM` for memory that must not be read.
pub fn read(thread: Pid, call: &SocketCall) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(call.length).ok().filter(|length| *length <= ADDRESS_MAX).ok_or(Errno::EINVAL)?;
    memory::read_bytes(thread, call.address, length)
}

/// Whether this is an address of the kernel's own messages (netlink(7)).
#[must_use]
pub fn is_netlink(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|family| i32::from(u16::from_ne_bytes(*family)) == libc::AF_NETLINK)
}

/// The address that these bytes are; `None` for one to connect to that has no family, with which a connected socket
/// would be freed for other uses (connect(2)).
///
/// # Errors
/// What the kernel would say: `EINVAL` for a length that does not fit, `EAFNOSUPPORT`. And `EPERM` for a UNIX name that the
/// kernel would choose.
pub fn parse(bytes: &[u8], purpose: Purpose) -> Result<Option<SocketAddress>, Errno> {
    let (family, rest) = bytes.split_first_chunk::<UNIX_PATH>().ok_or(Errno::EINVAL)?;
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_UNIX => unix(rest),
        libc::AF_INET => internet(rest, bytes.len()),
        libc::AF_INET6 => internet6(rest),
        libc::AF_UNSPEC if purpose == Purpose::Connect => return Ok(None),
        _ => Err(Errno::EAFNOSUPPORT),
    }
    .map(Some)
}

/// A path ends at its first NUL, if there is one; an abstract name has the address's length (unix(7)).
fn unix(path: &[u8]) -> Result<SocketAddress, Errno> {
    if path.len() > UNIX_MAX - UNIX_PATH {
        return Err(Errno::EINVAL);
    }
    let name = match path.first() {
        None => return Err(Errno::EPERM),
        Some(0) => path,
        Some(_) => path.split(|byte| *byte == 0).next().unwrap_or(path),
    };
    UnixName::new(name).map(SocketAddress::Unix).map_err(|_| Errno::EINVAL)
}

/// `struct sockaddr_in` behind its family (ip(7)), of which the kernel ignores what follows.
fn internet(rest: &[u8], length: usize) -> Result<SocketAddress, Errno> {
    if length < size_of::<libc::sockaddr_in>() {
        return Err(Errno::EINVAL);
    }
    let (port, rest) = rest.split_first_chunk().ok_or(Errno::EINVAL)?;
    let ip = rest.first_chunk().ok_or(Errno::EINVAL)?;
    Ok(SocketAddress::V4 { ip: *ip, port: u16::from_be_bytes(*port) })
}

/// `struct sockaddr_in6` behind its family (ipv6(7)). The kernel takes one without the scope, which is older than Linux 2.4;
/// no program here makes it.
fn internet6(rest: &[u8]) -> Result<SocketAddress, Errno> {
    let (port, rest) = rest.split_first_chunk().ok_or(Errno::EINVAL)?;
    let (_flow, rest) = rest.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
    let (ip, rest) = rest.split_first_chunk().ok_or(Errno::EINVAL)?;
    let scope = rest.first_chunk().ok_or(Errno::EINVAL)?;
    Ok(SocketAddress::V6 { ip: *ip, port: u16::from_be_bytes(*port), scope: u32::from_ne_bytes(*scope) })
}

#[cfg(test)]
mod tests;
