//! What can go wrong in the harness itself; a test returns it with `?`.

use std::io;
use std::process::ExitStatus;

/// The result of every step of the harness, and of every test.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a step of a test could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Something that had to happen did not, within [`crate::PATIENCE`].
    #[error("waited {seconds} s in vain for {what}")]
    TooLong {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// A program that prepares the test failed.
    #[error("{program} ended with {status}: {stderr}")]
    Tool {
        /// Its command line.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// QEMU answered a command with an error.
    #[error("QMP {command}: {class}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's error class.
        class: String,
        /// QEMU's text.
        description: String,
    },
    /// Something looked otherwise than it must.
    #[error("{0}")]
    Unexpected(String),
}

/// Adds to a system's answer what was being done.
pub trait During<T> {
    /// Turns a failure into an [`Error::Io`] about `what`.
    ///
    /// # Errors
    /// The same failure, named.
    fn during(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.into(), source: source.into() })
    }
}
