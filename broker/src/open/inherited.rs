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
    /// Linux before 5.9.
    #[error("cannot close inherited descriptors: {0}")]
    Close(io::Error),
}
