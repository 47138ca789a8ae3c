//! Which mounts are those of shared folders, by the numbers that the kernel gives them.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, StatxFlags};

/// The mounts of this process's namespace, one a line (proc_pid_mountinfo(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// The numbers of the mounts that are shared with the guest. A number stands for the same mount as long as that is mounted,
/// and nobody can unmount anything in the sandbox.
#[derive(Debug, Default)]
pub struct SharedMounts(BTreeSet<u64>);

impl SharedMounts {
    /// The mounts whose numbers are `folders`, with all that is mounted beneath them.
    ///
    /// # Errors
    /// `open(2)`'s and `read(2)`'s of the list in `/proc`, which is not read for no folder.
    pub fn beneath(folders: BTreeSet<u64>) -> std::io::Result<Self> {
        if folders.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self::listed(folders, &std::fs::read_to_string(MOUNTS)?))
    }

    fn listed(folders: BTreeSet<u64>, list: &str) -> Self {
        let numbers = |line: &str| {
            let mut words = line.split(' ').map(str::parse);
            Some((words.next()?.ok()?, words.next()?.ok()?))
        };
        let mounts: Vec<(u64, u64)> = list.lines().filter_map(numbers).collect();
        let mut found = folders;
        loop {
            let before = found.len();
            for (mount, parent) in &mounts {
                if found.contains(parent) {
                    found.insert(*mount);
                }
            }
            if found.len() == before {
                return Self(found);
            }
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `descriptor`, of whatever kind, was opened in one of them.
    ///
    /// # Errors
    /// `statx(2)`'s.
    pub fn hold(&self, descriptor: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        // Where there is none, the agent's filter has no statx.
        Ok(!self.is_empty() && self.0.contains(&number_of(descriptor)?))
    }
}

/// The number of the mount that `descriptor` lies in (`STATX_MNT_ID`, Linux 5.8).
///
/// # Errors
/// `statx(2)`'s.
pub fn number_of(descriptor: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    let status = rustix::fs::statx(descriptor, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if status.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(rustix::io::Errno::OPNOTSUPP);
    }
    Ok(status.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const LIST: &str = "\
        40 30 0:1 / / rw - tmpfs none rw\n\
        43 42 0:3 / /share/b/c rw - tmpfs none rw\n\
        41 40 0:2 / /share rw - tmpfs none rw\n\
        42 41 0:3 / /share/b rw - tmpfs none rw\n\
        44 40 0:4 / /other rw - tmpfs none rw\n";

    #[test]
    fn what_is_mounted_beneath_belongs_to_it() {
        let found = SharedMounts::listed([41].into(), LIST);
        assert_eq!(found.0, [41, 42, 43].into());
    }

    #[test]
    fn a_descriptor_tells_its_mount() {
        let root = std::fs::File::open("/").unwrap();
        let own = number_of(root.as_fd()).unwrap();
        assert!(SharedMounts::beneath([own].into()).unwrap().hold(root.as_fd()).unwrap());
        let proc = std::fs::File::open("/proc/self/status").unwrap();
        assert!(!SharedMounts([own].into()).hold(proc.as_fd()).unwrap());
        assert!(SharedMounts::beneath(BTreeSet::new()).unwrap().is_empty());
    }
}
