//! How much was created for one emulator: files that exist at a time, and what they take up on disk.
//!
//! The bytes are looked at when another file is to be created. What the emulator writes into a file that it has is
//! bounded by the file system alone: no process can be stopped from writing through a descriptor that it holds.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
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

/// The files that were created and still exist.
#[derive(Debug)]
pub struct Ledger {
    /// What may be created.
    pub limits: Limits,
    pins: Mutex<Pins>,
    files: AtomicU32,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Pins {
    created: Vec<Arc<Pin>>,
    /// Places that are taken by files which are being created.
    reserved: u32,
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
        Self { limits, pins: Mutex::default(), files: AtomicU32::new(0), bytes: AtomicU64::new(0) }
    }

    /// Takes a place for one more file. Looks at all that exist, so it may wait for a file server.
    ///
    /// # Errors
    /// [`Full`].
    pub fn reserve(&self) -> Result<Reservation<'_>, Full> {
        let mut pins = self.lock();
        let mut bytes = 0;
        // A file whose last name is gone is the emulator's own affair, and so is one that its server has lost.
        pins.created.retain(|pin| match rustix::fs::fstat(pin.as_ref()) {
            Ok(status) if status.st_nlink > 0 => {
                bytes += u64::try_from(status.st_blocks).unwrap_or(0) * BLOCK;
                true
            }
            _ => false,
        });
        let files = u32::try_from(pins.created.len()).unwrap_or(u32::MAX);
        self.files.store(files, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        if files.saturating_add(pins.reserved) >= self.limits.files {
            return Err(Full::Files);
        }
        if bytes >= self.limits.bytes {
            return Err(Full::Bytes);
        }
        pins.reserved += 1;
        Ok(Reservation { ledger: self })
    }

    /// How many files there were when it was last looked at, and their bytes. Never waits.
    #[must_use]
    pub fn used(&self) -> (u32, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Forgets a file that was removed.
    pub fn forget(&self, pin: &Pin) {
        let mut pins = self.lock();
        pins.created.retain(|created| created.identity() != pin.identity());
        self.files.store(u32::try_from(pins.created.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Pins> {
        // No code that holds the lock can panic half-way through a change.
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation<'_> {
    /// Enters the file that was created.
    pub fn fill(self, pin: &Arc<Pin>) {
        let mut pins = self.ledger.lock();
        pins.created.push(Arc::clone(pin));
        self.ledger.files.store(u32::try_from(pins.created.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.ledger.lock().reserved -= 1;
    }
}
