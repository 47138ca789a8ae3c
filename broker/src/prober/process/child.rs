//! What runs behind the fork: confine, then read one image after the other and answer.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::stdio::{dup2_stdin, stdin};
use sandbox_profiles::Program;
use serde::{Deserialize, Serialize};

use super::{ANSWER_LIMIT, HELLO_LIMIT, QUESTION_LIMIT};
use crate::confine::seccomp::{self, install_program};
use crate::sys::process::{close_range, exit_now};

/// What the child does; it must neither return nor unwind into the parent's code. Behind the filter nothing may
/// allocate.
pub(super) fn serve(
    socket: &OwnedFd,
    filter: &Program,
    mut task: impl FnMut(BorrowedFd<'_>, &[u8], &mut [u8; ANSWER_LIMIT]) -> usize,
) -> ! {
    let mut answer = [0; ANSWER_LIMIT];
    let confined = confine(socket, filter);
    greet(socket, confined);
    if confined.is_err() {
        exit_now(0)
    }
    loop {
        let mut question = [0; QUESTION_LIMIT];
        let Some((length, image)) = receive(&mut question) else { exit_now(0) };
        let length = task(image.as_fd(), question.get(..length).unwrap_or_default(), &mut answer);
        // Before the answer, after which the next one may come. Not by dropping it: where assertions are on, the
        // standard library asks the kernel first whether it is open.
        if close_range(image.into_raw_fd(), RawFd::MAX).is_err() {
            exit_now(0)
        }
        let bytes = answer.get(..length).unwrap_or_default();
        // A parent that no longer reads needs no answer, and there is nobody else to tell.
        if rustix::io::write(stdin(), bytes).is_err() {
            exit_now(0)
        }
    }
}

/// Says whether the process is confined, so that only then it is sent an image.
fn greet(socket: &OwnedFd, confined: Result<(), NotConfined>) {
    let mut buffer = [0; HELLO_LIMIT];
    let bytes = postcard::to_slice(&confined, &mut buffer).map(|bytes| &*bytes).unwrap_or_default();
    let unmoved = matches!(confined, Err(NotConfined { step: Step::Socket, .. }));
    let socket = if unmoved { socket.as_fd() } else { stdin() };
    // As above.
    let _ = rustix::io::write(socket, bytes);
}

/// Waits for a question and its image; `None` when the parent has gone, or sent something else.
fn receive(question: &mut [u8; QUESTION_LIMIT]) -> Option<(usize, OwnedFd)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(stdin(), &mut [IoSliceMut::new(question)], &mut control, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            other => break other.ok()?,
        }
    };
    let image = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })?;
    Some((received.bytes, image))
}

/// Confines this process for good.
fn confine(socket: &OwnedFd, filter: &Program) -> Result<(), NotConfined> {
    // First everything that could be misused.
    keep_only(socket)?;
    // If the broker dies, nobody waits for an answer.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(NotConfined::at(Step::DeathSignal))?;
    // Nobody of the same user may trace this process, nor read the image through it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(NotConfined::at(Step::Dumpable))?;
    limit_resources().map_err(NotConfined::at(Step::Limits))?;
    // The kernel wants this before a filter, and no set-uid program may undo it.
    rustix::thread::set_no_new_privs(true).map_err(NotConfined::at(Step::NoNewPrivileges))?;
    // The filter last, so that it need not allow anything of the above.
    install_program(filter).map_err(|error| match error {
        seccomp::Error::Install(source) => NotConfined::at(Step::Filter)(source),
        _ => NotConfined::at(Step::Filter)(Errno::INVAL),
    })
}

/// Closes every descriptor but `socket`, standard streams included.
pub(super) fn keep_only(socket: &OwnedFd) -> Result<(), NotConfined> {
    // As number 0, so that number 1 is the only one that is left below the limit: at most one image at a time.
    dup2_stdin(socket).map_err(NotConfined::at(Step::Socket))?;
    close_range(1, RawFd::MAX).map_err(NotConfined::at(Step::Descriptors))
}

/// A second lock behind the filter: what a hole in it would still not give.
fn limit_resources() -> Result<(), Errno> {
    const LIMITS: [(Resource, u64); 7] = [
        // Seconds; a header is read in less than a thousandth of one, and a chain has a few hundred.
        (Resource::Cpu, 4),
        // Bytes; more than the copy of the broker that this process is, and it may not grow anyway.
        (Resource::As, 256 << 20),
        (Resource::Fsize, 0),
        // The socket and one image; the kernel counts what arrives by a socket too.
        (Resource::Nofile, 2),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::Core, 0),
    ];
    LIMITS.iter().try_for_each(|(resource, most)| {
        rustix::process::setrlimit(*resource, Rlimit { current: Some(*most), maximum: Some(*most) })
    })
}

/// The step of the confinement that failed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("cannot confine the prober: {step}: {}", io::Error::from_raw_os_error(*errno))]
pub struct NotConfined {
    /// What was tried.
    pub step: Step,
    /// What the kernel said.
    pub errno: i32,
}

impl NotConfined {
    fn at<E: Into<io::Error>>(step: Step) -> impl FnOnce(E) -> Self {
        move |error| Self { step, errno: error.into().raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// A step of the confinement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// `dup2(2)`.
    Socket,
    /// `close_range(2)`.
    Descriptors,
    /// `PR_SET_PDEATHSIG`.
    DeathSignal,
    /// `PR_SET_DUMPABLE`.
    Dumpable,
    /// `setrlimit(2)`.
    Limits,
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// `seccomp(2)`.
    Filter,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Socket => "moving its socket",
            Self::Descriptors => "closing other descriptors (Linux 5.9 or newer is needed)",
            Self::DeathSignal => "PR_SET_PDEATHSIG",
            Self::Dumpable => "PR_SET_DUMPABLE",
            Self::Limits => "setrlimit",
            Self::NoNewPrivileges => "PR_SET_NO_NEW_PRIVS",
            Self::Filter => "installing the system call filter (CONFIG_SECCOMP_FILTER is needed)",
        })
    }
}
