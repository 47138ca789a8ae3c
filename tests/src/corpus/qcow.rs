//! qcow, version 1 of qcow2 (`QCowHeader`, block/qcow.c of QEMU): an empty disk of 1 MiB that may have a backing file,
//! of which nobody can state the format.

use super::layout::{Layout, length_of};

/// Bytes in the header (`sizeof(QCowHeader)`, with what aligns its last field).
const HEADER: usize = 48;
/// Bytes that the L1 table may begin behind; the longest name has room before them.
const L1_TABLE: usize = 2048;
/// The size of the guest's disk in bytes.
const DISK: u64 = 1 << 20;

/// An image over `backing`, if that is not empty. `stated_length` is the length that the header gives for the name, if
/// not its own.
#[must_use]
pub fn qcow(backing: &[u8], stated_length: Option<u32>) -> Vec<u8> {
    let mut image = Layout::default();
    image.put(0, b"QFI\xfb");
    image.put(4, &1_u32.to_be_bytes());
    if !backing.is_empty() {
        image.put(8, &u64::try_from(HEADER).unwrap_or(0).to_be_bytes());
        image.put(16, &stated_length.unwrap_or_else(|| length_of(backing)).to_be_bytes());
    }
    image.put(24, &DISK.to_be_bytes());
    // Clusters of 4 KiB and L2 tables of 512 entries, as qemu-img makes them for an image without a backing file.
    image.put(32, &[12, 9]);
    image.put(40, &u64::try_from(L1_TABLE).unwrap_or(0).to_be_bytes());
    image.put(HEADER, backing);
    image.grow(L1_TABLE + 512);
    image.bytes()
}
