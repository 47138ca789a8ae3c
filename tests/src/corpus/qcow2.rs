//! qcow2, versions 2 and 3 (docs/interop/qcow2.txt of QEMU). Unless fields are forged, QEMU opens what is made here: an
//! empty disk of 1 MiB, with the header in cluster 0, the reference table in cluster 1, its block in 2, the L1 table in 3.

use super::layout::{Layout, length_of};

/// Bytes in a cluster, as a power of two: the least that has room for a header with the longest name.
const CLUSTER_BITS: u32 = 12;
const CLUSTER: usize = 1 << CLUSTER_BITS;
/// The size of the guest's disk in bytes; one L2 table stands for twice as much.
const DISK: u64 = 1 << 20;

/// Where fields of the header are, in bytes.
pub mod field {
    /// `version`, 32 bits.
    pub const VERSION: usize = 4;
    /// `backing_file_offset`, 64 bits.
    pub const BACKING_FILE_OFFSET: usize = 8;
    /// `backing_file_size`, 32 bits.
    pub const BACKING_FILE_SIZE: usize = 16;
    /// `cluster_bits`, 32 bits.
    pub const CLUSTER_BITS: usize = 20;
    pub(super) const INCOMPATIBLE_FEATURES: usize = 72;
    /// `header_length`, 32 bits.
    pub const HEADER_LENGTH: usize = 100;
}

/// The header extension that states the format of the backing file.
pub const BACKING_FORMAT: u32 = 0xE279_2ACA;
/// The header extension that names the external data file.
pub const DATA_FILE_NAME: u32 = 0x4441_5441;
/// The bit of `incompatible_features` that says that there is one.
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

/// An image to be written.
#[derive(Debug, Clone)]
pub struct Qcow2 {
    version: u32,
    incompatible_features: u64,
    backing: Vec<u8>,
    extensions: Vec<(u32, u32, Vec<u8>)>,
    forged: Vec<(usize, Vec<u8>)>,
}

impl Qcow2 {
    /// Version 3, with nothing below it.
    #[must_use]
    pub fn new() -> Self {
        Self { version: 3, incompatible_features: 0, backing: Vec::new(), extensions: Vec::new(), forged: Vec::new() }
    }

    /// Version 2, whose header ends after 72 bytes.
    #[must_use]
    pub fn version_2() -> Self {
        Self { version: 2, ..Self::new() }
    }

    /// An overlay of `name`, whose format is not stated.
    #[must_use]
    pub fn backing(mut self, name: impl AsRef<[u8]>) -> Self {
        self.backing = name.as_ref().to_vec();
        self
    }

    /// An overlay of `name`, which has this format.
    #[must_use]
    pub fn over(self, name: impl AsRef<[u8]>, format: &str) -> Self {
        self.backing(name).extension(BACKING_FORMAT, format.as_bytes())
    }

    /// The guest's data are in the file `name`.
    #[must_use]
    pub fn data_file(mut self, name: impl AsRef<[u8]>) -> Self {
        self.incompatible_features |= EXTERNAL_DATA_FILE;
        self.extension(DATA_FILE_NAME, name.as_ref())
    }

    /// Adds a header extension.
    #[must_use]
    pub fn extension(self, kind: u32, body: &[u8]) -> Self {
        self.forged_extension(kind, length_of(body), body)
    }

    /// Adds a header extension that states another length than it has.
    #[must_use]
    pub fn forged_extension(mut self, kind: u32, stated_length: u32, body: &[u8]) -> Self {
        self.extensions.push((kind, stated_length, body.to_vec()));
        self
    }

    /// Puts `bytes` in the place of what stands at byte `offset`; see [`field`].
    #[must_use]
    pub fn forge(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.forged.push((offset, bytes.to_vec()));
        self
    }

    /// The image.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut image = Layout::default();
        image.put(0, b"QFI\xfb");
        image.put(field::VERSION, &self.version.to_be_bytes());
        image.put(field::CLUSTER_BITS, &CLUSTER_BITS.to_be_bytes());
        image.put(24, &DISK.to_be_bytes());
        image.put(36, &1_u32.to_be_bytes());
        put_cluster(&mut image, 40, 3);
        put_cluster(&mut image, 48, 1);
        image.put(56, &1_u32.to_be_bytes());
        let mut end = 72;
        if self.version >= 3 {
            image.put(field::INCOMPATIBLE_FEATURES, &self.incompatible_features.to_be_bytes());
            image.put(96, &4_u32.to_be_bytes());
            image.put(field::HEADER_LENGTH, &104_u32.to_be_bytes());
            end = 104;
        }
        end = self.put_extensions(&mut image, end);
        if !self.backing.is_empty() {
            image.put(field::BACKING_FILE_OFFSET, &u64::try_from(end).unwrap_or(0).to_be_bytes());
            image.put(field::BACKING_FILE_SIZE, &length_of(&self.backing).to_be_bytes());
            image.put(end, &self.backing);
        }
        put_cluster(&mut image, CLUSTER, 2);
        for cluster in 0..4 {
            image.put(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
        }
        image.grow(4 * CLUSTER);
        for (offset, bytes) in &self.forged {
            image.put(*offset, bytes);
        }
        image.bytes()
    }

    /// Puts the extensions behind the header, and one that ends them; returns where they end.
    fn put_extensions(&self, image: &mut Layout, mut at: usize) -> usize {
        for (kind, stated_length, body) in &self.extensions {
            image.put(at, &kind.to_be_bytes());
            image.put(at + 4, &stated_length.to_be_bytes());
            image.put(at + 8, body);
            at += 8 + body.len().next_multiple_of(8);
        }
        at + 8
    }
}

impl Default for Qcow2 {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts the offset of a cluster.
fn put_cluster(image: &mut Layout, at: usize, cluster: u64) {
    image.put(at, &(cluster << CLUSTER_BITS).to_be_bytes());
}
