//! What a notification asks for.

use nix::libc;

use super::address::Purpose;
use crate::sys::seccomp::Notification;

/// A system call of the emulator that came to the agent. Addresses are in the emulator's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Open the file that the name at `path` leads to.
    Open {
        /// Address of the name.
        path: u64,
        /// `O_*`.
        flags: i32,
        /// Permission bits of a file that is created.
        mode: u32,
    },
    /// Remove the name at `path`.
    Unlink {
        /// Address of the name.
        path: u64,
    },
    /// Read the symbolic link at `path`.
    ReadLink {
        /// Address of the name.
        path: u64,
    },
    /// Bind a socket, or connect it.
    Socket(SocketCall),
    /// Make a socket on which the kernel tells of devices that come and go.
    Uevents {
        /// `SOCK_CLOEXEC`
        close_on_exec: bool,
    },
    /// Put a packet filter on a socket.
    PacketFilter {
        /// The number of the emulator's descriptor.
        socket: u32,
    },
    /// Have a socket listen.
    Listen {
        /// The number of the emulator's descriptor.
        socket: u32,
        /// How many connections may wait.
        backlog: i32,
    },
    /// Change the permission bits of a file.
    ChangeMode {
        /// Of which.
        target: ModeTarget,
        /// The new ones.
        mode: u32,
    },
    /// Make a ring of io_uring.
    Ring {
        /// How many entries it has.
        entries: u32,
        /// Address of its parameters, which are read and filled in.
        parameters: u64,
    },
    /// Execute a program.
    Execute,
    /// Send a signal to the process `process`.
    Signal {
        /// A process id, as the emulator gave it.
        process: i32,
    },
    /// A call that the profile does not list.
    Unlisted,
}

/// A call to bind a socket, or to connect it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketCall {
    /// Which of the two.
    pub purpose: Purpose,
    /// The number of the emulator's descriptor.
    pub socket: u32,
    /// Address of the socket address.
    pub address: u64,
    /// Its length in bytes.
    pub length: u32,
}

/// How a call says which file it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeTarget {
    /// By the number of the emulator's descriptor.
    Descriptor(u32),
    /// By the name at this address.
    Name(u64),
}

impl Call {
    /// Reads a notification. The descriptor argument of the `*at` calls is `AT_FDCWD`, for the filter asks about no other; or,
    /// of `fchmodat`, one that the only names that are served have no use for.
    #[must_use]
    pub fn of(notification: &Notification) -> Self {
        let [first, second, third, fourth, ..] = notification.data.args;
        match libc::c_long::from(notification.data.nr) {
            libc::SYS_openat => Self::Open { path: second, flags: int(third), mode: unsigned(fourth) },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => Self::Open { path: first, flags: int(second), mode: unsigned(third) },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_creat => Self::Open {
                path: first,
                flags: libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
                mode: unsigned(second),
            },
            // With AT_REMOVEDIR it is an rmdir, which nothing here serves.
            libc::SYS_unlinkat if third == 0 => Self::Unlink { path: second },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => Self::Unlink { path: first },
            libc::SYS_readlinkat => Self::ReadLink { path: second },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_readlink => Self::ReadLink { path: first },
            libc::SYS_bind => Self::socket(Purpose::Bind, notification),
            libc::SYS_connect => Self::socket(Purpose::Connect, notification),
            libc::SYS_socket if int(first) == libc::AF_NETLINK => {
                Self::Uevents { close_on_exec: int(second) & libc::SOCK_CLOEXEC != 0 }
            }
            libc::SYS_setsockopt if [int(second), int(third)] == [libc::SOL_SOCKET, libc::SO_ATTACH_FILTER] => {
                Self::PacketFilter { socket: unsigned(first) }
            }
            libc::SYS_listen => Self::Listen { socket: unsigned(first), backlog: int(second) },
            libc::SYS_fchmod => {
                Self::ChangeMode { target: ModeTarget::Descriptor(unsigned(first)), mode: unsigned(second) }
            }
            libc::SYS_fchmodat => Self::ChangeMode { target: ModeTarget::Name(second), mode: unsigned(third) },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chmod => Self::ChangeMode { target: ModeTarget::Name(first), mode: unsigned(second) },
            libc::SYS_io_uring_setup => Self::Ring { entries: unsigned(first), parameters: second },
            libc::SYS_execve | libc::SYS_execveat => Self::Execute,
            libc::SYS_kill | libc::SYS_tgkill => Self::Signal { process: int(first) },
            _ => Self::Unlisted,
        }
    }

    fn socket(purpose: Purpose, notification: &Notification) -> Self {
        let [socket, address, length, ..] = notification.data.args;
        Self::Socket(SocketCall { purpose, socket: unsigned(socket), address, length: unsigned(length) })
    }
}

/// The kernel takes the low 32 bits of an `int` argument, whatever the register holds above them.
fn int(register: u64) -> i32 {
    i32::from_ne_bytes(unsigned(register).to_ne_bytes())
}

fn unsigned(register: u64) -> u32 {
    u32::try_from(register & u64::from(u32::MAX)).unwrap_or_default()
}
