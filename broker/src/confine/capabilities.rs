//! No capability in any set, none to be had again.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use rustix::thread::CapabilitiesSecureBits as Bits;

/// What is left when the rest is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// No capability at all.
    Nothing,
    /// `CAP_SYS_PTRACE` over the sandbox's own user namespace, for an agent under Yama: it reaches the emulator
    /// and nothing else, for nothing else lives in that namespace.
    ReadMemory,
    /// `CAP_NET_ADMIN`, for a bridge helper.
    Network,
    /// What a broker that root started needs.
    Broker {
        /// `CAP_DAC_OVERRIDE`, on images that only this capability opens.
        opens_any_file: bool,
        /// `CAP_CHOWN`, to give away the files that it creates. Its filter has `fchown` alone, which changes the owner of
        /// nothing but what it could open.
        gives_files_away: bool,
        /// `CAP_FOWNER`, to remove what it made as another user in folders where only owners may (sticky ones). Its
        /// filter has no call that changes what else this is the right to.
        removes_for_others: bool,
        /// `CAP_NET_BIND_SERVICE`, to bind a port below `net.ipv4.ip_unprivileged_port_start` that the command line names.
        binds_low_ports: bool,
    },
}

impl Keep {
    /// For a process that has to open what belongs to others.
    #[must_use]
    pub fn opening_any_file() -> Self {
        Self::Broker {
            opens_any_file: true,
            gives_files_away: false,
            removes_for_others: false,
            binds_low_ports: false,
        }
    }

    fn set(self) -> CapsHashSet {
        match self {
            Self::Nothing => CapsHashSet::new(),
            Self::ReadMemory => [Capability::CAP_SYS_PTRACE].into(),
            Self::Network => [Capability::CAP_NET_ADMIN].into(),
            Self::Broker { opens_any_file, gives_files_away, removes_for_others, binds_low_ports } => {
                let wanted = [
                    (opens_any_file, Capability::CAP_DAC_OVERRIDE),
                    (gives_files_away, Capability::CAP_CHOWN),
                    (removes_for_others, Capability::CAP_FOWNER),
                    (binds_low_ports, Capability::CAP_NET_BIND_SERVICE),
                ];
                wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, capability)| capability).collect()
            }
        }
    }
}

/// Drops every capability from every set but what `keep` names, which stays permitted and effective only; from then
/// on uid 0 means nothing, and no execve brings a capability back.
///
/// # Errors
/// `EPERM`: the process may not lower its own sets, which no kernel does.
pub fn drop_all(keep: Keep) -> Result<(), Error> {
    let kept = keep.set();
    caps::clear(None, CapSet::Ambient)?;
    // An ordinary user's broker holds no CAP_SETPCAP; without capabilities and under no_new_privs neither the secure
    // bits nor the bounding set give anything.
    if holds(Capability::CAP_SETPCAP)? {
        lock_secure_bits()?;
        drop_bounding_set()?;
    }
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    Ok(())
}

/// Puts root's rights to other users' files out of effect for this thread, or all that is permitted back into effect.
///
/// # Errors
/// `EPERM`: the kernel does not let go of a capability, which none does.
pub fn lay_down_override(down: bool) -> Result<(), Error> {
    let mut wanted = caps::read(None, CapSet::Permitted)?;
    if down {
        for capability in [Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER] {
            wanted.remove(&capability);
        }
    }
    Ok(caps::set(None, CapSet::Effective, &wanted)?)
}

/// Sets no_new_privs: no execve gives a right that the process lacks.
///
/// # Errors
/// None on any kernel that broker runs on.
pub fn forbid_new_privileges() -> Result<(), Error> {
    rustix::thread::set_no_new_privs(true).map_err(|source| Error::NoNewPrivileges(source.into()))
}

/// Whether `capability` is in effect.
///
/// # Errors
/// None on any kernel that broker runs on.
pub fn holds(capability: Capability) -> Result<bool, Error> {
    Ok(caps::has_cap(None, CapSet::Effective, capability)?)
}

/// An execve by uid 0 gives no capability, and no set is adjusted when ids change (capabilities(7), securebits).
fn lock_secure_bits() -> Result<(), Error> {
    let bits = Bits::NO_ROOT
        | Bits::NO_ROOT_LOCKED
        | Bits::NO_SETUID_FIXUP
        | Bits::NO_SETUID_FIXUP_LOCKED
        | Bits::KEEP_CAPS_LOCKED
        | Bits::NO_CAP_AMBIENT_RAISE
        | Bits::NO_CAP_AMBIENT_RAISE_LOCKED;
    rustix::thread::set_capabilities_secure_bits(bits).map_err(|source| Error::SecureBits(source.into()))
}

fn drop_bounding_set() -> Result<(), Error> {
    for capability in caps::read(None, CapSet::Bounding)? {
        caps::drop(None, CapSet::Bounding, capability)?;
    }
    Ok(())
}

/// Why capabilities are still there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A set could not be changed.
    #[error("cannot drop capabilities: {0}")]
    Sets(#[from] caps::errors::CapsError),
    /// The secure bits could not be locked.
    #[error("cannot lock the secure bits: {0}")]
    SecureBits(io::Error),
    /// no_new_privs could not be set.
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(io::Error),
}
