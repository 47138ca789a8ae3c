//! qed (docs/interop/qed_spec.txt of QEMU): an empty disk of 1 MiB.

use super::layout::{Layout, length_of};

/// Bytes in a cluster; the least that is allowed.
const CLUSTER: usize = 4096;
/// The size of the guest's disk in bytes.
const DISK: u64 = 1 << 20;
/// Where the backing file's name is put, in bytes: behind the header's fields.
const NAME: usize = 64;

/// The feature bit that says that there is a backing file.
pub const BACKING_FILE: u64 = 1;
/// The feature bit that says that the backing file is raw.
pub const BACKING_FORMAT_NO_PROBE: u64 = 4;

/// An image over `backing`, if that is not empty; with `raw` the header states that the backing file is raw.
/// `stated_length` is the length that the header gives for the name, if not its own.
#[must_use]
pub fn qed(backing: &[u8], raw: bool, stated_length: Option<u32>) -> Vec<u8> {
    let mut image = Layout::default();
    let cluster = u32::try_from(CLUSTER).unwrap_or(0);
    image.put(0, b"QED\0");
    image.put(4, &cluster.to_le_bytes());
    // The table's size and the header's, in clusters.
    image.put(8, &2_u32.to_le_bytes());
    image.put(12, &1_u32.to_le_bytes());
    if !backing.is_empty() {
        let features = BACKING_FILE | if raw { BACKING_FORMAT_NO_PROBE } else { 0 };
        image.put(16, &features.to_le_bytes());
        image.put(56, &u32::try_from(NAME).unwrap_or(0).to_le_bytes());
        image.put(60, &stated_length.unwrap_or_else(|| length_of(backing)).to_le_bytes());
    }
    image.put(40, &u64::from(cluster).to_le_bytes());
    image.put(48, &DISK.to_le_bytes());
    image.put(NAME, backing);
    image.grow(3 * CLUSTER);
    image.bytes()
}
