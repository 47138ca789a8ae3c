//! The prober: a process, confined to reading, that reads image headers, of which every byte may be hostile.
//!
//! [`Reader::probe`] is the program: open the pinned image, send it to the confined process, and judge what that says of
//! its header as if an attacker had written it.
//!
//! One process serves one chain, not all: an image that takes it over can lie about those that it is sent later, and
//! those are files that the image could have named anyhow. About another disk it can say nothing.
//!
//! The readers are written here and not taken from the crate `imago`, which knows qcow2, vmdk and raw. It reads a header
//! into vectors as long as the header says, brings locks and caches along (and parts of tokio, unless built otherwise),
//! and opens an image to be used, tables included; and what is named is what *it* would open. Here nothing is allocated,
//! so that the filter needs no call for memory; what is read are names; and what counts is what QEMU would open.

pub mod answer;
pub mod detect;
pub mod header;
mod process;
mod qcow;
mod qcow2;
mod qed;
#[cfg(test)]
mod testing;
mod vhdx;
mod vmdk;
mod vpc;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::OFlags;
use sandbox_profiles::{Profile, Program, Variant};

use crate::confine::seccomp;
use crate::open::pin::Pin;
use answer::{Question, answer, judge};
pub use header::Found;
use header::{Format, HeaderError, Scratch};
use process::{ANSWER_LIMIT, Process, QUESTION_LIMIT};
pub use process::{End, NotConfined, Step};

/// How long one header may take: a slow file server answers in less, and an operator waits for no more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the processes that read headers.
#[derive(Debug)]
pub struct Prober {
    filter: Program,
}

impl Prober {
    /// Compiles the filter once; the processes only install it.
    ///
    /// # Errors
    /// [`seccomp::Error::Compile`]: the profile is not for this machine.
    pub fn new() -> Result<Self, seccomp::Error> {
        Ok(Self { filter: seccomp::compile(Profile::Prober, &Variant::default())? })
    }

    /// A reader of the headers of one chain.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { prober: self, state: State::Unused, asked: 0, buffer: Vec::new() }
    }
}

/// Reads the headers of one chain in one process, which is started for the first that is read, and ends with this.
#[derive(Debug)]
pub struct Reader<'p> {
    prober: &'p Prober,
    state: State,
    /// How many questions were asked.
    asked: u32,
    /// Room for the longest answer, once there is a process.
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Unused,
    Running(Process),
    /// It did what no honest process does, and is gone.
    GivenUp,
}

impl Reader<'_> {
    /// Reads the header of `image`, which must be a regular file or a block device. With no `stated` format it is
    /// taken for what QEMU would take it for; an image that is stated to be raw is not read at all.
    ///
    /// # Errors
    /// [`Error`]; its messages are about the image and do not name it. After one that is not about opening the image or
    /// about its header, every later call fails too.
    pub fn probe(&mut self, image: &Pin, stated: Option<Format>) -> Result<Found, Error> {
        if stated == Some(Format::Raw) {
            return Ok(Found::raw());
        }
        // Without O_NONBLOCK a lease that somebody holds on the file would make the broker wait.
        let image = image.reopen(OFlags::RDONLY | OFlags::NONBLOCK).map_err(Error::Open)?;
        // Taken out, so that every error but an honest one leaves it given up, and the process ended.
        let mut process = match std::mem::replace(&mut self.state, State::GivenUp) {
            State::Unused => self.start()?,
            State::Running(process) => process,
            State::GivenUp => return Err(Error::GivenUp),
        };
        self.asked = self.asked.checked_add(1).ok_or(Error::GivenUp)?;
        let question = Question { number: self.asked, stated };
        let mut encoded = [0; QUESTION_LIMIT];
        let bytes = process.ask(question.encode(&mut encoded), image.as_fd(), PATIENCE, &mut self.buffer)?;
        let judged = judge(bytes, question);
        if matches!(judged, Ok(_) | Err(Error::Header(_))) {
            self.state = State::Running(process);
        }
        judged
    }

    fn start(&mut self) -> Result<Process, Error> {
        self.buffer.resize(ANSWER_LIMIT, 0);
        // All of its memory, before there is a filter.
        let mut scratch = Box::new(Scratch::default());
        let task = |image: std::os::fd::BorrowedFd<'_>, question: &[u8], buffer: &mut [u8; ANSWER_LIMIT]| {
            answer(&image, question, &mut scratch, buffer)
        };
        Ok(Process::start(&self.prober.filter, PATIENCE, task)?)
    }
}

/// Why nothing is known about an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `open(2)`.
    #[error("cannot open it for reading: {0}{hint}", hint = open_hint(.0))]
    Open(io::Error),
    /// The process.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// An answer that the code above never gives.
    #[error("the prober's answer makes no sense; take the image for hostile")]
    Nonsense,
    /// An earlier image of the same chain.
    #[error("it is not read, for the prober failed at an image above it")]
    GivenUp,
    /// The image.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// What to do about a failed open.
fn open_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => "; give the user who starts broker the right to read it",
        Some(libc::EAGAIN) => "; another program holds a lease on it: stop that program, or try again",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
