//! Which mounts are those of shared folders, by the numbers that the kernel gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

/// The mounts of this process's namespace, one a line (proc_pid_mountinfo(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// The mounts that are shared with the guest: their numbers, each with a descriptor in the mount. A number is given again
/// once its mount is gone, and a mount beneath a shared folder goes when somebody on the host removes the folder that it is
/// mounted on; but never while a descriptor lies in it.
#[derive(Debug, Default)]
pub struct SharedMounts(BTreeMap<u64, OwnedFd>);

impl SharedMounts {
    /// The mounts that `folders` lie in, with all that is mounted beneath them. One whose place cannot be reached is left
    /// out: the emulator cannot reach it either.
    ///
    /// # Errors
    /// `open(2)`'s and `read(2)`'s of the list in `/proc`, which is not read for no folder; `statx(2)`'s. `EMFILE`.
    pub fn beneath(folders: Vec<OwnedFd>) -> std::io::Result<Self> {
        let mut held = BTreeMap::new();
        for folder in folders {
            held.insert(number_of(folder.as_fd())?, folder);
        }
        if held.is_empty() {
            return Ok(Self::default());
        }
        for (number, path) in listed(held.keys().copied().collect(), &std::fs::read_to_string(MOUNTS)?) {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::empty()) {
                // Another mount may lie over this one.
                Ok(place) if number_of(place.as_fd())? == number => drop(held.entry(number).or_insert(place)),
                Ok(_) => {}
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(Self(held))
    }

    /// Every descriptor of it.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().map(AsFd::as_fd)
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
        Ok(!self.is_empty() && self.0.contains_key(&number_of(descriptor)?))
    }
}

/// The numbers and places of the mounts of `list` that are those of `folders`, or beneath them.
fn listed(mut folders: BTreeSet<u64>, list: &str) -> Vec<(u64, Vec<u8>)> {
    let mount = |line: &str| {
        let mut words = line.split(' ');
        let (number, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((number, parent, unescaped(words.nth(2)?)))
    };
    let mounts: Vec<(u64, u64, Vec<u8>)> = list.lines().filter_map(mount).collect();
    loop {
        let before = folders.len();
        for (mount, parent, _) in &mounts {
            if folders.contains(parent) {
                folders.insert(*mount);
            }
        }
        if folders.len() == before {
            break;
        }
    }
    let found = mounts.into_iter().filter(|(mount, ..)| folders.contains(mount));
    found.map(|(mount, _, place)| (mount, place)).collect()
}

/// A path as it is: the kernel writes blanks, ends of lines and backslashes as `\` and three octal digits.
fn unescaped(path: &str) -> Vec<u8> {
    let mut parts = path.split('\\');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.extend(byte);
        plain.extend_from_slice(part.get(3..).unwrap_or_default().as_bytes());
    }
    plain
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
        43 42 0:3 / /share/b/c\\040d rw - tmpfs none rw\n\
        41 40 0:2 / /share rw - tmpfs none rw\n\
        42 41 0:3 / /share/b\\134 rw - tmpfs none rw\n\
        44 40 0:4 / /other rw - tmpfs none rw\n";

    #[test]
    fn what_is_mounted_beneath_belongs_to_it() {
        let found = listed([41].into(), LIST);
        let places: Vec<_> = found.iter().map(|(number, place)| (*number, place.as_slice())).collect();
        assert_eq!(places, [(43, &b"/share/b/c d"[..]), (41, b"/share"), (42, b"/share/b\\")]);
    }

    #[test]
    fn a_descriptor_tells_its_mount() {
        let root = || OwnedFd::from(std::fs::File::open("/").unwrap());
        let shared = SharedMounts::beneath(vec![root()]).unwrap();
        assert!(shared.hold(root().as_fd()).unwrap());
        let proc = std::fs::File::open("/proc/self/status").unwrap();
        let own = number_of(proc.as_fd()).unwrap();
        let only = |number| SharedMounts([(number, root())].into());
        assert!(only(own).hold(proc.as_fd()).unwrap());
        assert!(!only(number_of(root().as_fd()).unwrap()).hold(proc.as_fd()).unwrap());
        assert!(SharedMounts::beneath(Vec::new()).unwrap().is_empty());
    }

    #[test]
    fn every_mount_is_held_so_that_its_number_stays_taken() {
        let shared = SharedMounts::beneath(vec![std::fs::File::open("/").unwrap().into()]).unwrap();
        // That of /proc lies beneath the root.
        assert!(shared.0.len() > 1);
        let held = shared.0.iter().map(|(number, place)| (*number, number_of(place.as_fd()).unwrap()));
        assert!(held.into_iter().all(|(number, found)| number == found));
        assert_eq!(shared.descriptors().count(), shared.0.len());
    }
}
