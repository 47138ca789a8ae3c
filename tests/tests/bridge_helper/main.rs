//! The bridge helper, installed in each way, with honest and with hostile callers.

mod answers;
mod hostile;
mod qemu;
mod rights;
mod scene;
