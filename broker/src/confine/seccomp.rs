//! Installing the compiled profiles of the `sandbox-profiles` crate.

use std::io;
use std::os::fd::OwnedFd;

use sandbox_profiles::{Profile, Program, Variant};

use crate::sys;

/// Confines this thread to a variant of `profile`.
///
/// # Errors
/// [`Error::Compile`]: the profile is not for this machine. [`Error::Install`].
pub fn install_profile(profile: Profile, variant: &Variant) -> Result<(), Error> {
    install_program(&compile(profile, variant)?)
}

/// Compiles a profile, which may allocate; installing then does not.
///
/// # Errors
/// [`Error::Compile`].
pub fn compile(profile: Profile, variant: &Variant) -> Result<Program, Error> {
    sandbox_profiles::compile(profile, variant).map_err(Error::Compile)
}

/// Installs a program that asks nobody.
///
/// # Errors
/// [`Error::Install`].
pub fn install_program(program: &Program) -> Result<(), Error> {
    sys::seccomp::install(&program.instructions).map_err(Error::Install)
}

/// Installs the emulator's filter, which asks the agent about some calls.
///
/// # Errors
/// [`Error::OuterListener`], [`Error::NoNotification`], [`Error::Install`].
pub fn install_emulator_filter(program: &Program) -> Result<OwnedFd, Error> {
    let installed = sys::seccomp::install_with_listener(&program.instructions);
    installed.map_err(|source| match source.raw_os_error() {
        Some(libc::EBUSY) => Error::OuterListener,
        Some(libc::EINVAL | libc::ENOSYS) => Error::NoNotification(source),
        _ => Error::Install(source),
    })
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The profile does not compile.
    #[error("cannot compile the system call filter: {0}")]
    Compile(sandbox_profiles::Error),
    /// Only one listener fits into a process's chain of filters.
    #[error(
        "cannot intercept system calls: an outer sandbox or container does so already, and the kernel allows one; \
         start broker outside it, or switch the container's system call interception off"
    )]
    OuterListener,
    /// The kernel is too old.
    #[error("this kernel has no user notification with WAIT_KILLABLE_RECV ({0}); use Linux 5.19 or newer")]
    NoNotification(io::Error),
    /// Anything else.
    #[error("cannot install the system call filter: {0}")]
    Install(io::Error),
}
