//! `qemu-img`, `qemu-io`, `qemu-nbd` and `qemu-storage-daemon` under the broker: they do what they do without it, and
//! nothing that an image's header asks for.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hostile;
mod new_files;
mod same;
mod scene;
mod serving;
