//! Whether what was pinned can be opened by the broker as it will be once it has settled.

use std::io;
use std::os::fd::BorrowedFd;

use caps::{CapSet, Capability};

use super::pin::check_access;

/// The capabilities by which root opens what file permissions deny.
const OVERRIDES: [Capability; 2] = [Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH];

/// Whether opening `pin` takes a capability beyond file permissions.
///
/// # Errors
/// `EACCES` or `EROFS`: it cannot be opened with one either.
pub fn needs_override(pin: BorrowedFd<'_>, write: bool) -> io::Result<bool> {
    check_access(pin, write)?;
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_DAC_OVERRIDE).map_err(io::Error::other)? {
        return Ok(false);
    }
    let effective = caps::read(None, CapSet::Effective).map_err(io::Error::other)?;
    let without = effective.iter().copied().filter(|capability| !OVERRIDES.contains(capability)).collect();
    caps::set(None, CapSet::Effective, &without).map_err(io::Error::other)?;
    let denied = check_access(pin, write).is_err();
    caps::set(None, CapSet::Effective, &effective).map_err(io::Error::other)?;
    Ok(denied)
}
