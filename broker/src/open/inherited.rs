//! Descriptors that the caller left open: those that the command line names stay, all others are closed.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::RawFd;

use crate::sys::process;

/// Standard input, output and error, which every command line names.
const STANDARD: [RawFd; 3] = [0, 1, 2];

/// Closes every inherited descriptor but the standard ones and those in `named`. Must run before this process holds
/// a descriptor of its own.
///
/// # Errors
/// [`Error::NotOpen`]: the command line names a descriptor that is not there. [`Error::Close`].
pub fn keep_only(named: &BTreeSet<RawFd>) -> Result<(), Error> {
    if let Some(missing) = named.iter().find(|number| !process::is_open(**number)) {
        return Err(Error::NotOpen { number: *missing });
    }
    let kept: Vec<RawFd> = STANDARD.into_iter().chain(named.iter().copied()).collect();
    process::close_all_but(&kept).map_err(Error::Close)
}

/// The descriptors that the caller left open for this program, other than the standard ones: what this process opens itself
/// is close-on-exec.
///
/// # Errors
/// [`Error::List`].
pub fn all() -> Result<BTreeSet<RawFd>, Error> {
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir("/proc/self/fd").map_err(Error::List)? {
        let name = entry.map_err(Error::List)?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    numbers.retain(|number| !STANDARD.contains(number) && process::is_handed_on(*number));
    Ok(numbers)
}

/// Why the descriptors could not be sorted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bad number.
    #[error(
        "the emulator's command line names descriptor {number}, which is not open; open it in the process that starts \
         broker, without close-on-exec"
    )]
    NotOpen {
        /// The number.
        number: RawFd,
    },
    /// No `/proc`.
    #[error("cannot list inherited descriptors: {0}; mount /proc")]
    List(io::Error),
    /// Linux before 5.9.
    #[error("cannot close inherited descriptors: {0}")]
    Close(io::Error),
}
