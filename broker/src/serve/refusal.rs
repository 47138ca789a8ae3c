//! Why something is refused, and what would allow it, in the operator's words.

use super::folders::{Place, Purpose};
use super::grants::Role;
use super::ledger::{Full, Limits};
use super::table::{File, Slot};
use crate::open::pin::Origin;

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: String,
    /// What would allow it.
    pub advice: String,
}

impl Refusal {
    fn new(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { reason: reason.into(), advice: advice.into() }
    }

    /// A name that stands for nothing.
    #[must_use]
    pub fn unknown_name() -> Self {
        Self::new(
            "nothing on the emulator's command line, and no header of an image that it names, names this file",
            "name it there (-drive, -blockdev, ...), as --medium PATH, or its folder by --allow attach=DIR when the guest is \
             started; or say `broker ctl NAME grant PATH` while it runs",
        )
    }

    /// A name that stands for nothing, and is to be removed: QEMU does so before it listens on a path.
    #[must_use]
    pub fn unknown_to_remove(name: &[u8]) -> Self {
        let Self { reason, .. } = Self::unknown_name();
        Self::new(
            reason,
            format!(
                "if QEMU is to listen there, --listen unix:{} when the guest is started; else remove it yourself",
                name.escape_ascii()
            ),
        )
    }

    /// A socket's address that stands for nothing.
    #[must_use]
    pub fn unknown_address(address: &protocol::SocketAddress) -> Self {
        Self::new(
            format!("nothing on the emulator's command line names {address}"),
            "name it there (-chardev, -vnc, -incoming, ...), or with --connect or --listen when the guest is started",
        )
    }

    /// A datagram socket, which could send to anybody.
    #[must_use]
    pub fn datagram(address: &protocol::SocketAddress) -> Self {
        Self::new(
            format!("nothing on the emulator's command line sends datagrams to {address}, or receives them there"),
            "name it there (-netdev dgram, -chardev udp) when the guest is started",
        )
    }

    /// What stands where a socket is to be bound is something else.
    #[must_use]
    pub fn no_socket(option: &str) -> Self {
        Self::new(
            format!("what has the path that `{option}` names is no socket, and is not removed"),
            "remove it yourself, or name another path",
        )
    }

    /// A socket that stands where one is to be bound, and came after the start.
    #[must_use]
    pub fn strange_socket(option: &str) -> Self {
        Self::new(
            format!("the socket that has the path which `{option}` names was made by somebody else since the start"),
            "name a path that nothing else uses",
        )
    }

    /// A device by which QEMU would open a network itself.
    #[must_use]
    pub fn network_device() -> Self {
        Self::new("the emulator opens no interface itself", "`broker ctl NAME tap --qmp SOCKET` while the guest runs")
    }

    /// A new pseudo-terminal that nothing asks for.
    #[must_use]
    pub fn no_terminals() -> Self {
        Self::new(
            "nothing on the emulator's command line asks for a pseudo-terminal",
            "-chardev pty,id=ID there when the guest is started; then others may be added while it runs",
        )
    }

    /// One pseudo-terminal too many.
    #[must_use]
    pub fn too_many_terminals(most: usize) -> Self {
        Self::new(
            format!("{most} pseudo-terminals of this guest are open"),
            "remove a character device (chardev-remove)",
        )
    }

    /// An open of a FIFO that would wait for whoever is at its other end.
    #[must_use]
    pub fn waiting(option: &str) -> Self {
        Self::new(
            format!("`{option}` grants to open it for reading and writing, which waits for nobody"),
            "open it so (O_RDWR), or without waiting (O_NONBLOCK)",
        )
    }

    /// A file that was to be created where nothing may be.
    #[must_use]
    pub fn no_creation(folder: &[u8]) -> Self {
        Self::new(
            "the emulator may create no files there",
            format!("--allow create={} when the guest is started", folder.escape_ascii()),
        )
    }

    /// More access than was granted.
    #[must_use]
    pub fn too_much(slot: &Slot) -> Self {
        let option = slot.option();
        if let File::Pinned(grant) = &slot.file
            && let Some(Origin { number, writable: false }) = grant.pin.origin()
        {
            return Self::new(
                format!("descriptor {number} of `{option}` is open for reading only, and gives no more than that"),
                "open it for reading and writing (O_RDWR) in the process that starts broker",
            );
        }
        match slot.role() {
            Role::Output => Self::new(
                format!("`{option}` grants only to write it, as a log is written"),
                "open it as the option says: to write, or to append where append=on is given",
            ),
            Role::Backing => Self::commit(slot),
            Role::Image => Self::new(
                format!("`{option}` grants it for reading only"),
                "leave out readonly=on, read-only=on or media=cdrom there, if the guest is to write; or `broker ctl NAME \
                 grant PATH --write`",
            ),
            Role::Medium => Self::new(
                format!("`{option}` grants it as a medium, which is never written"),
                "insert it read-only (read-only-mode=read-only)",
            ),
            Role::File
            | Role::Target
            | Role::PidFile
            | Role::Memory
            | Role::Device
            | Role::Stream
            | Role::Terminal
            | Role::Created => {
                Self::new(format!("`{option}` grants it for reading only"), "name it by an option that writes to it")
            }
        }
    }

    /// A backing file that may not be written, or not once more.
    #[must_use]
    pub fn commit(slot: &Slot) -> Self {
        let name = slot.name().escape_ascii();
        let reason = if slot.commit.is_some() {
            format!("it is a backing file of `{}`, and the permission for one commit is used up", slot.option())
        } else {
            format!("it is a backing file of `{}`, which is granted for reading only", slot.option())
        };
        Self::new(
            reason,
            format!(
                "--allow commit or --allow commit={name} when the guest is started, or `broker ctl NAME allow commit {name}`"
            ),
        )
    }

    /// A permission for one use that was used.
    #[must_use]
    pub fn used_up() -> Self {
        Self::new(
            "`broker ctl grant --once` granted it for one use, which is over",
            "`broker ctl NAME grant PATH` again",
        )
    }

    /// Something that is no medium was to be inserted.
    #[must_use]
    pub fn no_medium() -> Self {
        Self::new(
            "it is no medium that was named",
            "--medium PATH or --medium-dir DIR when the guest is started, or `broker ctl NAME grant PATH` while it runs",
        )
    }

    /// A link was to be followed out of a declared folder, or in one for new files at all.
    #[must_use]
    pub fn leads_out(place: &Place) -> Self {
        Self::new(
            match place.folder.purpose {
                Purpose::Media | Purpose::Attachment => {
                    format!("a symbolic link leads out of {}", place.folder.at.display())
                }
                Purpose::Creation => format!("no symbolic link is followed beneath {}", place.folder.at.display()),
            },
            "name the file without links, or declare the folder that it is in",
        )
    }

    /// A medium that is something else.
    #[must_use]
    pub fn no_regular_file(place: &Place) -> Self {
        Self::new(
            format!("only regular files beneath {} are handed out", place.folder.at.display()),
            "name a device by --medium PATH, or say `broker ctl NAME grant PATH`",
        )
    }

    /// A file that stands where new ones may be created.
    #[must_use]
    pub fn not_created_here(place: &Place) -> Self {
        Self::new(
            format!("{} is for new files, and this one was not created for this guest", place.folder.at.display()),
            "choose a name that is free, or say `broker ctl NAME grant PATH --write`",
        )
    }

    /// A file that was created for this guest, and replaced since.
    #[must_use]
    pub fn replaced() -> Self {
        Self::new(
            "another file has taken the place of the one that was created for this guest",
            "`broker ctl NAME grant PATH --write`",
        )
    }

    /// A device node that was removed since it was granted.
    #[must_use]
    pub fn removed_node(option: &str) -> Self {
        Self::new(
            format!(
                "the device node that `{option}` grants was removed, and its number may be another device's by now"
            ),
            "start the guest anew once the device is back; a disk: `broker ctl NAME grant PATH`",
        )
    }

    /// A bound on new files.
    #[must_use]
    pub fn full(full: Full, limits: Limits) -> Self {
        match full {
            Full::Files => Self::new(
                format!("{} files were created for this guest, and exist or were removed by it", limits.files),
                "remove one yourself, or give a greater --create-files when the guest is started",
            ),
            Full::Bytes => Self::new(
                format!("the files that were created for this guest take up {} bytes or more", limits.bytes),
                "remove one yourself, or give a greater --create-bytes when the guest is started",
            ),
        }
    }

    /// A removal of what was not created for the emulator.
    #[must_use]
    pub fn not_to_remove(option: &str) -> Self {
        Self::new(
            format!("`{option}` grants to open the file, not to remove it"),
            "remove it yourself once the guest has ended",
        )
    }

    /// `O_PATH`.
    #[must_use]
    pub fn path_only() -> Self {
        Self::new("descriptors that only stand for a path (O_PATH) are never handed out", "open the file itself")
    }

    /// A system call that is not on the profile's list.
    #[must_use]
    pub fn unlisted_call(call: &str) -> Self {
        let advice = match call {
            // With -daemonize and the like a fork is allowed, and what the fork would execute is not.
            "clone" | "clone3" | "fork" | "vfork" | "execve" | "execveat" => {
                "a network's script or bridge helper is run when the guest is started, or by `broker ctl NAME tap`; in the \
                 place of `migrate exec:` use `migrate fd:` with a descriptor that getfd handed over, or `migrate file:` \
                 (QEMU 8.2) to a name beneath --allow create=DIR; for anything else no option does"
            }
            _ => "no option does; please report it if the guest needs it",
        };
        Self::new("the profile of this program does not allow this system call", advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_starts_a_script_or_a_helper_is_told_who_does() {
        let name = |number| sandbox_profiles::syscall_name(u32::try_from(number).unwrap()).unwrap();
        let calls = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_execve, libc::SYS_execveat].map(name);
        for call in calls.into_iter().chain(["fork", "vfork"]) {
            let advice = Refusal::unlisted_call(call).advice;
            assert!(advice.contains("`broker ctl NAME tap`") && advice.contains("bridge helper"), "{advice}");
            assert!(
                ["`migrate fd:`", "getfd", "file:", "--allow create=DIR"].iter().all(|way| advice.contains(way)),
                "{advice}"
            );
        }
        assert!(!Refusal::unlisted_call("ptrace").advice.contains("tap"));
    }
}
