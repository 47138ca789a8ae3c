//! What follows from a call of the emulator: it runs, it is refused, the agent does what it asks for, or the broker is asked.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;
use protocol::{FileMode, Name, OpenFlags, RefusedCall, RequestBody};

use super::call::{Call, SocketCall};
use super::meaning::Meaning;
use super::mode::Change;
use super::names::Place;
use super::socket::Step;
use super::{Agent, Turn, Waiting, address, memory, ring, socket, uevents};
use crate::sys::seccomp::{self, Notification};

/// How a call is answered at once.
pub(super) enum Verdict {
    /// The kernel goes on with the call.
    LetRun,
    /// The call fails.
    Refuse(Errno),
    /// The call returns 0: what it asks for is done.
    Done,
    /// The call returns the number of this descriptor, close-on-exec or not.
    Give(OwnedFd, bool),
    /// The broker is asked.
    Ask(RequestBody, Waiting),
}

impl Agent<'_> {
    /// What follows from a call.
    pub(super) fn judge(&mut self, slot: usize, notification: &Notification, turn: Turn) -> Verdict {
        let waiting = Waiting { slot, id: notification.id, close_on_exec: false, meaning: Meaning::Answer };
        match Call::of(notification) {
            Call::Open { path, flags, mode } => match self.read_foreign_name(notification, path) {
                Err(verdict) => verdict,
                Ok((name, place)) => match opening(name, flags, mode) {
                    None => Verdict::Refuse(Errno::EINVAL),
                    Some(body) => {
                        let close_on_exec = flags & libc::O_CLOEXEC != 0;
                        ask_at(place, body, Waiting { close_on_exec, ..waiting })
                    }
                },
            },
            Call::Unlink { path } => match self.read_foreign_name(notification, path) {
                Err(verdict) => verdict,
                Ok((name, place)) => ask_at(place, RequestBody::Unlink { name }, waiting),
            },
            Call::ReadLink { path } => match self.read_foreign_name(notification, path) {
                Err(verdict) => verdict,
                // What the broker opens by this name is seen nowhere in the sandbox, and is no link there.
                Ok((name, _)) => {
                    Verdict::Ask(RequestBody::Resolve { name }, Waiting { meaning: Meaning::NoLink, ..waiting })
                }
            },
            Call::Socket(call) => match self.look_at_socket(notification, &call, turn) {
                Ok(Step::Ask(body)) => {
                    Verdict::Ask(body, Waiting { meaning: Meaning::Replace(call.socket), ..waiting })
                }
                Ok(Step::Done) => Verdict::Done,
                // What the kernel would not say: the operator is to know.
                Err(Errno::EPERM) => report(notification, waiting),
                Ok(Step::Refuse(errno)) | Err(errno) => Verdict::Refuse(errno),
            },
            Call::Uevents { close_on_exec } => uevents::give(close_on_exec),
            Call::PacketFilter { socket } => self.attach_filter(notification, socket, waiting),
            Call::Listen { socket, backlog } => match self.listen(notification, socket, backlog) {
                Ok(()) => Verdict::Done,
                Err(Errno::EPERM) => report(notification, waiting),
                Err(errno) => Verdict::Refuse(errno),
            },
            Call::ChangeMode { target, mode } => match self.change_mode(notification, target, mode) {
                Change::Made => Verdict::Done,
                Change::Failed(errno) => Verdict::Refuse(errno),
                Change::Strange => report(notification, waiting),
            },
            Call::Ring { entries, parameters } => match ring::make(self.listener, notification, entries, parameters) {
                Ok(ring) => Verdict::Give(ring, true),
                Err(errno) => Verdict::Refuse(errno),
            },
            // One execve makes this process the emulator; there is no second.
            Call::Execute if self.in_flight.take_execution() => {
                // It has one thread yet.
                if let Ok(process) = thread_of(notification) {
                    self.leaders.remember(process);
                }
                Verdict::LetRun
            }
            Call::Signal { process } if is_own_process(process, notification.pid) => Verdict::LetRun,
            Call::Execute | Call::Signal { .. } | Call::Unlisted => report(notification, waiting),
        }
    }

    /// The name at `address`, unless the sandbox's own tree answers it or it cannot be read.
    fn read_foreign_name(&self, notification: &Notification, address: u64) -> Result<(Name, Place), Verdict> {
        let thread = thread_of(notification).map_err(Verdict::Refuse)?;
        let name = memory::read_name(thread, address).map_err(Verdict::Refuse)?;
        let place = self.names.place_of(&name);
        if place == Place::Native {
            return Err(Verdict::LetRun);
        }
        // Only now it is certain that the memory belonged to the thread that asked, and not to a successor of its id.
        if !seccomp::is_waiting(self.listener, notification.id) {
            return Err(Verdict::Refuse(Errno::ESRCH));
        }
        Name::new(name).map(|name| (name, place)).map_err(|_| Verdict::Refuse(Errno::ENOENT))
    }

    /// What follows from the socket of a call and from the address, both of which are looked at once.
    fn look_at_socket(&mut self, notification: &Notification, call: &SocketCall, turn: Turn) -> Result<Step, Errno> {
        let thread = thread_of(notification)?;
        let bytes = address::read(thread, call)?;
        if address::is_netlink(&bytes) {
            return self.name_on_netlink(notification, call);
        }
        let Some(address) = address::parse(&bytes, call.purpose)? else { return Ok(Step::Refuse(Errno::EPERM)) };
        if self.names.is_unreached(&address) {
            return Ok(Step::Refuse(Errno::ENOENT));
        }
        let process = self.leaders.process_of(thread)?;
        let number = i32::try_from(call.socket).map_err(|_| Errno::EBADF)?;
        let found = socket::look_at(process.as_fd(), number, &address);
        // Only now it is certain that memory and socket belonged to the thread that asked.
        if !seccomp::is_waiting(self.listener, notification.id) {
            return Err(Errno::ESRCH);
        }
        Ok(socket::step(call.purpose, turn, address, found?))
    }

    /// Has a socket of the emulator listen, which an agent that took over may do again.
    fn listen(&mut self, notification: &Notification, socket: u32, backlog: i32) -> Result<(), Errno> {
        let process = self.leaders.process_of(thread_of(notification)?)?;
        if !seccomp::is_waiting(self.listener, notification.id) {
            return Err(Errno::ESRCH);
        }
        socket::listen(process.as_fd(), i32::try_from(socket).map_err(|_| Errno::EBADF)?, backlog)
    }
}

/// The request that an open makes; none for flags that no request can carry.
fn opening(name: Name, flags: i32, mode: u32) -> Option<RequestBody> {
    let open_flags = OpenFlags::from_linux(flags & !libc::O_CREAT).ok()?;
    Some(if flags & libc::O_CREAT == 0 {
        RequestBody::Open { name, flags: open_flags }
    } else {
        RequestBody::Create { name, flags: open_flags, mode: FileMode::from_raw(mode) }
    })
}

/// Asks the broker, at once or only if it knows the name.
fn ask_at(place: Place, body: RequestBody, waiting: Waiting) -> Verdict {
    let name = match &body {
        RequestBody::Open { name, .. } | RequestBody::Create { name, .. } | RequestBody::Unlink { name } => name,
        _ => return Verdict::Ask(body, waiting),
    };
    if place == Place::Private {
        let known = RequestBody::Resolve { name: name.clone() };
        return Verdict::Ask(known, Waiting { meaning: Meaning::AskIfKnown(Box::new(body)), ..waiting });
    }
    Verdict::Ask(body, waiting)
}

/// Refuses a call, and tells the operator.
pub(super) fn report(notification: &Notification, waiting: Waiting) -> Verdict {
    let nr = notification.data.nr.unsigned_abs();
    // A number without a name is newer than this program: the caller must take it for missing.
    let known = sandbox_profiles::syscall_name(nr).is_some();
    let errno = if known { Errno::EPERM } else { Errno::ENOSYS };
    let call = RefusedCall { nr, arch: notification.data.arch };
    Verdict::Ask(RequestBody::Refused(call), Waiting { meaning: Meaning::Refused(errno), ..waiting })
}

/// The thread that made a call.
///
/// # Errors
/// `ESRCH`: no number of a thread.
pub(super) fn thread_of(notification: &Notification) -> Result<Pid, Errno> {
    i32::try_from(notification.pid).map(Pid::from_raw).map_err(|_| Errno::ESRCH)
}

/// Whether `thread` is a thread of `process`: the null signal to a thread of another process is ESRCH. A signal's
/// target is in a register, which cannot be changed while the call waits.
fn is_own_process(process: i32, thread: u32) -> bool {
    let Ok(thread) = i32::try_from(thread) else { return false };
    crate::sys::process::is_thread_of(thread, process)
}
