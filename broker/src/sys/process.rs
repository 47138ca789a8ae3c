//! Forking, signals' dispositions and descriptor ranges.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigHandler, Signal};
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, Pid};
use rustix::fs::OFlags;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fork {
    /// The new process.
    Child,
    /// The process that forked, with its child's id.
    Parent(Pid),
}

/// Forks this process, which must have one thread.
///
/// # Errors
/// `EAGAIN`: a limit on processes. `EDEADLK`: this process has several threads, so a lock may be held for ever
/// in the child.
pub fn fork() -> io::Result<Fork> {
    // Tests run on a thread of their own, beside one that only waits for them.
    if !cfg!(test) && !is_single_threaded()? {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    // SAFETY: the process has one thread (checked above; in tests the others are idle or in code that a child of theirs
    // survives), so no lock of the allocator or of the standard library
    // can be held by a thread that the child lacks; the child may go on as an ordinary program.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(Fork::Child),
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
    }
}

/// Whether the kernel counts one thread: the link count of `/proc/self/task` is two more than the threads.
fn is_single_threaded() -> io::Result<bool> {
    match rustix::fs::stat("/proc/self/task") {
        Ok(status) => Ok(status.st_nlink == 3),
        // A process in the sandbox has no /proc; it was single-threaded when it entered and starts no thread.
        Err(rustix::io::Errno::NOENT) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Ends this process at once: no destructor, no exit handler, no flush of a parent's buffers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes no pointer and does not return.
    unsafe { libc::_exit(status) }
}

/// Lets the program that `command` starts inherit its 0, 1 and 2, the open descriptor `kept` and nothing else, and take
/// every signal that this process ignores with its default effect.
pub fn inherit_only(command: &mut Command, kept: Option<RawFd>) {
    let prepare = move || {
        let from = 3_u32;
        // SAFETY: no pointer is passed. The descriptors stay open until the execve, so nobody's owner is betrayed.
        let marked = unsafe { libc::syscall(libc::SYS_close_range, from, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        if marked != 0 {
            return Err(io::Error::last_os_error());
        }
        if let Some(kept) = kept {
            // SAFETY: F_SETFD takes a number and changes a flag of this process's own table.
            if unsafe { libc::fcntl(kept, libc::F_SETFD, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        GROUP_SIGNALS.into_iter().chain([Signal::SIGCHLD]).try_for_each(|signal| restore_default(signal).map(drop))
    };
    // SAFETY: between fork and execve `prepare` makes system calls that are async-signal-safe, allocates nothing and takes
    // no lock (an error of the system is a number).
    unsafe { command.pre_exec(prepare) };
}

/// Closes every descriptor from `first` to `last`, both included. Who calls owns none of them any more.
///
/// # Errors
/// `ENOSYS`: Linux before 5.9.
pub fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    let (first, last) = (first.unsigned_abs(), last.unsigned_abs());
    // SAFETY: no pointer is passed. The callers run this before they own a descriptor in the range, or in a
    // forked child that never drops the owners it inherited (it ends in `exit_now`).
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Signals that end a group of processes. They are none of the broker's business, nor the agents': these end when the
/// emulator has ended, which reopens its images while it shuts down.
const GROUP_SIGNALS: [Signal; 5] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGPIPE];

/// Makes this process deaf to what ends a group of processes.
///
/// # Errors
/// None: all of them can be ignored.
pub fn ignore_group_signals() -> io::Result<()> {
    GROUP_SIGNALS.into_iter().try_for_each(ignore)
}

/// Makes this process deaf to `signal`.
///
/// # Errors
/// `EINVAL`: a signal that cannot be ignored.
pub fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}

/// Gives `signal` its default effect back; whether it was ignored before.
///
/// # Errors
/// `EINVAL`: a signal whose effect cannot be changed.
pub fn restore_default(signal: Signal) -> io::Result<bool> {
    // SAFETY: SIG_DFL runs no code of ours.
    let before = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    Ok(matches!(before, SigHandler::SigIgn))
}

/// Whether `thread` is a thread of `process`, both as ids of this pid namespace.
#[must_use]
pub fn is_thread_of(thread: i32, process: i32) -> bool {
    // SAFETY: no pointer is passed, and signal 0 is never delivered (tgkill(2)).
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) == 0 }
}

/// Closes every descriptor but `kept`. What owns one of the others must never be dropped afterwards, so this is for a
/// forked child that ends in [`exit_now`].
///
/// # Errors
/// `ENOSYS`: Linux before 5.9.
pub fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    kept.dedup();
    let mut next = 0;
    for descriptor in kept {
        if descriptor > next {
            close_range(next, descriptor - 1)?;
        }
        next = descriptor + 1;
    }
    close_range(next, RawFd::MAX)
}

/// Lets `body` run in a new process that is nobody's child and in a session of its own, so that no signal of a terminal
/// reaches it and nobody has to reap it. The new process ends with the status that `body` returns.
///
/// # Errors
/// Those of [`fork`].
pub fn detach(body: impl FnOnce() -> i32) -> io::Result<Between> {
    match fork()? {
        Fork::Parent(child) => Ok(Between { child }),
        Fork::Child => exit_now(match detach_child() {
            Ok(Fork::Child) => body(),
            Ok(Fork::Parent(_)) => 0,
            Err(_) => 1,
        }),
    }
}

/// Lets `body` run in a child of this process, in its session, which ends with the status that `body` returns: what it
/// starts meanwhile is nobody's child afterwards.
///
/// # Errors
/// Those of [`fork`].
pub fn orphan(body: impl FnOnce() -> i32) -> io::Result<Between> {
    match fork()? {
        Fork::Parent(child) => Ok(Between { child }),
        Fork::Child => exit_now(body()),
    }
}

/// The process between this one and the one that was detached; it lives for the length of a fork.
#[derive(Debug)]
#[must_use]
pub struct Between {
    child: Pid,
}

impl Between {
    /// Waits for its end.
    ///
    /// # Errors
    /// `EAGAIN`: it could not fork in its turn.
    pub fn reap(self) -> io::Result<()> {
        match nix::sys::wait::waitpid(self.child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        }
    }
}

fn detach_child() -> io::Result<Fork> {
    nix::unistd::setsid()?;
    fork()
}

/// Whether `number` is an open descriptor of this process.
#[must_use]
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD takes no argument, changes nothing, and answers EBADF for a number that is not open.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Whether the descriptor `number` is open and passes to a program that is executed.
#[must_use]
pub fn is_handed_on(number: RawFd) -> bool {
    // SAFETY: as above.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// The status flags of an open descriptor: its access mode, `O_DIRECT`, `O_PATH` ... (`F_GETFL`, fcntl(2)).
///
/// # Errors
/// `EBADF`: the number is not open.
pub fn status_flags(number: RawFd) -> io::Result<OFlags> {
    // SAFETY: F_GETFL takes no argument, changes nothing, and answers EBADF for a number that is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFL) };
    if flags < 0 { Err(io::Error::last_os_error()) } else { Ok(OFlags::from_bits_retain(flags.unsigned_abs())) }
}

/// Whether `number` is an open descriptor of a terminal.
#[must_use]
pub fn is_terminal(number: RawFd) -> bool {
    // SAFETY: isatty only asks about a descriptor; any number is a valid argument.
    unsafe { libc::isatty(number) == 1 }
}

/// A duplicate, closed on exec, of a descriptor that this process inherited and that nothing in it owns.
///
/// # Errors
/// `EBADF`: the number is not open. `EMFILE`: the limit on descriptors.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer, the least number to give, and leaves the original as it is.
    let new = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Whether the kernel tells the loader to distrust the environment (`AT_SECURE`, getauxval(3)): this program's file gave
/// it rights that who started it lacks, or a security module wants it so.
#[must_use]
pub fn is_secure_start() -> bool {
    // SAFETY: getauxval takes no pointer, and answers 0 for what the kernel did not say.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
