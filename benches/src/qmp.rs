//! An emulator that takes commands on its standard input.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, succeeded};

/// A running emulator.
pub(crate) struct Emulator {
    program: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    line: String,
}

impl Emulator {
    /// Starts what `command` says, which has `-qmp stdio` among its words.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|source| Error::Start { program: program.clone(), source })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Figures { program, text: String::new() });
        };
        let mut emulator = Self { program, child, input, output: BufReader::new(output), line: String::new() };
        emulator.await_line("{\"QMP\"")?;
        emulator.execute("{\"execute\":\"qmp_capabilities\"}")?;
        Ok(emulator)
    }

    /// Gives a command and waits for its return: how long that took.
    pub(crate) fn execute(&mut self, command: &str) -> Result<Duration> {
        let started = Instant::now();
        let written = self.input.write_all(command.as_bytes());
        written.map_err(|source| Error::Start { program: self.program.clone(), source })?;
        self.await_line("{\"return\"")?;
        Ok(started.elapsed())
    }

    /// Ends it.
    pub(crate) fn quit(mut self) -> Result<()> {
        self.execute("{\"execute\":\"quit\"}")?;
        succeeded(&self.program, self.child.wait())
    }

    /// Reads up to a line that starts with `start`; events pass by, and an error is an error.
    fn await_line(&mut self, start: &str) -> Result<()> {
        loop {
            self.line.clear();
            let read = self.output.read_line(&mut self.line);
            let length = read.map_err(|source| Error::Start { program: self.program.clone(), source })?;
            if self.line.starts_with(start) {
                return Ok(());
            }
            if length == 0 || self.line.starts_with("{\"error\"") {
                return Err(Error::Figures { program: self.program.clone(), text: self.line.clone() });
            }
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // After `quit` it has ended already, and both calls find that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
