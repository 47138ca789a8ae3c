//! Waiting with a limit, so that a hang is a failure and never a hung test run.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long anything may take. A guest that boots under emulation inside an emulated test machine is the
/// slowest thing waited for; a working run needs a small part of this.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Calls `look` until it returns a value, at most for `limit`.
///
/// # Errors
/// `look`'s own error at once; [`Error::TooLong`] about `what` at the limit.
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(Error::TooLong { what: what.to_owned(), seconds: limit.as_secs() });
        }
        sleep(INTERVAL);
    }
}
