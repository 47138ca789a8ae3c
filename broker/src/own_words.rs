//! QEMU's own words for an option that cannot be understood.
//!
//! Before the start fails, the emulator is asked what it says to this option: in a sandbox as of `-help`, in which nothing
//! is granted, with words by which it always ends before there is a guest. What it says, and the status with which it ends,
//! are then those of the start, so that whoever looks for them finds them. If it takes the option, because it is newer than
//! what the broker knows, or if it cannot be asked, the broker's own words stand.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};
use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;
use rustix::time::Timespec;

use crate::emulator::Mistake;
use crate::open::inherited;
use crate::sys::process::{self, Fork};

/// How long the emulator may take to answer; it does so in a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the kernel ends the emulator, in seconds, if nobody else did: whoever asked may have been killed.
const LIFETIME: u32 = 12;

/// The most that is read of an answer, in bytes.
const LONGEST: usize = 64 << 10;

/// What the emulator says, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its standard error.
    pub said: String,
    /// Its exit status, which is not 0.
    pub status: u8,
}

/// Asks about `mistake`: `become_emulator` makes a new process the emulator, and returns only if it cannot. None: there is
/// no answer.
pub fn ask(mistake: &Mistake, become_emulator: impl FnOnce()) -> Option<Answer> {
    // Where the ends of children are ignored, nobody can wait for one.
    process::restore_default(Signal::SIGCHLD).ok()?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).ok()?;
    let child = match process::fork().ok()? {
        Fork::Child => {
            drop(reader);
            if limit_life().is_ok() && alone_with(writer).is_ok() {
                become_emulator();
            }
            process::exit_now(0)
        }
        Fork::Parent(child) => child,
    };
    drop(writer);
    let said = read(reader);
    if said.is_err() {
        // It is our child, and nobody has waited for it: the number is still its own.
        let _ = kill(child, Signal::SIGKILL);
    }
    let status = wait(child)?;
    let said = said.ok()?;
    // What begins so is the broker's: something was missing in the sandbox, and the answer may be about that.
    let own = said.lines().any(|line| line.starts_with("broker: "));
    (status != 0 && !own && mistake.is_answered_by(&said)).then_some(Answer { said, status })
}

/// Lets this process, and the program that it will execute, live for [`LIFETIME`]. Its helpers end with it.
fn limit_life() -> io::Result<()> {
    process::restore_default(Signal::SIGALRM)?;
    SigSet::from(Signal::SIGALRM).thread_unblock()?;
    alarm::set(LIFETIME);
    Ok(())
}

/// Leaves this process no descriptor of the caller's: nothing to read, and `output` to complain to.
fn alone_with(output: OwnedFd) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&output)?;
    drop((null, output));
    inherited::keep_only(&BTreeSet::new()).map_err(io::Error::other)
}

/// All that comes until nobody has the other end any more.
fn read(pipe: OwnedFd) -> io::Result<String> {
    let (mut pipe, end) = (File::from(pipe), Instant::now() + PATIENCE);
    let mut said = Vec::new();
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).unwrap_or_default();
        let ready = rustix::event::poll(&mut [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)], Some(&left))?;
        if ready == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut part = [0; 4096];
        let count = pipe.read(&mut part)?;
        said.extend_from_slice(part.get(..count).unwrap_or_default());
        if said.len() > LONGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if count == 0 {
            return Ok(String::from_utf8_lossy(&said).into_owned());
        }
    }
}

/// The exit status of `child`, unless a signal ended it.
fn wait(child: Pid) -> Option<u8> {
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, status)) => u8::try_from(status).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_emulator_ends_when_nobody_waits_for_it() {
        let asked = ask(&Mistake { argv: Vec::new() }, || {
            let left = alarm::cancel().unwrap_or_default();
            let _ = rustix::io::write(rustix::stdio::stderr(), b"it is about the option");
            process::exit_now(i32::try_from(left).unwrap_or_default());
        });
        let Answer { said, status } = asked.unwrap();
        assert_eq!(said, "it is about the option");
        assert!((1..=LIFETIME).contains(&u32::from(status)), "{status}");
        // The alarm is deaf to nobody's wishes: whatever the caller ignores or blocks, it ends the process.
        process::ignore(Signal::SIGALRM).unwrap();
        SigSet::from(Signal::SIGALRM).thread_block().unwrap();
        let asked = ask(&Mistake { argv: Vec::new() }, || {
            let _ = rustix::io::write(rustix::stdio::stderr(), b"too late");
            let _ = kill(nix::unistd::getpid(), Signal::SIGALRM);
            process::exit_now(1);
        });
        assert_eq!(asked, None);
        SigSet::from(Signal::SIGALRM).thread_unblock().unwrap();
        process::restore_default(Signal::SIGALRM).unwrap();
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_bounded() {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut writer = File::from(writer);
        writer.write_all(b"qemu: no\nmore").unwrap();
        drop(writer);
        assert_eq!(read(reader).unwrap(), "qemu: no\nmore");
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut writer = File::from(writer);
        let flood = std::thread::spawn(move || while writer.write_all(&[b'x'; 4096]).is_ok() {});
        assert!(read(reader).is_err());
        flood.join().unwrap();
    }
}
