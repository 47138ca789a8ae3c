//! Installing a filter, and the four ioctls of its notification listener (seccomp_unotify(2)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::sock_filter as Instruction;

/// One notification, as the kernel writes it.
pub type Notification = libc::seccomp_notif;

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`, Linux 5.5.
const FLAG_CONTINUE: u32 = 1;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6.
const SYNC_WAKE_UP: u64 = 1;

/// Installs `program` on this thread, for good.
///
/// # Errors
/// `EACCES`: no_new_privs is not set. `EINVAL`: not a valid program.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    install_with(program, 0).map(|_| ())
}

/// Installs `program` on this thread, for good, and returns the listener of its user notifications
/// (close-on-exec). A tracee that waits for an answer can then only be interrupted by a fatal signal.
///
/// # Errors
/// `EBUSY`: a filter of this thread has a listener already (an outer container's). `EINVAL`: not a valid
/// program, or Linux before 5.19.
pub fn install_with_listener(program: &[Instruction]) -> io::Result<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let listener = install_with(program, flags)?;
    let listener = i32::try_from(listener).map_err(io::Error::other)?;
    // SAFETY: with NEW_LISTENER a non-negative result is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn install_with(program: &[Instruction], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let program = libc::sock_fprog {
        len: libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` of them from memory that lives
    // across the call and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
}

/// Asks the kernel to wake whoever waits on the other side on the same processor (Linux 6.6).
///
/// # Errors
/// `EINVAL`: an older kernel; notifications work, only slower.
pub fn set_sync_wake_up(listener: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this ioctl takes its flags by value and no pointer.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) })
}

/// Receives the next notification into `slot`, which must be all zero.
///
/// # Errors
/// `ENOENT`: the caller died before its notification could be received. `EINVAL`: `slot` was not zero.
pub fn receive(listener: BorrowedFd<'_>, slot: &mut Notification) -> io::Result<()> {
    // SAFETY: the kernel writes one `seccomp_notif` into memory that is exclusively borrowed for the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, std::ptr::from_mut(slot)) })
}

/// Whether the thread behind notification `id` still waits for its answer.
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one `u64` that lives across the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Lets the kernel carry out the call of notification `id` as the caller made it. This grants nothing: what the
/// caller may do was decided by its mount namespace and its Landlock domain.
///
/// # Errors
/// `ENOENT`: the caller no longer waits.
pub fn let_run(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    send(listener, libc::seccomp_notif_resp { id, val: 0, error: 0, flags: FLAG_CONTINUE })
}

/// Lets the call of notification `id` return `value`.
///
/// # Errors
/// `ENOENT`: the caller no longer waits.
pub fn answer_value(listener: BorrowedFd<'_>, id: u64, value: i64) -> io::Result<()> {
    send(listener, libc::seccomp_notif_resp { id, val: value, error: 0, flags: 0 })
}

/// Lets the call of notification `id` fail with `errno`.
///
/// # Errors
/// `ENOENT`: the caller no longer waits.
pub fn answer_errno(listener: BorrowedFd<'_>, id: u64, errno: i32) -> io::Result<()> {
    send(listener, libc::seccomp_notif_resp { id, val: 0, error: -errno.abs(), flags: 0 })
}

fn send(listener: BorrowedFd<'_>, response: libc::seccomp_notif_resp) -> io::Result<()> {
    // SAFETY: the kernel reads one `seccomp_notif_resp` that lives across the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) })
}

/// Puts a duplicate of `descriptor` into the caller's table (Linux 5.9) and lets its call return that number.
/// `close_on_exec` is the only flag that the kernel lets us set.
///
/// Not in one step (`SECCOMP_ADDFD_FLAG_SEND`): where that is interrupted, the kernel takes the descriptor back but has
/// answered already, and the call returns 0, which is somebody else's descriptor (`seccomp_notify_addfd`, kernel/seccomp.c;
/// measured on 6.18). What interrupts without a signal is a freeze of the control group or of the host, SIGSTOP, and the end
/// of a ring of io_uring that this process has made.
///
/// # Errors
/// `ENOENT`: the caller no longer waits. `EMFILE`: its table is full; the call is still unanswered.
pub fn answer_descriptor(
    listener: BorrowedFd<'_>,
    id: u64,
    descriptor: BorrowedFd<'_>,
    close_on_exec: bool,
) -> io::Result<()> {
    let newfd_flags = if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 };
    let srcfd = descriptor.as_raw_fd().unsigned_abs();
    let number = add(listener, libc::seccomp_notif_addfd { id, flags: 0, srcfd, newfd: 0, newfd_flags })?;
    answer_value(listener, id, number.into())
}

/// Puts a duplicate of `descriptor` in the place of the caller's descriptor `number`, close-on-exec, and leaves its call
/// unanswered (Linux 5.9). With `SECCOMP_ADDFD_FLAG_SEND` the call would return the number.
///
/// # Errors
/// `ENOENT`: the caller no longer waits. `EBADF`: the number is beyond the caller's limit on descriptors.
pub fn replace_descriptor(
    listener: BorrowedFd<'_>,
    id: u64,
    number: u32,
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    let flags = u32::try_from(libc::SECCOMP_ADDFD_FLAG_SETFD).map_err(io::Error::other)?;
    let srcfd = descriptor.as_raw_fd().unsigned_abs();
    let newfd_flags = libc::O_CLOEXEC.unsigned_abs();
    add(listener, libc::seccomp_notif_addfd { id, flags, srcfd, newfd: number, newfd_flags }).map(drop)
}

/// The number that the duplicate has in the caller's table.
fn add(listener: BorrowedFd<'_>, add: libc::seccomp_notif_addfd) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads one `seccomp_notif_addfd` that lives across the call, and takes a reference of its own
    // on the file behind `srcfd`, which our callers borrow for the call.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const add) };
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
