//! A terminal of the test's own, and who speaks over one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, tcgetattr};
use tests::{During, Emulator, Error, PATIENCE, Result, until};

/// A pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The side that a person would type on.
    pub ours: File,
    /// The side of a program.
    pub theirs: OwnedFd,
    /// The path of that side.
    pub name: String,
}

impl Terminal {
    /// Makes one.
    pub fn open() -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).during("open a pty")?;
        grantpt(&ours).and_then(|()| unlockpt(&ours)).during("unlock a pty")?;
        let name = ptsname(&ours, Vec::new()).during("name a pty")?;
        let name = name.into_string().map_err(|error| Error::Unexpected(format!("the pty's name: {error}")))?;
        let theirs = open_node(&name)?;
        Ok(Self { ours: File::from(ours), theirs: theirs.into(), name })
    }

    /// How it is set.
    pub fn modes(&self) -> Result<Termios> {
        tcgetattr(&self.theirs).during("ask for the terminal's modes")
    }

    /// The flags of the program's side.
    pub fn flags(&self) -> Result<OFlags> {
        rustix::fs::fcntl_getfl(&self.theirs).during("ask for the flags of a descriptor")
    }

    /// The program's side once more, sharing its flags.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        self.theirs.as_fd().try_clone_to_owned().during("duplicate a descriptor")
    }
}

/// Opens the node of a terminal, which does not become this process's own.
pub fn open_node(name: &str) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let node = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).during(format!("open {name}"))?;
    Ok(node.into())
}

/// Greets a QMP monitor that writes to `input` and reads from `output`, and has it tell its state: both ways work.
pub fn speak_qmp(emulator: &Emulator, input: &File, mut output: &File) -> Result<()> {
    await_text(emulator, input, "\"QMP\"")?;
    output.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").during("write to the monitor")?;
    output.write_all(b"{\"execute\":\"query-status\"}\n").during("write to the monitor")?;
    await_text(emulator, input, "\"status\"")
}

/// Waits until the emulator has written `text` to `input`.
pub fn await_text(emulator: &Emulator, mut input: &File, text: &str) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(input).during("ask for the flags of a descriptor")?;
    rustix::fs::fcntl_setfl(input, flags | OFlags::NONBLOCK).during("stop blocking")?;
    let mut said = String::new();
    until(PATIENCE, text, || {
        let mut bytes = [0; 4096];
        match input.read(&mut bytes) {
            Ok(count) => said.push_str(&String::from_utf8_lossy(bytes.get(..count).unwrap_or_default())),
            // EIO: nobody is at the other side of the terminal yet.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::AGAIN | Errno::IO)) => {}
            Err(error) => return Err(error).during("read what the emulator writes"),
        }
        match (said.contains(text), emulator.process().is_running()) {
            (true, _) => Ok(Some(())),
            (false, true) => Ok(None),
            (false, false) => Err(Error::Unexpected(format!("the emulator ended; it wrote {said:?}"))),
        }
    })
    .map_err(|error| Error::Unexpected(format!("{error}; its standard error: {:?}", emulator.stderr())))
}
