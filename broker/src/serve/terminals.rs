//! The pseudo-terminals of one guest: made on request, as the operator, and no more than a few at a time.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::OpenFlags;

use super::grants::{Access, Grant, Role};
use super::refusal::Refusal;
use super::work::{Carried, Failure, open_flags, reopen};
use crate::open::pin::Pin;
use crate::open::terminal::{Multiplexer, is_gone, node_of};

/// Terminals of one guest that may be open at a time. The host has 4096 for everybody (`kernel.pty.max`).
pub const MOST: usize = 64;

/// What makes them, and those that were made.
#[derive(Debug)]
pub struct Terminals {
    multiplexer: Multiplexer,
    /// The node of each.
    made: Mutex<Vec<Arc<Pin>>>,
}

impl Terminals {
    /// None so far.
    #[must_use]
    pub fn new(multiplexer: Multiplexer) -> Self {
        Self { multiplexer, made: Mutex::new(Vec::new()) }
    }

    /// Device and inode number of the multiplexer.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        self.multiplexer.device.identity()
    }

    /// Makes one: its other side for the emulator, and a grant of its node, which the emulator opens next. The C library
    /// tries TIOCGPTPEER before that, which Landlock refuses inside the sandbox.
    ///
    /// # Errors
    /// [`Failure::Refused`]: too many are open, as `ENOSPC`, by which the kernel says the same of the whole host.
    pub fn make(&self, own_descriptors: BorrowedFd<'_>, flags: OpenFlags) -> Result<Carried, Failure> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|node| !is_gone(node));
        if made.len() >= MOST {
            return Err(Failure::Refused(Refusal::too_many_terminals(MOST), rustix::io::Errno::NOSPC));
        }
        let master = reopen(own_descriptors, self.multiplexer.device.as_fd(), open_flags(flags))?;
        let (name, node) = node_of(master.as_fd())?;
        let pin = Arc::new(node);
        made.push(Arc::clone(&pin));
        let grant = Grant {
            role: Role::Terminal,
            option: "-chardev pty".to_owned(),
            access: Access::ReadWrite,
            pin,
            view: None,
            name,
            home: None,
            opened: AtomicBool::new(true),
        };
        Ok(Carried::Made(master, Arc::new(grant)))
    }
}
