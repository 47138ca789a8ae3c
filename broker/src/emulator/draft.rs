//! The command line while it is being read: what was found so far.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::blockdev::Node;
use super::endpoint::{Address, Endpoint, EndpointUse};
use super::error::Error;
use super::resource::{CommandLine, Kind, Resource};
use super::value::Pairs;

/// Reads a configuration file whole; given by the caller, so that this module does no I/O.
pub(super) type ReadConfig<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// What is known of the command line so far.
pub(super) struct Draft<'a> {
    pub(super) line: CommandLine,
    pub(super) read_config: ReadConfig<'a>,
    /// Options made of pairs. They are understood after the last word, because `-set` may change them.
    pub(super) groups: Vec<Group>,
    /// Where the argument that is being read stands in `argv`, if the option has one.
    pub(super) word: Option<usize>,
    /// Where the option that is being read, or understood, stands in `argv`; none: it stands in a file.
    pub(super) at: Option<usize>,
    /// Roots of the block graph: drives and `-blockdev` nodes.
    pub(super) nodes: Vec<Node>,
    /// `-snapshot`, wherever it stands, applies to every drive.
    pub(super) snapshot: bool,
    /// `-nodefaults`.
    pub(super) no_defaults: bool,
    /// A network option stands on the command line.
    pub(super) network: bool,
    /// The operator lets QEMU open a window.
    pub(super) windows: bool,
    /// A display option stands on the command line.
    pub(super) display: bool,
    /// An accelerator is named.
    pub(super) accelerator: bool,
    /// `-d tid`: each thread writes a log of its own.
    pub(super) logs_of_threads: bool,
}

/// One option made of pairs, from the command line or from a section of a `-readconfig` file.
pub(super) struct Group {
    /// The option's name without its dash.
    pub(super) name: &'static str,
    /// As typed, for messages.
    pub(super) option: String,
    pub(super) pairs: Pairs,
    /// How the pairs are understood.
    pub(super) read: ReadGroup,
    /// From a `-readconfig` file: QEMU's defaults are not switched off by those.
    pub(super) from_file: bool,
    /// Where the pairs stand in `argv`, if they are a word of their own.
    pub(super) word: Option<usize>,
}

/// Understands one group.
pub(super) type ReadGroup = fn(&mut Draft<'_>, &Group) -> Result<(), Error>;

/// How QEMU opens a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenedBy {
    /// With `qemu_open`, which takes `/dev/fdset/N` for a descriptor handed in by `-add-fd`.
    QemuOpen,
    /// With `open` or `fopen`: an ordinary name.
    Plain,
}

/// Nodes of every sandbox's own `/dev`: nothing outside is meant.
const OWN_DEVICES: &[&[u8]] = &[b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom"];

/// Names that mean something else for each process that opens them, with all that begins like them.
const PER_PROCESS: &[&[u8]] =
    &[b"/proc/", b"/dev/fd/", b"/dev/stdin", b"/dev/stdout", b"/dev/stderr", b"/dev/ptmx", b"/dev/pts/ptmx"];

/// The terminal of whoever opens it.
const OWN_TERMINAL: &[u8] = b"/dev/tty";

impl<'a> Draft<'a> {
    pub(super) fn new(read_config: ReadConfig<'a>) -> Self {
        Self {
            line: CommandLine::default(),
            read_config,
            groups: Vec::new(),
            word: None,
            at: None,
            nodes: Vec::new(),
            snapshot: false,
            no_defaults: false,
            network: false,
            windows: false,
            display: false,
            accelerator: false,
            logs_of_threads: false,
        }
    }

    /// Notes that QEMU opens `name`. An empty name, a descriptor set and the sandbox's own devices need nothing.
    ///
    /// # Errors
    /// [`Error::NotServed`] for names that depend on the process that opens them, and for a descriptor
    /// set where QEMU does not look for one.
    pub(super) fn file(&mut self, option: &str, name: &OsStr, kind: Kind, opened: OpenedBy) -> Result<(), Error> {
        let plain = single_slashes(name.as_bytes());
        // A port is asked by ioctls whether it is one, which Landlock denies to what the sandbox opens itself.
        let is_own = kind != Kind::Stream && OWN_DEVICES.contains(&plain.as_slice());
        if plain.is_empty() || is_own {
            return Ok(());
        }
        // QEMU itself compares the name as written, so the set must be spelled exactly.
        if name.as_bytes().starts_with(b"/dev/fdset/") {
            return match opened {
                OpenedBy::QemuOpen => Ok(()),
                OpenedBy::Plain => Err(Error::not_served(
                    option,
                    format!("the descriptor set {}", name.to_string_lossy()),
                    "QEMU takes a file name here, so name the file",
                )),
            };
        }
        Self::refuse_per_process(option, name)?;
        self.line.resources.push(Resource { option: option.to_owned(), name: name.to_owned(), kind });
        Ok(())
    }

    /// Lets a name pass that means the same for each process.
    ///
    /// # Errors
    /// [`Error::NotServed`] for others.
    pub(super) fn refuse_per_process(option: &str, name: &OsStr) -> Result<(), Error> {
        let plain = single_slashes(name.as_bytes());
        if plain == OWN_TERMINAL || PER_PROCESS.iter().any(|start| plain.starts_with(start)) {
            return Err(Error::not_served(
                option,
                format!("{} (it differs for each process)", name.to_string_lossy()),
                "name the file itself (a terminal as the command `tty` does), use stdio, or hand a descriptor over with \
                 -add-fd and /dev/fdset/N",
            ));
        }
        Ok(())
    }

    /// Notes a file that QEMU reads whole with an ordinary `open`.
    ///
    /// # Errors
    /// As [`Draft::file`].
    pub(super) fn read_only(&mut self, option: &str, name: &OsStr) -> Result<(), Error> {
        self.file(option, name, Kind::ReadOnlyFile, OpenedBy::Plain)
    }

    /// Notes a name that QEMU looks up with `qemu_find_file`: as it stands, then in the data folders.
    ///
    /// # Errors
    /// As [`Draft::file`].
    pub(super) fn firmware(&mut self, option: &str, name: &OsStr) -> Result<(), Error> {
        let absolute = name.as_bytes().starts_with(b"/");
        let kind = if absolute { Kind::ReadOnlyFile } else { Kind::FirmwareName };
        self.file(option, name, kind, OpenedBy::Plain)
    }

    /// Notes one descriptor, given by number.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the value is no descriptor number. Names from the monitor's `getfd`
    /// are none: no monitor has spoken when the command line is read.
    pub(super) fn descriptor(&mut self, option: &str, value: &OsStr) -> Result<(), Error> {
        let fd: RawFd = value.to_str().and_then(|text| text.parse().ok()).filter(|fd| *fd >= 0).ok_or_else(|| {
            let value = value.to_string_lossy();
            Error::malformed(option, format!("{value} is not the number of an open descriptor"))
        })?;
        self.line.descriptors.insert(fd);
        Ok(())
    }

    /// Notes a list of descriptors, separated by colons.
    ///
    /// # Errors
    /// As [`Draft::descriptor`].
    pub(super) fn descriptors(&mut self, option: &str, list: &OsStr) -> Result<(), Error> {
        list.as_bytes().split(|b| *b == b':').try_for_each(|one| self.descriptor(option, OsStr::from_bytes(one)))
    }

    /// Notes a socket that QEMU makes; without an address QEMU refuses by itself what was typed.
    pub(super) fn endpoint(&mut self, option: &str, use_: EndpointUse, address: Option<Address>) {
        let option = option.to_owned();
        self.line.endpoints.extend(address.map(|address| Endpoint { option, use_, address }));
    }

    /// Adds words to what will be executed, and tells the operator why.
    pub(super) fn add_default(&mut self, words: [&str; 2], notice: &str) {
        self.line.argv.extend(words.map(OsString::from));
        self.line.notices.push(notice.to_owned());
    }
}

fn single_slashes(name: &[u8]) -> Vec<u8> {
    let mut plain = name.to_vec();
    plain.dedup_by(|next, last| *next == b'/' && *last == b'/');
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noting(name: &str, opened: OpenedBy) -> Result<usize, Error> {
        let no_files = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let mut draft = Draft::new(&no_files);
        draft.file("-x", OsStr::new(name), Kind::ReadOnlyFile, opened)?;
        Ok(draft.line.resources.len())
    }

    #[test]
    fn the_sandboxes_own_devices_and_empty_names_need_nothing() {
        for name in ["", "/dev/null", "/dev//zero", "/dev/urandom"] {
            assert_eq!(noting(name, OpenedBy::Plain).unwrap(), 0, "{name}");
        }
        assert_eq!(noting("/dev/nullx", OpenedBy::Plain).unwrap(), 1);
    }

    #[test]
    fn names_that_differ_for_each_process_are_refused() {
        for name in ["/proc/self/fd/3", "//proc/1/mem", "/dev/fd/0", "/dev//stdout", "/dev//tty", "/dev/ptmx"] {
            assert!(noting(name, OpenedBy::QemuOpen).is_err(), "{name}");
        }
        for name in ["/dev/ttyS0", "/dev/tty1", "/dev/pts/1"] {
            assert_eq!(noting(name, OpenedBy::QemuOpen).unwrap(), 1, "{name}");
        }
    }

    #[test]
    fn descriptor_sets_pass_only_where_qemu_looks_for_them() {
        assert_eq!(noting("/dev/fdset/4", OpenedBy::QemuOpen).unwrap(), 0);
        assert!(noting("/dev/fdset/4", OpenedBy::Plain).is_err());
    }

    #[test]
    fn descriptors_are_numbers() {
        let no_files = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let mut draft = Draft::new(&no_files);
        draft.descriptors("-x", OsStr::new("7:30")).unwrap();
        assert!(draft.descriptors("-x", OsStr::new("8:")).is_err());
        assert!(draft.descriptor("-x", OsStr::new("-1")).is_err());
        assert!(draft.descriptor("-x", OsStr::new("net0")).is_err());
        assert!(draft.line.descriptors.is_superset(&[7, 30].into()));
    }
}
