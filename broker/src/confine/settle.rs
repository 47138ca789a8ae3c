//! The broker's own confinement: it serves as an ordinary process that can open what it pinned, and nothing else.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use landlock::{ABI, AccessFs, BitFlags};
use rustix::fs::{Mode, OFlags};
use sandbox_profiles::{Profile, Variant};

use super::capabilities::{self, Keep};
use super::landlock::{NetworkRights, Rights, enforce_grants};
use super::seccomp;
use crate::host::Host;
use crate::serve::folders::Purpose;
use crate::serve::grants::Access;
use crate::sys::process;

/// Lets go of what belongs to the caller but standard error: every descriptor that is not `kept`, folder, signals. What
/// owns one of the others must never be dropped afterwards. The process is called `name` from then on.
///
/// # Errors
/// `ENOSYS`: Linux before 5.9. `ENOENT`: no `/dev/null`.
pub fn leave_the_caller(kept: impl IntoIterator<Item = RawFd>, name: &CStr) -> io::Result<()> {
    let kept: Vec<RawFd> = std::iter::once(2).chain(kept).collect();
    process::close_all_but(&kept)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdout(&null)?;
    if null.as_raw_fd() != 0 {
        rustix::stdio::dup2_stdin(&null)?;
    }
    // Number 0 must stay, whoever owns it.
    std::mem::forget(null);
    rustix::process::chdir("/")?;
    rustix::thread::set_name(name)?;
    process::ignore_group_signals()
}

/// Confines this process for good. `grants` are all the files that it can open from then on, `network` all that it can do
/// with new sockets.
///
/// # Errors
/// One variant a step.
pub fn settle(abi: ABI, keep: Keep, grants: &[(BorrowedFd<'_>, Rights)], network: &NetworkRights) -> Result<(), Error> {
    // Whoever takes the broker over holds no right that opening the pins does not take.
    capabilities::drop_all(keep)?;
    capabilities::forbid_new_privileges()?;
    // The grant table once more, in the kernel: a bug in the policy opens nothing that was not pinned.
    enforce_grants(abi, grants, network)?;
    // Last, as in the sandbox.
    let variant = Variant { sockets: network.sockets, ..Host::own_variant(abi) };
    seccomp::install_profile(Profile::Broker, &variant)?;
    Ok(())
}

/// Rights on a file that is granted with `access`.
#[must_use]
pub fn rights(access: Access) -> Rights {
    match access {
        Access::ReadOnly => reading(),
        Access::AppendOnly => only_appending(),
        Access::WriteOnly => only_writing(),
        Access::ReadWrite => writing(),
    }
}

/// Rights on a declared folder.
#[must_use]
pub fn rights_beneath(purpose: Purpose) -> Rights {
    match purpose {
        Purpose::Media => BitFlags::from(AccessFs::ReadFile),
        Purpose::Attachment => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
        // What the emulator is given may be truncated by it, as an image is when it grows or shrinks.
        Purpose::Creation => {
            AccessFs::MakeReg | AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::RemoveFile
        }
    }
}

/// Rights on a file that is only read. Device nodes are useless without their ioctls.
fn reading() -> Rights {
    AccessFs::ReadFile | AccessFs::IoctlDev
}

/// Rights on a file that is written too: the right to truncate sticks to the descriptor that is handed out.
fn writing() -> Rights {
    reading() | AccessFs::WriteFile | AccessFs::Truncate
}

/// Rights on a file that is only written to.
fn only_writing() -> Rights {
    AccessFs::WriteFile | AccessFs::Truncate
}

/// Rights on a file that is appended to: a descriptor that is handed out can never truncate it (Landlock ABI 3).
fn only_appending() -> Rights {
    BitFlags::from(AccessFs::WriteFile)
}

/// Rights on what pseudo-terminals are made of: the multiplexer, and the folder in which the kernel makes their nodes.
#[must_use]
pub fn terminals() -> Rights {
    reading() | AccessFs::WriteFile
}

/// Rights on a folder in which the broker made a file that it may have to remove.
#[must_use]
pub fn removing_files() -> Rights {
    BitFlags::from(AccessFs::RemoveFile)
}

/// Rights on a folder in which UNIX sockets are bound for the emulator, and removed.
#[must_use]
pub fn binding_sockets() -> Rights {
    AccessFs::MakeSock | AccessFs::RemoveFile
}

/// Rights on the parent of a guest's private folder.
#[must_use]
pub fn removing_folders() -> Rights {
    BitFlags::from(AccessFs::RemoveDir)
}

/// Rights on a guest's private folder.
#[must_use]
pub fn emptying() -> Rights {
    AccessFs::ReadDir | AccessFs::RemoveFile | AccessFs::RemoveDir
}

/// Why the broker could not confine itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Capabilities.
    #[error(transparent)]
    Capabilities(#[from] capabilities::Error),
    /// Landlock.
    #[error(transparent)]
    Landlock(#[from] super::landlock::Error),
    /// The filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
}
