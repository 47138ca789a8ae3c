//! Bringing the loopback interface of an empty network namespace up; binding a socket to one peer.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets `IFF_UP` on `lo` in the network namespace that `socket` was made in.
///
/// # Errors
/// `EPERM`: no `CAP_NET_ADMIN` over the namespace. `ENODEV`: it has no loopback interface.
pub fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: libc::c_short::try_from(libc::IFF_UP).unwrap_or(1) },
    };
    for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: SIOCSIFFLAGS reads one `ifreq` (netdevice(7)); the structure lives across the call, its name is
    // NUL-terminated, and the flags member of the union is the one initialised above.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel drop, before `socket` sees it, every TCP segment that does not come from `port` of `ip`; nobody can take
/// that back (`SO_LOCK_FILTER`, Linux 3.9).
///
/// # Errors
/// `ENOMEM`: no room for a filter. `EPERM`: the socket has a locked one already.
pub fn only_segments_from(socket: BorrowedFd<'_>, ip: IpAddr, port: u16) -> io::Result<()> {
    let mut filter = peer_filter(ip, port);
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    set_option(socket, libc::SO_ATTACH_FILTER, &program)?;
    lock_filter(socket)
}

/// Locks the filter that a socket has, or that it has none, for good (`SO_LOCK_FILTER`, socket(7)).
///
/// # Errors
/// None for an open socket.
pub fn lock_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SO_LOCK_FILTER, &1_i32)
}

/// Whether a socket's filter is locked.
///
/// # Errors
/// `ENOTSOCK`.
pub fn is_filter_locked(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut locked: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&locked)).map_err(io::Error::other)?;
    // SAFETY: getsockopt(2) writes `length` bytes at most to an integer of that size, and the number that it wrote to
    // `length`; both live across the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LOCK_FILTER,
            (&raw mut locked).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(locked != 0) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option of the level `SOL_SOCKET` that has the form of `T`.
fn set_option<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: setsockopt(2) reads `length` bytes at `value`, a borrowed `T` of that size. SO_ATTACH_FILTER also reads the
    // instructions that its `sock_fprog` points to: the only caller with one holds them in a vector of `len` elements
    // across the call. The kernel keeps copies.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A classic BPF program for a TCP socket, which sees a segment from its TCP header on, and the IP header by offsets from
/// `SKF_NET_OFF` (`Documentation/networking/filter.rst`). The protocol version is that of the address: a segment of the
/// other one is dropped.
fn peer_filter(ip: IpAddr, port: u16) -> Vec<libc::sock_filter> {
    /// From the start of the network header (`linux/filter.h`).
    const NETWORK: u32 = (-0x10_0000_i32).cast_unsigned();
    /// Offsets of the source address (RFC 791, RFC 8200).
    const SOURCE: [u32; 2] = [12, 8];
    let (version, source, words): (u32, u32, Vec<u32>) = match ip {
        IpAddr::V4(ip) => (4, SOURCE[0], vec![u32::from(ip)]),
        IpAddr::V6(ip) => {
            let pairs: [u16; 8] = ip.segments();
            let word = |pair: &[u16]| pair.iter().fold(0, |word, half| word << 16 | u32::from(*half));
            (6, SOURCE[1], pairs.chunks(2).map(word).collect())
        }
    };
    // What is compared: how it is loaded, from where, and with what.
    let mut tests = vec![(libc::BPF_H, 0, u32::from(port))];
    tests.extend((source..).step_by(4).zip(words).map(|(at, word)| (libc::BPF_W, NETWORK + at, word)));
    let mut filter = vec![
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, NETWORK),
        statement(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 4),
    ];
    let (mut left, equal) = (tests.len(), libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    // Two instructions a test are left, and the one that accepts, before the one that drops.
    let drop_after = |left: usize| u8::try_from(2 * left + 1).unwrap_or(u8::MAX);
    filter.push(libc::sock_filter { jf: drop_after(left), ..statement(equal, version) });
    for (width, at, value) in tests {
        left -= 1;
        filter.push(statement(libc::BPF_LD | width | libc::BPF_ABS, at));
        filter.push(libc::sock_filter { jf: drop_after(left), ..statement(equal, value) });
    }
    let give = libc::BPF_RET | libc::BPF_K;
    filter.extend([statement(give, u32::MAX), statement(give, 0)]);
    filter
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    use super::*;

    /// A listener that hears one peer's port only, its address, and how it is asked.
    fn listener(ip: IpAddr) -> io::Result<(TcpListener, std::net::SocketAddr)> {
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    /// A socket bound to a port of `ip`.
    fn bound(ip: IpAddr) -> io::Result<(OwnedFd, u16)> {
        let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &std::net::SocketAddr::new(ip, 0))?;
        let copy = std::net::TcpStream::from(socket.try_clone()?);
        Ok((socket, copy.local_addr()?.port()))
    }

    /// Newer kernels let nobody else attach a filter to a TCP socket.
    fn may_attach() -> bool {
        let may = rustix::process::geteuid().is_root();
        if !may {
            println!("SKIPPED: need root");
        }
        may
    }

    #[test]
    fn nobody_but_the_peer_is_heard() {
        if !may_attach() {
            return;
        }
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let (listener, address) = listener(ip).unwrap();
            let ((peer, port), (stranger, _)) = (bound(ip).unwrap(), bound(ip).unwrap());
            only_segments_from(listener.as_fd(), ip, port).unwrap();
            for socket in [&stranger, &peer] {
                let begun = rustix::net::connect(socket, &address);
                assert!(matches!(begun, Ok(()) | Err(rustix::io::Errno::INPROGRESS)), "{begun:?}");
            }
            let (mut heard, from) = listener.accept().unwrap();
            assert_eq!(from.port(), port);
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "the stranger was heard");
            // The connection inherits the filter, and hears its peer on.
            rustix::io::write(&peer, b"x").unwrap();
            heard.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn a_locked_filter_stays() {
        if !may_attach() {
            return;
        }
        let (listener, _) = listener(Ipv4Addr::LOCALHOST.into()).unwrap();
        only_segments_from(listener.as_fd(), Ipv4Addr::LOCALHOST.into(), 1).unwrap();
        let again = only_segments_from(listener.as_fd(), Ipv4Addr::LOCALHOST.into(), 2);
        assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::EPERM));
        let detached = set_option(listener.as_fd(), libc::SO_DETACH_FILTER, &0_i32);
        assert_eq!(detached.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
