//! What each confined program may do, as data, and the compiler that makes seccomp programs of it.
//!
//! The policy lies in `profiles/*.toml`, one file for each program, a reason beside each line. The
//! build reads and checks these files; a misspelt key, an unknown system call, a missing reason or a
//! rule that can never apply fails the build. What is left at run time are constants: no file is
//! read, nothing is parsed, nothing can be edited on the host.
//!
//! ```
//! use sandbox_profiles::{Profile, Variant, compile};
//!
//! let program = compile(Profile::QemuSystem, &Variant::default())?;
//! assert!(program.notifies);
//! # Ok::<(), sandbox_profiles::Error>(())
//! ```
#![forbid(unsafe_code)]

mod bpf;
mod compile;
mod explain;
mod generated;
mod model;
mod mounts;

pub use compile::{Error, Program, compile};
pub use explain::{Explanation, explain};
pub use model::{Action, Comparison, Condition, Feature, Operand, Rule, Variant, Width};
pub use mounts::{
    Absent, Base, Device, Grant, Handled, LandlockRight, Mount, MountKind, Place, PrivateFolder, Sought, SoughtIn,
    absent, absent_reason, devices, grants, handled_rights, mounts, private_folders, sought_by_windows, window_mounts,
};

use model::ProfileData;

/// The programs that have a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The emulator, `qemu-system-*`.
    QemuSystem,
    /// `qemu-img` and `qemu-io`.
    QemuImg,
    /// `qemu-nbd` and `qemu-storage-daemon`.
    QemuStorage,
    /// The process inside the sandbox that turns blocked system calls into requests.
    Agent,
    /// The process outside the sandbox that answers requests.
    Broker,
    /// The throw-away process that reads image headers.
    Prober,
    /// The process that carries datagrams between the emulator and the host's sockets.
    Relay,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 7] =
        [Self::QemuSystem, Self::QemuImg, Self::QemuStorage, Self::Agent, Self::Broker, Self::Prober, Self::Relay];

    /// Those of programs in the sandbox, for which an agent answers.
    pub const CONFINED: [Self; 3] = [Self::QemuSystem, Self::QemuImg, Self::QemuStorage];

    /// The name of the profile's file and of the profile in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QemuSystem => "qemu-system",
            Self::QemuImg => "qemu-img",
            Self::QemuStorage => "qemu-storage",
            Self::Agent => "agent",
            Self::Broker => "broker",
            Self::Prober => "prober",
            Self::Relay => "relay",
        }
    }

    fn data(self) -> &'static ProfileData {
        match self {
            Self::QemuSystem => &generated::QEMU_SYSTEM,
            Self::QemuImg => &generated::QEMU_IMG,
            Self::QemuStorage => &generated::QEMU_STORAGE,
            Self::Agent => &generated::AGENT,
            Self::Broker => &generated::BROKER,
            Self::Prober => &generated::PROBER,
            Self::Relay => &generated::RELAY,
        }
    }
}

/// The rules of a profile, all variants together, in the order of its file.
pub fn rules(profile: Profile) -> impl Iterator<Item = &'static Rule> {
    profile.data().rules.iter()
}

/// What the profile does with a call that none of its rules matches.
#[must_use]
pub fn default_action(profile: Profile) -> Action {
    profile.data().default
}

/// The name of the system call with this number on this architecture; `None` for a number that the
/// build did not know (469, `file_setattr` of Linux 6.17, is the last).
#[must_use]
pub fn syscall_name(number: u32) -> Option<&'static str> {
    let calls = generated::SYSTEM_CALLS;
    let index = calls.binary_search_by_key(&number, |call| call.0).ok()?;
    calls.get(index).map(|call| call.1)
}
