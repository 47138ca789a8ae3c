//! The notifications that an agent has received and not yet answered, in memory that outlives it: whoever takes its
//! place finds them there, for the kernel hands each one out only once.

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::seccomp::{self, Notification};
use super::shared::{Shareable, Shared};

/// Notifications that are received and not yet answered, at most.
pub const SLOTS: usize = 64;

const FREE: u32 = 0;
const TAKEN: u32 = 1;

struct Slot {
    state: AtomicU32,
    notification: UnsafeCell<Notification>,
}

struct Table {
    emulator_executed: AtomicBool,
    slots: [Slot; SLOTS],
}

// SAFETY: a slot's notification is written by the one agent that lives at a time, and read by its successor only after
// its death; the rest are atomics.
unsafe impl Sync for Table {}

// SAFETY: all-zero bytes are a table of free slots. `state` and `emulator_executed` are only written by code of this
// file, with valid values, and each notification is plain numbers.
unsafe impl Shareable for Table {}

/// The table, shared between the agents of one guest. One agent uses it at a time.
pub struct InFlight {
    table: Shared<Table>,
}

impl InFlight {
    /// An empty table.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { table: Shared::zeroed()? })
    }

    /// Receives the next notification into a free slot; `None` when no slot is free.
    ///
    /// # Errors
    /// `ENOENT`: its caller died before.
    pub fn receive(&self, listener: BorrowedFd<'_>) -> io::Result<Option<(usize, Notification)>> {
        let free = |slot: &&Slot| slot.state.load(Ordering::Acquire) == FREE;
        let Some((index, slot)) = self.table.slots.iter().enumerate().find(|(_, slot)| free(slot)) else {
            return Ok(None);
        };
        // SAFETY: the slot is free, so no reference into it exists, and this process is the only agent; all zero is a
        // valid notification, and the state that the kernel asks for.
        let notification = unsafe { &mut *slot.notification.get() };
        *notification = zeroed();
        slot.state.store(TAKEN, Ordering::Release);
        match seccomp::receive(listener, notification) {
            Ok(()) => Ok(Some((index, *notification))),
            Err(error) => {
                slot.state.store(FREE, Ordering::Release);
                Err(error)
            }
        }
    }

    /// Whether a slot is free.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.table.slots.iter().any(|slot| slot.state.load(Ordering::Acquire) == FREE)
    }

    /// Frees a slot whose notification has been answered.
    pub fn release(&self, index: usize) {
        if let Some(slot) = self.table.slots.get(index) {
            slot.state.store(FREE, Ordering::Release);
        }
    }

    /// What a dead agent left unanswered. A slot that it was receiving into when it died is freed if the kernel had not
    /// filled it.
    #[must_use]
    pub fn unanswered(&self) -> Vec<(usize, Notification)> {
        let mut left = Vec::new();
        for (index, slot) in self.table.slots.iter().enumerate() {
            if slot.state.load(Ordering::Acquire) == FREE {
                continue;
            }
            // SAFETY: the only agent that wrote here is dead, and this process is its successor; the value is plain
            // numbers, copied out at once.
            let notification = unsafe { *slot.notification.get() };
            if notification.pid == 0 {
                slot.state.store(FREE, Ordering::Release);
            } else {
                left.push((index, notification));
            }
        }
        left
    }

    /// Takes the one permission to execute a program: true for the first who asks.
    #[must_use]
    pub fn take_execution(&self) -> bool {
        !self.table.emulator_executed.swap(true, Ordering::AcqRel)
    }
}

fn zeroed() -> Notification {
    let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
    Notification { id: 0, pid: 0, flags: 0, data }
}
