//! vmdk (VMware's "Virtual Disk Format 5.0", and block/vmdk.c of QEMU): a text that lists extents, alone in a file or in
//! the header of a sparse extent.

use super::layout::Layout;

/// Bytes in a sector, the unit of sizes and offsets.
const SECTOR: usize = 512;
/// Sectors of the disk: 1 MiB, of the 32 MiB that one grain table stands for.
const DISK: u64 = 2048;
/// Sectors that the descriptor has in a sparse extent.
const DESCRIPTOR: usize = 20;
/// `parentCID` of an image that has no parent.
const NO_PARENT: &str = "ffffffff";

/// A descriptor.
#[derive(Debug, Clone)]
pub struct Descriptor {
    kind: &'static str,
    parent: Option<String>,
    extents: Vec<String>,
}

impl Descriptor {
    /// One of this `createType`, without extents.
    #[must_use]
    pub fn new(kind: &'static str) -> Self {
        Self { kind, parent: None, extents: Vec::new() }
    }

    /// Adds an extent: `access` of the size of the disk, `kind` (FLAT, SPARSE, ...), the file's name.
    #[must_use]
    pub fn extent(self, kind: &str, name: &str) -> Self {
        let offset = if kind == "FLAT" { " 0" } else { "" };
        self.line(format!("RW {DISK} {kind} \"{name}\"{offset}"))
    }

    /// Adds a line that describes an extent, as it stands.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.extents.push(line.into());
        self
    }

    /// An overlay of `name`.
    #[must_use]
    pub fn parent(mut self, name: &str) -> Self {
        self.parent = Some(name.to_owned());
        self
    }

    /// The text, which is a whole image if all extents are in other files.
    #[must_use]
    pub fn text(&self) -> String {
        let parent = if self.parent.is_some() { "12345678" } else { NO_PARENT };
        let hint = self.parent.as_ref().map(|name| format!("parentFileNameHint=\"{name}\"\n")).unwrap_or_default();
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID={parent}\ncreateType=\"{}\"\n{hint}\n\
             # Extent description\n{}\n\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n\
             ddb.geometry.cylinders = \"2\"\nddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\n\
             ddb.adapterType = \"ide\"\n",
            self.kind,
            self.extents.join("\n"),
        )
    }

    /// A sparse extent that holds the descriptor: grains of 64 KiB, none of them there.
    #[must_use]
    pub fn sparse(&self) -> Vec<u8> {
        self.sparse_of(DISK)
    }

    /// A sparse extent without a size: what it is stands in the descriptor alone (`vmdk_open_vmdk4`).
    #[must_use]
    pub fn sparse_shell(&self) -> Vec<u8> {
        self.sparse_of(0)
    }

    fn sparse_of(&self, sectors_of_disk: u64) -> Vec<u8> {
        let mut image = Layout::default();
        let directory = 1 + DESCRIPTOR;
        let table = directory + 1;
        let sectors = |count: usize| u64::try_from(count).unwrap_or(0).to_le_bytes();
        image.put(0, b"KDMV");
        // Version 1; flags: newlines can be checked, and there is a second directory.
        image.put(4, &1_u32.to_le_bytes());
        image.put(8, &3_u32.to_le_bytes());
        image.put(12, &sectors_of_disk.to_le_bytes());
        image.put(20, &128_u64.to_le_bytes());
        image.put(28, &1_u64.to_le_bytes());
        image.put(36, &sectors(DESCRIPTOR));
        image.put(44, &512_u32.to_le_bytes());
        // Both directories are the same one.
        image.put(48, &sectors(directory));
        image.put(56, &sectors(directory));
        image.put(64, &128_u64.to_le_bytes());
        image.put(73, b"\n \r\n");
        image.put(SECTOR, self.text().as_bytes());
        image.put(directory * SECTOR, &u32::try_from(table).unwrap_or(0).to_le_bytes());
        image.grow((table + 4).max(128) * SECTOR);
        image.bytes()
    }
}
