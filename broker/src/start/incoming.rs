//! `-incoming exec:COMMAND`: the command runs outside of the sandbox, as the operator, and QEMU reads its output.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::pipe::PipeFlags;

use super::Start;
use crate::emulator::IncomingCommand;
use crate::operator_program;
use crate::sys::process::{self, Between};

impl Start {
    /// Starts the command, if one is named, and puts the number of the pipe from it into the emulator's arguments. The pipe
    /// is for the emulator alone: when it ends, the command's next write fails.
    ///
    /// # Errors
    /// [`super::Error::Incoming`].
    pub fn start_incoming(&mut self) -> Result<Option<OwnedFd>, super::Error> {
        let command = &mut self.plan.command;
        let Some(incoming) = command.incoming.as_ref().filter(|_| !command.informational) else { return Ok(None) };
        let failed = |source| Error { option: incoming.option.clone(), source };
        let pipe = start(incoming).map_err(failed)?;
        if let Some(word) = command.argv.get_mut(incoming.word) {
            *word = format!("fd:{}", pipe.as_raw_fd()).into();
        }
        Ok(Some(pipe))
    }
}

/// Starts the command, as nobody's child: the emulator would not know it. It stays in the caller's session, to ask for a
/// password on the terminal.
fn start(incoming: &IncomingCommand) -> io::Result<OwnedFd> {
    let (program, arguments) = incoming.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    operator_program::check(program)?;
    let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let between = process::orphan(|| match operator_program::start_writing(program, arguments, input) {
        Ok(_) => 0,
        Err(error) => {
            eprintln!("broker: {}: {error}", incoming.option);
            1
        }
    });
    between.and_then(Between::reap)?;
    Ok(output)
}

/// A command that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{option}: cannot run the command: {source}; mend it, or hand its output over as -incoming fd:N")]
pub struct Error {
    /// The option that names it.
    option: String,
    /// What the kernel said.
    source: io::Error,
}
