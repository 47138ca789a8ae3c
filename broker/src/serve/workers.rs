//! Opening and removing on other threads: either may block for ever (a hung server, a lease), and one stuck file must not
//! delay a request for another.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags};

use super::grants::Grant;
use crate::open::output;

/// Threads at most. Jobs beyond it wait; a session has at most [`protocol::MAX_IN_FLIGHT`] of them.
const MAX_THREADS: usize = 16;

/// Bytes of stack for a thread that makes one system call.
const STACK: usize = 64 * 1024;

/// Which request of which session a job answers.
pub type Ticket = u64;

/// Something to be carried out.
#[derive(Debug)]
pub struct Job {
    /// Comes back with the result.
    pub ticket: Ticket,
    /// The file.
    pub grant: Arc<Grant>,
    /// What to do with it.
    pub work: Work,
}

/// What is done with a granted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Open it anew, with these flags.
    Open(OFlags),
    /// Remove its name.
    Remove,
}

/// Something that was carried out.
#[derive(Debug)]
pub struct Done {
    /// The job's.
    pub ticket: Ticket,
    /// The new descriptor, where there is one, or what the system call said.
    pub result: io::Result<Option<OwnedFd>>,
}

#[derive(Debug)]
struct Queues {
    state: Mutex<State>,
    work: Condvar,
    /// Readable while results wait.
    results_wait: OwnedFd,
    /// `/proc/self/fd`, as an `O_PATH` descriptor.
    own_descriptors: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    results: VecDeque<Done>,
    threads: usize,
    idle: usize,
}

/// The threads. They are started when there is work for them, after the process was confined.
#[derive(Debug)]
pub struct Workers {
    queues: Arc<Queues>,
}

impl Workers {
    /// No thread yet.
    ///
    /// # Errors
    /// `EMFILE`: no descriptor is left. `ENOENT`: `/proc` is not mounted.
    pub fn new() -> io::Result<Self> {
        let results_wait = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own_descriptors = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        let (state, work) = (Mutex::default(), Condvar::new());
        Ok(Self { queues: Arc::new(Queues { state, work, results_wait, own_descriptors }) })
    }

    /// Hands a job to a thread that is idle, or to a new one, or leaves it in the queue.
    ///
    /// # Errors
    /// `EAGAIN`: no thread is there, and none can be started.
    pub fn submit(&self, job: Job) -> io::Result<()> {
        let mut state = self.queues.lock();
        state.jobs.push_back(job);
        if state.jobs.len() > state.idle && state.threads < MAX_THREADS {
            let queues = Arc::clone(&self.queues);
            let started = thread::Builder::new().stack_size(STACK).spawn(move || queues.work());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.jobs.clear();
                    return Err(error);
                }
                // The threads that there are do it later.
                Err(_) => {}
            }
        }
        drop(state);
        self.queues.work.notify_one();
        Ok(())
    }

    /// Forgets a job that no thread has taken yet, so that requests behind stuck ones do not pile up.
    pub fn cancel(&self, ticket: Ticket) {
        self.queues.lock().jobs.retain(|job| job.ticket != ticket);
    }

    /// A result, if one waits.
    #[must_use]
    pub fn take_result(&self) -> Option<Done> {
        let mut state = self.queues.lock();
        let done = state.results.pop_front();
        if done.is_none() {
            let mut count = [0; 8];
            // EAGAIN: nobody had counted.
            let _ = rustix::io::read(&self.queues.results_wait, &mut count);
        }
        done
    }
}

/// Readable while results wait.
impl AsFd for Workers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queues.results_wait.as_fd()
    }
}

impl Queues {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let job = self.next_job();
            let result = match job.work {
                Work::Open(flags) => self.open(&job.grant, flags).map(Some),
                Work::Remove => remove(&job.grant).map(|()| None),
            };
            self.lock().results.push_back(Done { ticket: job.ticket, result });
            // Cannot fail short of 2^64 results.
            let _ = rustix::io::write(&self.results_wait, &1_u64.to_ne_bytes());
        }
    }

    fn next_job(&self) -> Job {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return job;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Opens the pinned inode anew: a new file description, with no lock and no flag shared with any other.
    fn open(&self, grant: &Grant, flags: OFlags) -> io::Result<OwnedFd> {
        let number = rustix::path::DecInt::from_fd(grant.source());
        let opened = rustix::fs::openat(&self.own_descriptors, number, flags, Mode::empty())?;
        grant.opened.store(true, Ordering::Relaxed);
        Ok(opened)
    }
}

/// Removes the name of a file that the broker made for the emulator, if it still is that file's name.
fn remove(grant: &Grant) -> io::Result<()> {
    let home = grant.home.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    output::remove(home, &grant.pin)
}
