//! What a command line names: the result of reading it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::RawFd;

pub use super::network::Network;
use super::program::Program;

/// An emulator's command line, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Which of QEMU's programs it starts.
    pub program: Program,
    /// What will be executed: the words as given, byte for byte but for `file=fd:N`, which reads `file=./fd:N` here, and may
    /// get `cache.direct=on` when the descriptor has been looked at; then the defaults that were spelled out.
    pub argv: Vec<OsString>,
    /// Files and devices that QEMU will open by name, in the order they were found; duplicates are kept.
    pub resources: Vec<Resource>,
    /// Network backends whose descriptors the broker opens, in the order of the words.
    pub networks: Vec<Network>,
    /// Inherited descriptors that the words name by number.
    pub descriptors: BTreeSet<RawFd>,
    /// `-daemonize`: QEMU forks and its first process ends early.
    pub daemonize: bool,
    /// QEMU makes another process: `-daemonize`, `-async-teardown`.
    pub forks: bool,
    /// `-name`, the `guest=` part.
    pub guest_name: Option<String>,
    /// QEMU prints something (`-help`, `-device help`, ...) and ends without starting a guest.
    pub informational: bool,
    /// `-snapshot` or `snapshot=on`: QEMU creates `vl.XXXXXX` in `TMPDIR`, by default `/var/tmp`.
    pub temporary_overlays: bool,
    /// `aio=io_uring` is asked for.
    pub io_uring: bool,
    /// What the operator should know, one line each.
    pub notices: Vec<String>,
}

impl CommandLine {
    /// The descriptors that are named as images; a number may come several times.
    pub fn image_descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.resources.iter().filter_map(|resource| match &resource.kind {
            Kind::Image(image) => image.descriptor.as_ref().map(|descriptor| descriptor.number),
            _ => None,
        })
    }
}

/// One file or device that QEMU opens by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The option that names it, as typed, for messages: `-drive file=top.qcow2`.
    pub option: String,
    /// Exactly the bytes QEMU will open; a relative name is relative to the folder of the start.
    pub name: OsString,
    /// What QEMU does with it.
    pub kind: Kind,
}

/// What QEMU does with a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A disk image, or a host block or CD-ROM device used as one.
    Image(Image),
    /// Read whole and never written: kernel, initrd, secret, ACPI table.
    ReadOnlyFile,
    /// A relative name that QEMU tries in its working folder first, then in its data folders
    /// (`qemu_find_file`): to be pinned if it exists, else left to the data folders.
    FirmwareName,
    /// A folder in which QEMU looks for firmware and keymaps (`-L`).
    FirmwareDirectory,
    /// A file that QEMU creates and writes.
    OutputFile {
        /// Only ever opened with `O_APPEND`; otherwise QEMU may empty it first.
        append: bool,
    },
    /// An image that a tool makes: created with mode 0644 or, if it is there, written anew; removed again where that
    /// fails.
    Target,
    /// The name of another resource with the prefix of a protocol, at which QEMU looks too: nothing is behind it.
    NoFile,
    /// `-pidfile`: created, locked, and removed at the end.
    PidFile,
    /// Guest memory: a file, a DAX device, or a folder in which QEMU makes an unnamed file.
    MemoryFile {
        /// Opened `O_RDONLY`.
        read_only: bool,
    },
    /// A device node opened read-write, such as `/dev/kvm`; QEMU may have a fallback if it is absent.
    Device,
}

/// How QEMU uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The format that the options state; `None` leaves it to QEMU's probing.
    pub format: Option<String>,
    /// The greatest access QEMU asks for without a block job.
    pub access: Access,
    /// Where the image's backing file is named.
    pub backing: Backing,
    /// The options name its data file.
    pub data_file_given: bool,
    /// Formats that the options state for layers below that only headers name, nearest first.
    pub layers: Vec<String>,
    /// Whether it lies under an overlay that the command line names, or under that of `snapshot=on`: read-only, it is
    /// written only by a commit.
    pub overlaid: bool,
    /// `qemu-img commit`: the backing file that is written.
    pub commit: Option<CommitInto>,
    /// The inherited descriptor that the name `fd:N` stands for.
    pub descriptor: Option<Descriptor>,
}

/// An image that the caller opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub number: RawFd,
    /// Whether the options have it opened past the host's cache (`cache.direct=on`).
    pub direct: bool,
    /// The place in `argv` of the `-drive` that names it and says nothing of the host's cache.
    pub silent_word: Option<usize>,
}

/// Which backing file `qemu-img commit` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitInto {
    /// That of the image itself.
    Nearest,
    /// The one of this name, as an overlay of the chain would name it (`bdrv_find_backing_image` in QEMU's `block.c`).
    Named(OsString),
}

/// The greatest access to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `O_RDONLY` only.
    ReadOnly,
    /// `O_RDONLY` and `O_RDWR`.
    ReadWrite,
}

/// Which backing file QEMU opens for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Whatever the image's header says.
    Header,
    /// None, but what the header says is printed (`qemu-img info`).
    Shown,
    /// None, or one that the options name (a resource of its own): the header is not followed.
    Ignored,
}
