//! What a command line names: the result of reading it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::endpoint::Endpoint;
pub use super::network::{DatagramNetwork, Network};
use super::program::Program;
use super::run_as::{NewRoot, RunAs};
pub use super::usb_host::{UsbHost, UsbMatch, UsbName};

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
    /// Networks whose frames a relay carries, in the order of the words.
    pub datagrams: Vec<DatagramNetwork>,
    /// Sockets that QEMU makes by address, in the order they were found.
    pub endpoints: Vec<Endpoint>,
    /// An option has a host and a port, be it that QEMU refuses them: it looks them up.
    pub internet: bool,
    /// Folders that are shared with the guest.
    pub shared_folders: Vec<SharedFolder>,
    /// The library that QEMU opens a window with, where the operator allows one.
    pub window: Option<Window>,
    /// Where graphics libraries draw (`-display egl-headless`, `-spice gl=on`), in the order of the words.
    pub render_nodes: Vec<RenderNode>,
    /// The guest's screen is drawn on the caller's terminal (`-display curses`).
    pub curses: bool,
    /// Devices of the host's USB buses that the guest is given.
    pub usb_hosts: Vec<UsbHost>,
    /// QEMU opens pseudo-terminals (`-chardev pty`).
    pub terminals: bool,
    /// Places in `argv` of words that are not executed, for the broker does what they say.
    pub dropped: BTreeSet<usize>,
    /// Who QEMU is to become: `-runas`, `-run-with user=`.
    pub run_as: Option<RunAs>,
    /// What QEMU is to take for its root: `-chroot`, `-run-with chroot=`.
    pub new_root: Option<NewRoot>,
    /// `-overcommit mem-lock=`: QEMU locks all its memory.
    pub locks_memory: bool,
    /// Devices that are handed to the guest by VFIO.
    pub vfio_devices: Vec<VfioDevice>,
    /// Another such device comes as a descriptor.
    pub vfio_descriptor: bool,
    /// `-incoming exec:COMMAND`.
    pub incoming: Option<IncomingCommand>,
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
    /// The words that are executed, the emulator's name first.
    pub fn executed(&self) -> impl Iterator<Item = &OsString> {
        self.argv.iter().enumerate().filter(|(place, _)| !self.dropped.contains(place)).map(|(_, word)| word)
    }

    /// Names the logs that are called after QEMU's process, whose number is `process`.
    pub fn number_logs(&mut self, process: u32) {
        let numbered = self.resources.iter_mut().filter(|resource| resource.kind == Kind::NumberedLog);
        for log in numbered {
            log.name = with_number(&log.name, process);
            log.kind = Kind::OutputFile { append: false };
        }
    }

    /// The descriptors that are named as images; a number may come several times.
    pub fn image_descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.resources.iter().filter_map(|resource| match &resource.kind {
            Kind::Image(image) => image.descriptor.as_ref().map(|descriptor| descriptor.number),
            _ => None,
        })
    }
}

/// `name` with `process` in the place of its `%d`.
fn with_number(name: &OsStr, process: u32) -> OsString {
    let bytes = name.as_bytes();
    let Some(at) = bytes.windows(2).position(|pair| pair == b"%d") else { return name.to_owned() };
    let (before, after) = bytes.split_at(at);
    let after = after.strip_prefix(b"%d").unwrap_or(after);
    OsString::from_vec([before, process.to_string().as_bytes(), after].concat())
}

/// A folder that is shared with the guest (`-fsdev local`, `-virtfs local`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFolder {
    /// The option that names it, as typed, for messages.
    pub option: String,
    /// Its path, relative to the folder of the start if it is relative.
    pub path: OsString,
    /// `readonly=on`
    pub read_only: bool,
    /// How owners and modes that the guest sets are kept.
    pub model: SecurityModel,
}

/// How owners and modes of a shared folder's files are kept (`security_model=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityModel {
    /// As those of the host's files: `passthrough` and `none`.
    Native,
    /// In attributes: `mapped-xattr`.
    MappedXattr,
    /// In files of a hidden folder: `mapped-file`.
    MappedFile,
}

/// A device that is handed to the guest by VFIO (`-device vfio-pci`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfioDevice {
    /// The option that names it, as typed, for messages.
    pub option: String,
    /// Where QEMU looks for it: a path beneath `/sys` without `.`, `..` or a slash too many.
    pub path: OsString,
    /// Opened by itself, for an `iommufd` object, and not by its group.
    pub by_iommufd: bool,
}

/// Which library draws QEMU's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// GTK 3.
    Gtk,
    /// SDL 2.
    Sdl,
    /// The first of the two that is there (`qemu_display_find_default`, QEMU's `ui/console.c`); else QEMU serves VNC on the
    /// loopback interface.
    Default,
}

/// A graphics device that QEMU draws with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderNode {
    /// The option that asks for it, as typed, for messages.
    pub option: String,
    /// Its node, which is a resource too (`rendernode=`); none: the first of the host's that QEMU can open.
    pub path: Option<OsString>,
}

/// `-incoming exec:COMMAND`: the broker runs the command, and QEMU reads its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingCommand {
    /// The option, as typed, for messages.
    pub option: String,
    /// The program and its arguments, its name first: `/bin/sh -c COMMAND`, but for a channel of JSON.
    pub words: Vec<OsString>,
    /// The place in `argv` of the word that becomes `fd:N`.
    pub word: usize,
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
    /// The same, of a file that need not be there.
    OptionalFile,
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
    /// A log whose name holds `%d`, for which QEMU writes the number of its process.
    NumberedLog,
    /// A FIFO, or a device node such as a serial port, that a character device reads and writes. If it cannot be opened,
    /// QEMU says so itself.
    Stream,
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
