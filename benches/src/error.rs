//! What can go wrong while something is measured.

use std::io;
use std::process::{ExitStatus, Output};

/// A measurement that did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A program could not be started.
    #[error("cannot start {program}: {source}; `make bench` installs what is needed")]
    Start {
        /// Its name.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {stderr}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// A program said something that is no measurement.
    #[error("{program} printed {text:?} instead of figures")]
    Figures {
        /// Its name.
        program: String,
        /// What it printed.
        text: String,
    },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Fails unless a program was started and ended with success.
pub(crate) fn succeeded(program: &str, status: io::Result<ExitStatus>) -> Result<()> {
    let status = status.map_err(|source| Error::Start { program: program.into(), source })?;
    let failed = || Error::Failed { program: program.into(), status, stderr: String::new() };
    status.success().then_some(()).ok_or_else(failed)
}

/// What a program printed that ended with success.
pub(crate) fn printed(program: &str, output: io::Result<Output>) -> Result<String> {
    let output = output.map_err(|source| Error::Start { program: program.into(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Failed { program: program.into(), status: output.status, stderr })
}
