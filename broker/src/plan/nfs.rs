//! What an NFS server of version 4.2 refuses to an emulator that does not own its images.

use super::Plan;
use crate::open::pin::Pin;
use crate::serve::grants::Role;

/// The type of an NFS mount (`NFS_SUPER_MAGIC`, linux/magic.h).
const NFS: u64 = 0x6969;

impl Plan {
    /// Says so if the emulator will miss something. Reading and writing is done with the rights of who opened the file,
    /// but since version 4.2 `fallocate` and looking for holes reach the server, with those of the caller.
    pub(super) fn note_strangers_on_nfs(&mut self) {
        let images = self.grants.iter().filter(|grant| matches!(grant.role, Role::Image | Role::Backing));
        let pins = images.map(|grant| grant.pin.as_ref());
        let strange: Vec<&Pin> = pins.filter(|pin| pin.owner().0 != self.identity.uid && is_on_nfs(pin)).collect();
        if strange.is_empty() {
            return;
        }
        // Where it cannot be read, there is one notice less.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let Some(pin) = strange.into_iter().find(|pin| is_version_4_2(&mounts, pin.device())) else { return };
        let ((uid, gid), own) = (pin.owner(), self.identity.uid);
        self.notices.push(format!(
            "{:?} is on NFSv4.2 and belongs to uid {uid}; the emulator, as uid {own}, can read and write it, but discard no \
             blocks and find no holes: let it run as the owner, by --user {uid}:{gid}",
            pin.path()
        ));
    }
}

fn is_on_nfs(pin: &Pin) -> bool {
    // The field's type differs between machines; magic numbers have 32 bits.
    rustix::fs::fstatfs(pin).is_ok_and(|status| u64::try_from(status.f_type).is_ok_and(|magic| magic == NFS))
}

/// Whether the file system with these device numbers is mounted by NFSv4.2 (mountinfo: proc_pid_mountinfo(5)).
fn is_version_4_2(mounts: &str, (major, minor): (u32, u32)) -> bool {
    let device = format!("{major}:{minor}");
    mounts.lines().any(|line| {
        let options = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(2));
        line.split(' ').nth(2) == Some(&device)
            && options.is_some_and(|options| options.split(',').any(|option| option == "vers=4.2"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_files_own_mount() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      40 22 0:41 / /mnt/n41 rw shared:9 - nfs4 127.0.0.1:/ rw,vers=4.1,rsize=262144\n\
                      41 22 0:42 / /mnt/n42 rw - nfs4 127.0.0.1:/ rw,vers=4.2,rsize=262144\n";
        assert!(is_version_4_2(mounts, (0, 42)));
        assert!(!is_version_4_2(mounts, (0, 41)) && !is_version_4_2(mounts, (254, 0)) && !is_version_4_2("", (0, 42)));
    }
}
