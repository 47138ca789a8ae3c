//! Who the emulator will be: the operator, `--user`, or whom QEMU's own options name.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use caps::Capability;
use nix::unistd::{Gid, User, getgrouplist};

use super::Options;
use crate::confine::capabilities;
use crate::confine::identity::{Groups, Identity};
use crate::emulator::{CommandLine, RunAs};

/// The identity of the emulator.
///
/// # Errors
/// [`Error`], where QEMU's own options cannot be followed.
pub(super) fn identity(options: &Options, command: &CommandLine) -> Result<Identity, Error> {
    let (own_uid, own_gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // What QEMU is only asked to print it prints before it changes its user.
    if let Some(run_as) = command.run_as.as_ref().filter(|_| !command.informational) {
        if options.user.is_some() {
            return Err(Error::Twice { option: run_as.option.clone() });
        }
        return Wanted::look_up(run_as)?.identity(&run_as.option, own_gid);
    }
    let (uid, gid) = options.user.unwrap_or((own_uid, own_gid));
    let groups = if may_change_groups() { Groups::None } else { Groups::Kept };
    Ok(Identity { uid, gid, groups })
}

/// The folder that QEMU is to take for its root must be one, and root alone may take it. It has no further effect: the
/// sandbox is a root of its own.
///
/// # Errors
/// [`Error::Root`].
pub(super) fn check_root(command: &CommandLine) -> Result<(), Error> {
    let Some(root) = command.new_root.as_ref().filter(|_| !command.informational) else { return Ok(()) };
    let failed = |source| Error::Root { option: root.option.clone(), source };
    let is_folder = std::fs::metadata(&root.folder).map_err(failed)?.is_dir();
    if !is_folder {
        return Err(failed(std::io::ErrorKind::NotADirectory.into()));
    }
    if !holds(Capability::CAP_SYS_CHROOT) {
        return Err(failed(std::io::Error::from_raw_os_error(libc::EPERM)));
    }
    Ok(())
}

/// Whether this process may drop its supplementary groups: an ordinary user may not, nor may the root of a user namespace
/// in which that is forbidden (user_namespaces(7)).
fn may_change_groups() -> bool {
    let allowed = std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow");
    allowed && holds(Capability::CAP_SETGID)
}

fn holds(capability: Capability) -> bool {
    capabilities::holds(capability).unwrap_or(false)
}

/// A user as `-runas` names one.
struct Wanted {
    uid: u32,
    gid: u32,
    /// The name in the user database, by which the groups are found.
    name: Option<CString>,
}

impl Wanted {
    /// First as a name, then as `UID:GID`, as `os_set_runas` does in QEMU's `os-posix.c`.
    fn look_up(run_as: &RunAs) -> Result<Self, Error> {
        // What QEMU repeats is the argument whole, with the key of -run-with.
        let argument = run_as.option.split_once(' ').map_or_else(String::new, |(_, argument)| argument.to_owned());
        let unknown = || Error::Unknown { option: run_as.option.clone(), argument: argument.clone() };
        let name = CString::new(run_as.user.as_bytes()).map_err(|_| unknown())?;
        let text = run_as.user.to_str().ok_or_else(unknown)?;
        let failed =
            |source: nix::errno::Errno| Error::Database { option: run_as.option.clone(), source: source.into() };
        if let Some(user) = User::from_name(text).map_err(failed)? {
            return Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: Some(name) });
        }
        let (uid, gid) = text.split_once(':').ok_or_else(unknown)?;
        match (number(uid), number(gid)) {
            (Some(uid), Some(gid)) => Ok(Self { uid, gid, name: None }),
            _ => Err(unknown()),
        }
    }

    /// With the groups that QEMU would take: those of the user database, or for numbers the group alone.
    fn identity(&self, option: &str, own_gid: u32) -> Result<Identity, Error> {
        let Self { uid, gid, name } = self;
        let fails = |call| Err(Error::Refused { option: option.to_owned(), call });
        if !may_change_groups() {
            return fails(match name {
                _ if *gid != own_gid => format!("Failed to setgid({gid})"),
                Some(name) => format!("Failed to initgroups({name:?}, {gid})"),
                None => format!("Failed to setgroups(1, [{gid}])"),
            });
        }
        if !holds(Capability::CAP_SETUID) {
            return fails(format!("Failed to setuid({uid})"));
        }
        if *uid == 0 {
            return fails("Dropping privileges failed".into());
        }
        let groups = match name {
            Some(name) => getgrouplist(name, Gid::from_raw(*gid))
                .map_err(|source| Error::Database { option: option.to_owned(), source: source.into() })?,
            None => vec![Gid::from_raw(*gid)],
        };
        let groups = groups.into_iter().map(Gid::as_raw).collect();
        Ok(Identity { uid: *uid, gid: *gid, groups: Groups::Exactly(groups) })
    }
}

/// An id as `strtoul(3)` reads it to the base 0; the greatest one is nobody's.
fn number(text: &str) -> Option<u32> {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, base) = match (text.strip_prefix("0x").or(text.strip_prefix("0X")), text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (text, 10),
    };
    let plain = digits.starts_with(|first: char| first.is_ascii_hexdigit());
    u32::from_str_radix(digits, base).ok().filter(|id| plain && *id != u32::MAX)
}

/// Why the emulator cannot be who its options say.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody.
    #[error(
        "{option}: User \"{argument}\" doesn't exist (and is not <uid>:<gid>); name a user of this host, or give two numbers"
    )]
    Unknown {
        /// The option.
        option: String,
        /// Its argument.
        argument: String,
    },
    /// No right to.
    #[error("{option}: {call}; start broker as root, and name another user than root, or leave the option out")]
    Refused {
        /// The option.
        option: String,
        /// What QEMU would say.
        call: String,
    },
    /// `--user` says the same.
    #[error("{option}: --user chooses the emulator's user too; leave one of the two out")]
    Twice {
        /// The option.
        option: String,
    },
    /// No groups.
    #[error("{option}: cannot read the user database: {source}; is it within reach?")]
    Database {
        /// The option.
        option: String,
        /// What the C library said.
        source: std::io::Error,
    },
    /// No root.
    #[error("{option}: chroot failed: {source}; name a folder, start broker as root, or leave the option out")]
    Root {
        /// The option.
        option: String,
        /// What the kernel said, or would.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(user: &str) -> Result<(u32, u32), Error> {
        Wanted::look_up(&RunAs { option: "-runas".into(), user: user.into() }).map(|found| (found.uid, found.gid))
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (text, expected) in [("0x10:077", (16, 63)), (" +5:0", (5, 0)), ("4294967294:1", (4_294_967_294, 1))] {
            assert_eq!(wanted(text).unwrap(), expected, "{text}");
        }
        for text in
            ["", ":", "5", "1:2:3", "-1:5", "-2:5", "08:1", "4294967295:1", "1:4294967296", "0x:1", "++1:1", "1: "]
        {
            let message = wanted(text).unwrap_err().to_string();
            assert!(message.contains("doesn't exist (and is not <uid>:<gid>)"), "{text}: {message}");
        }
    }

    #[test]
    fn a_name_comes_first() {
        assert_eq!(wanted("root").unwrap(), (0, 0));
    }
}
