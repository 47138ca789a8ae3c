//! What can be wrong with an emulator's command line.

use std::io;

/// A reason not to start. Every message names the option as it was typed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No emulator was named at all.
    #[error("no emulator is named; write it after --, as in: broker -- qemu-system-x86_64 ...")]
    NoEmulator,
    /// Neither QEMU 7.2 nor 10.0 has this option.
    #[error("{option}: unknown option; QEMU 7.2 and 10.0 have none of this name, check its spelling")]
    UnknownOption {
        /// The word as typed, dashes included.
        option: String,
    },
    /// Neither version's `qemu-img` has this command.
    #[error("{command}: unknown command; qemu-img of QEMU 7.2 and 10.0 has none of this name, check its spelling")]
    UnknownCommand {
        /// The program and the word.
        command: String,
    },
    /// The last word of the command line is an option that wants a value.
    #[error("{option}: its argument is missing; add it after the option")]
    MissingArgument {
        /// The option as typed.
        option: String,
    },
    /// The option names something outside the sandbox that is not handed in.
    #[error("{option}: {what} is not served; {instead}")]
    NotServed {
        /// The option and its value.
        option: String,
        /// The part that names the outside thing.
        what: String,
        /// What to write instead.
        instead: String,
        /// Whether it is known what it is; else no QEMU that is supported has it.
        known: bool,
    },
    /// The value cannot be understood, so what it names is unknown.
    #[error("{option}: {problem}")]
    Malformed {
        /// The option and its value.
        option: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// A `-readconfig` file could not be read.
    #[error("{option}: cannot read the file: {source}; check the name and its permissions")]
    ReadConfig {
        /// The option and its value.
        option: String,
        /// Why reading failed.
        source: io::Error,
    },
}

impl Error {
    /// A refusal of `what` in `option`, with a way out.
    pub(super) fn not_served(option: &str, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self::NotServed { option: option.to_owned(), what: what.into(), instead: instead.into(), known: true }
    }

    /// The same of a name that stands in no table.
    pub(super) fn not_known(option: &str, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self::NotServed { option: option.to_owned(), what: what.into(), instead: instead.into(), known: false }
    }

    /// A value of `option` that cannot be understood.
    pub(super) fn malformed(option: &str, problem: impl Into<String>) -> Self {
        Self::Malformed { option: option.to_owned(), problem: problem.into() }
    }
}
