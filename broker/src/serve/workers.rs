//! Work on other threads: an open may block for ever (a hung server, a lease), and one stuck file must not delay a request
//! for another.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags};

use super::work::{Carried, Failure, Neighbourhood, Work};
use crate::confine::capabilities;

/// Threads at most: as many as one client has requests, so that none of these waits behind a stuck one. A file, or the
/// look-ups of a name, hold no more of them than their [`Neighbourhood`] says.
const MAX_THREADS: usize = protocol::MAX_IN_FLIGHT;

/// Bytes of stack for a thread that makes a few system calls with names of 4096 bytes.
const STACK: usize = 128 * 1024;

/// Which request of which session a job answers.
pub type Ticket = u64;

/// Something to be carried out.
#[derive(Debug)]
pub struct Job {
    /// Comes back with the result.
    pub ticket: Ticket,
    /// What to do.
    pub work: Work,
}

/// Something that was carried out.
#[derive(Debug)]
pub struct Done {
    /// The job's.
    pub ticket: Ticket,
    /// What it came to.
    pub result: Result<Carried, Failure>,
    /// Where it was done.
    pub places: Vec<Neighbourhood>,
}

#[derive(Debug)]
struct Queues {
    state: Mutex<State>,
    work: Condvar,
    /// Readable while results wait.
    results_wait: OwnedFd,
    /// `/proc/self/fd`, as an `O_PATH` descriptor.
    own_descriptors: OwnedFd,
    has_image_user: bool,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    results: VecDeque<Done>,
    threads: usize,
    idle: usize,
    /// Threads that are in each neighbourhood.
    busy: HashMap<Neighbourhood, usize>,
}

/// The threads. They are started when there is work for them, after the process was confined.
#[derive(Debug)]
pub struct Workers {
    queues: Arc<Queues>,
}

impl Workers {
    /// No thread yet. With an image user (`--image-user`) images are opened without root's rights to others' files.
    ///
    /// # Errors
    /// `EMFILE`: no descriptor is left. `ENOENT`: `/proc` is not mounted.
    pub fn new(has_image_user: bool) -> io::Result<Self> {
        let results_wait = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own_descriptors = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        let (state, work) = (Mutex::default(), Condvar::new());
        Ok(Self { queues: Arc::new(Queues { state, work, results_wait, own_descriptors, has_image_user }) })
    }

    /// Hands a job to a thread that is idle, or to a new one, or leaves it in the queue.
    ///
    /// # Errors
    /// `EAGAIN`: no thread is there, and none can be started. `EBUSY`: it would wait behind others for a FIFO's reader.
    pub fn submit(&self, job: Job) -> io::Result<()> {
        let mut state = self.queues.lock();
        if job.work.awaits_a_reader() && state.is_full(&job.work) {
            return Err(rustix::io::Errno::BUSY.into());
        }
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

    /// Has a descriptor closed on a thread.
    pub fn close(&self, descriptor: OwnedFd, places: Vec<Neighbourhood>) {
        // Where no thread can be had it is closed here.
        let _ = self.submit(Job { ticket: Ticket::MAX, work: Work::Close(descriptor, places) });
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
            let Job { ticket, work } = self.next_job();
            let neighbourhoods = work.neighbourhoods();
            let result = self.carry_out(work);
            let mut state = self.lock();
            state.leave(&neighbourhoods);
            if matches!(result, Ok(Carried::Closed)) {
                continue;
            }
            state.results.push_back(Done { ticket, result, places: neighbourhoods });
            drop(state);
            // Cannot fail short of 2^64 results.
            let _ = rustix::io::write(&self.results_wait, &1_u64.to_ne_bytes());
        }
    }

    fn carry_out(&self, work: Work) -> Result<Carried, Failure> {
        if self.has_image_user {
            let laid_down = capabilities::lay_down_override(work.is_on_images());
            laid_down.map_err(|_| io::Error::from_raw_os_error(libc::EPERM))?;
        }
        work.carry_out(self.own_descriptors.as_fd())
    }

    fn next_job(&self) -> Job {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.take_job() {
                return job;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

impl State {
    /// The oldest job whose neighbourhoods have room for another thread.
    fn take_job(&mut self) -> Option<Job> {
        let busy = &self.busy;
        let has_room = |place: &Neighbourhood| busy.get(place).is_none_or(|threads| *threads < place.threads);
        let can_go = |job: &Job| job.work.neighbourhoods().iter().all(has_room);
        let job = self.jobs.iter().position(can_go).and_then(|position| self.jobs.remove(position))?;
        for neighbourhood in job.work.neighbourhoods() {
            *self.busy.entry(neighbourhood).or_default() += 1;
        }
        Some(job)
    }

    /// Whether there are, at work or queued, as many jobs as may be at once where `work` is done. Opens of one FIFO that
    /// all wait for a reader would else be all the requests that a client may have.
    fn is_full(&self, work: &Work) -> bool {
        work.neighbourhoods().iter().any(|place| {
            let queued = self.jobs.iter().filter(|job| job.work.neighbourhoods().contains(place)).count();
            queued + self.busy.get(place).copied().unwrap_or_default() >= place.threads
        })
    }

    fn leave(&mut self, neighbourhoods: &[Neighbourhood]) {
        for neighbourhood in neighbourhoods {
            if let Some(threads) = self.busy.get_mut(neighbourhood) {
                *threads -= 1;
                if *threads == 0 {
                    self.busy.remove(neighbourhood);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;
    use std::sync::atomic::AtomicBool;

    use protocol::OpenFlags;
    use rustix::fs::{CWD, FileType};

    use super::*;
    use crate::open::pin::Pin;
    use crate::serve::grants::{Access, Grant, Role};

    #[test]
    fn opens_that_wait_for_a_fifos_reader_do_not_pile_up() {
        let path = std::env::temp_dir().join(format!("broker-fifo-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let grant = Arc::new(Grant {
            role: Role::Output,
            option: String::new(),
            access: Access::WriteOnly,
            pin: Arc::new(Pin::take(&path).unwrap()),
            view: None,
            name: Vec::new(),
            home: None,
            opened: AtomicBool::new(false),
        });
        let workers = Workers::new(false).unwrap();
        let submit = |ticket, flags: i32| {
            let flags = OpenFlags::from_linux(flags).unwrap();
            workers.submit(Job { ticket, work: Work::Open(Arc::clone(&grant), flags) })
        };
        for ticket in 1..=2 {
            submit(ticket, libc::O_WRONLY).unwrap();
        }
        let full = submit(3, libc::O_WRONLY).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::EBUSY));
        // Once there is a reader both get on, and so does the next one.
        let reader = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let result = || loop {
            if let Some(done) = workers.take_result() {
                return done.result;
            }
            let mut wait = [rustix::event::PollFd::new(&workers, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut wait, None).unwrap();
        };
        assert!(result().is_ok() && result().is_ok());
        submit(4, libc::O_WRONLY).unwrap();
        assert!(result().is_ok());
        drop(reader);
        std::fs::remove_file(&path).unwrap();
    }
}
