//! How much was created for one emulator: files that exist at a time, and what they take up on disk.
//!
//! The bytes are looked at when another file is to be created. What the emulator writes into a file that it has is
//! bounded by the file system alone: no process can be stopped from writing through a descriptor that it holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::open::pin::Pin;

/// Bytes of a block as `stat(2)` counts them, whatever the file system's own are.
const BLOCK: u64 = 512;

/// What may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    /// Files that may exist at a time.
    pub files: u32,
    /// Bytes that they may take up on disk until another one is created.
    pub bytes: u64,
}

impl Default for Limits {
    /// A chain of 32 live snapshots is slow already; 1 TiB is more than most disks of guests.
    fn default() -> Self {
        Self { files: 32, bytes: 1 << 40 }
    }
}

/// The files that were created and still take up room.
#[derive(Debug)]
pub struct Ledger {
    /// What may be created.
    pub limits: Limits,
    /// Held for a few instructions at a time.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    created: Vec<Created>,
    /// Places that are taken by files which are being created.
    reserved: u32,
    /// What the files took up when it was last looked at.
    bytes: u64,
    /// Files that somebody else has removed, by device and inode number, until they are taken.
    gone: Vec<(u64, u64)>,
}

#[derive(Debug, Clone)]
struct Created {
    pin: Arc<Pin>,
    /// The emulator had its name removed; it may still have it open, and go on to fill it.
    removed: bool,
}

/// Why nothing more may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// As many files exist as may.
    Files,
    /// They take up what they may.
    Bytes,
}

/// The right to create one file. Given back when it is dropped.
#[derive(Debug)]
pub struct Reservation<'a> {
    ledger: &'a Ledger,
}

impl Ledger {
    /// Nothing created yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Nothing created yet, and no bounds.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(Limits { files: u32::MAX, bytes: u64::MAX })
    }

    /// Takes a place for one more file. Looks at all that exist, so it may wait for a file server.
    ///
    /// # Errors
    /// [`Full`].
    pub fn reserve(&self) -> Result<Reservation<'_>, Full> {
        let created = self.lock().created.clone();
        let (mut bytes, mut gone) = (0_u64, Vec::new());
        for Created { pin, removed } in created {
            match rustix::fs::fstat(pin.as_ref()) {
                Ok(status) if status.st_nlink > 0 || removed => {
                    let blocks = u64::try_from(status.st_blocks).unwrap_or(0);
                    bytes = u64::saturating_add(bytes, blocks.saturating_mul(BLOCK));
                }
                // The operator has removed it, or its server has lost it.
                _ => gone.push(pin.identity()),
            }
        }
        let mut state = self.lock();
        state.created.retain(|created| !gone.contains(&created.pin.identity()));
        state.gone.extend(gone);
        state.bytes = bytes;
        if state.files().saturating_add(state.reserved) >= self.limits.files {
            return Err(Full::Files);
        }
        if bytes >= self.limits.bytes {
            return Err(Full::Bytes);
        }
        state.reserved += 1;
        Ok(Reservation { ledger: self })
    }

    /// How many files there were when it was last looked at, and their bytes.
    #[must_use]
    pub fn used(&self) -> (u32, u64) {
        let state = self.lock();
        (state.files(), state.bytes)
    }

    /// Notes, before it is done, that the emulator has the name of a file removed. The file counts for as long as the guest
    /// runs, for nobody can tell whether the emulator still has it open.
    pub fn note_removal(&self, pin: &Pin, removed: bool) {
        let mut state = self.lock();
        let files = state.created.iter_mut().filter(|created| created.pin.identity() == pin.identity());
        files.for_each(|created| created.removed = removed);
    }

    /// The files that were found to be removed by somebody else since this was last asked, by device and inode number.
    #[must_use]
    pub fn take_gone(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.lock().gone)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn files(&self) -> u32 {
        u32::try_from(self.created.len()).unwrap_or(u32::MAX)
    }
}

impl Reservation<'_> {
    /// Enters the file that was created.
    pub fn fill(self, pin: &Arc<Pin>) {
        self.ledger.lock().created.push(Created { pin: Arc::clone(pin), removed: false });
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.ledger.lock().reserved -= 1;
    }
}
