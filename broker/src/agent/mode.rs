//! Changes of permission bits in shared folders. Natively they would reach whatever the emulator has a descriptor of, so
//! the agent makes them, by a copy of the descriptor, where that lies in a folder that is shared.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use rustix::fs::{Mode, OFlags};

use super::Agent;
use super::call::ModeTarget;
use super::{memory, thread_of};
use crate::confine::shared_mounts::SharedMounts;
use crate::sys::mode::change_mode;
use crate::sys::seccomp::{self, Notification};

/// The only names by which modes are changed: QEMU goes through them lest it follow a guest's link (`fchmodat_nofollow`
/// in its `hw/9pfs/9p-local.c`).
const OWN_DESCRIPTORS: &[u8] = b"/proc/self/fd/";

/// `S_ISUID` and `S_ISGID`, inode(7): no mode that has one is given.
const SET_ID: u32 = 0o6000;

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// It is made.
    Made,
    /// The kernel refuses it, in its own words.
    Failed(Errno),
    /// It is none of a shared folder's: the operator is to know.
    Strange,
}

impl From<Errno> for Change {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl Agent<'_> {
    /// Changes the mode of what the emulator means by `target`. An agent that took over may do it again.
    pub(super) fn change_mode(&mut self, notification: &Notification, target: ModeTarget, mode: u32) -> Change {
        match self.copy_of(notification, target) {
            Ok(Some((copy, number))) => {
                let by_name = matches!(target, ModeTarget::Name(_)).then_some(number);
                change(copy.as_fd(), by_name, mode, self.shared)
            }
            Ok(None) => Change::Strange,
            Err(errno) => Change::Failed(errno),
        }
    }

    /// A copy of the descriptor that is meant, and its number; none for any other name than that of a descriptor.
    fn copy_of(&mut self, notification: &Notification, target: ModeTarget) -> Result<Option<(OwnedFd, u32)>, Errno> {
        let thread = thread_of(notification)?;
        let number = match target {
            ModeTarget::Descriptor(number) => Some(number),
            ModeTarget::Name(address) => number_in(&memory::read_name(thread, address)?),
        };
        let Some(number) = number else { return Ok(None) };
        let process = self.leaders.process_of(thread)?;
        let copy = super::socket::copy(process.as_fd(), i32::try_from(number).map_err(|_| Errno::EBADF)?);
        // Only now it is certain that memory and descriptor belonged to the thread that asked.
        if !seccomp::is_waiting(self.listener, notification.id) {
            return Err(Errno::ESRCH);
        }
        Ok(Some((copy?, number)))
    }
}

/// The number of a descriptor by its name.
fn number_in(name: &[u8]) -> Option<u32> {
    let digits = name.strip_prefix(OWN_DESCRIPTORS)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Changes the mode of `copy`, whose number in the emulator stood in a name or was given by itself, if it lies in one of the
/// mounts.
fn change(copy: BorrowedFd<'_>, by_name: Option<u32>, mode: u32, shared: &SharedMounts) -> Change {
    let errno = |error: rustix::io::Errno| Change::Failed(Errno::from_raw(error.raw_os_error()));
    match shared.hold(copy) {
        Ok(true) if mode & SET_ID == 0 => {}
        Ok(_) => return Change::Strange,
        Err(error) => return errno(error),
    }
    match rustix::fs::fcntl_getfl(copy) {
        Ok(flags) if !flags.contains(OFlags::PATH) => {
            return rustix::fs::fchmod(copy, Mode::from_raw_mode(mode)).map_or_else(errno, |()| Change::Made);
        }
        Ok(_) => {}
        Err(error) => return errno(error),
    }
    // As fchmod(2) says of a descriptor that opens nothing.
    let Some(number) = by_name else { return Change::Failed(Errno::EBADF) };
    match change_mode(copy, mode).map_err(|error| error.raw_os_error()) {
        Ok(()) => Change::Made,
        // Linux before 6.6. The name is one of the emulator's own descriptors here too, and it can put another one behind
        // it in this moment: no kernel of that age has a way that cannot be led astray and needs no /proc of ours.
        Err(Some(libc::ENOSYS)) => {
            let name = [OWN_DESCRIPTORS, number.to_string().as_bytes()].concat();
            rustix::fs::chmod(name.as_slice(), Mode::from_raw_mode(mode)).map_or_else(errno, |()| Change::Made)
        }
        Err(number) => Change::Failed(number.map_or(Errno::EIO, Errno::from_raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_descriptors_own_name_counts() {
        assert_eq!(number_in(b"/proc/self/fd/12"), Some(12));
        for name in [
            &b"/proc/self/fd/"[..],
            b"/proc/self/fd/+1",
            b"/proc/self/fd/1/",
            b"/proc/self/fd/1/a",
            b"/proc/self/fd/99999999999",
            b"/proc/self/fd//1",
            b"share/a",
            b"",
        ] {
            assert_eq!(number_in(name), None, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn only_what_lies_in_a_shared_mount_is_changed() {
        let folder = std::env::current_dir().unwrap();
        let folder = std::fs::File::open(folder).unwrap();
        let file =
            rustix::fs::openat(&folder, ".", OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o600)).unwrap();
        let shared = SharedMounts::beneath(vec![folder.try_clone().unwrap().into()]).unwrap();
        let mode = || rustix::fs::fstat(&file).unwrap().st_mode & 0o7777;
        assert_eq!(change(file.as_fd(), None, 0o640, &SharedMounts::default()), Change::Strange);
        assert_eq!(change(file.as_fd(), None, 0o4755, &shared), Change::Strange);
        assert_eq!(mode(), 0o600);
        assert_eq!(change(file.as_fd(), None, 0o640, &shared), Change::Made);
        assert_eq!(mode(), 0o640);
    }
}
