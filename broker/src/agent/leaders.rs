//! From a thread, which is what a notification names, to a descriptor of its process.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::Pid;
use rustix::process::PidfdFlags;

use crate::sys::process::is_thread_of;

/// `PIDFD_THREAD` (include/uapi/linux/pidfd.h), Linux 6.9; the value is that of `O_EXCL`.
const PIDFD_THREAD: u32 = 0o200;

/// Thread ids below a thread's own among which its process is looked for, at most. The kernel counts ids upwards, and a
/// process is older than its threads; the search is for kernels before 6.9 and takes less than 50 ms at its longest.
const SEARCH: i32 = 65_536;

/// Processes that are remembered, at most; an emulator that forks has one at a time.
const REMEMBERED: usize = 8;

/// Processes of the emulator: its first one, and those whose threads have asked since.
#[derive(Debug, Default)]
pub struct Leaders {
    known: Vec<Pid>,
}

impl Leaders {
    /// Remembers a process by the id of its only thread.
    pub fn remember(&mut self, leader: Pid) {
        if self.known.len() == REMEMBERED {
            self.known.remove(0);
        }
        self.known.push(leader);
    }

    /// A descriptor of the process that `thread` belongs to. It may be that of a successor of the id: whether the
    /// notification still waits must be asked afterwards.
    ///
    /// # Errors
    /// `ESRCH`: the thread is gone, or its process was not found.
    pub fn process_of(&mut self, thread: Pid) -> Result<OwnedFd, Errno> {
        if let Ok(descriptor) = open(thread, PIDFD_THREAD) {
            return Ok(descriptor);
        }
        let leader = self.leader_of(thread).ok_or(Errno::ESRCH)?;
        open(leader, 0)
    }

    fn leader_of(&mut self, thread: Pid) -> Option<Pid> {
        let leads = |process: &Pid| is_thread_of(thread.as_raw(), process.as_raw());
        if let Some(known) = self.known.iter().copied().find(leads) {
            return Some(known);
        }
        let lowest = thread.as_raw().saturating_sub(SEARCH).max(1);
        let leader = (lowest..=thread.as_raw()).rev().map(Pid::from_raw).find(leads)?;
        self.remember(leader);
        Some(leader)
    }
}

fn open(thread: Pid, flags: u32) -> Result<OwnedFd, Errno> {
    let thread = rustix::process::Pid::from_raw(thread.as_raw()).ok_or(Errno::ESRCH)?;
    rustix::process::pidfd_open(thread, PidfdFlags::from_bits_retain(flags))
        .map_err(|error| Errno::from_raw(error.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_process_of_another_thread() {
        let me = Pid::this();
        let mut leaders = Leaders::default();
        let thread = std::thread::spawn(move || {
            let leader = leaders.leader_of(nix::unistd::gettid());
            (leader, leaders.known.clone(), leaders.process_of(nix::unistd::gettid()).is_ok())
        });
        assert_eq!(thread.join().unwrap(), (Some(me), vec![me], true));
    }

    #[test]
    fn a_thread_that_is_not_there_has_none() {
        // Above the greatest id that Linux gives (PID_MAX_LIMIT, 2^22).
        assert_eq!(Leaders::default().leader_of(Pid::from_raw(1 << 23)), None);
    }
}
