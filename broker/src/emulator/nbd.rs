//! `qemu-nbd`: one image, served on a socket that the caller has opened.
//!
//! Sources: the table `lopt` in `qemu-nbd.c`, and `check_socket_activation` in `util/systemd.c`, of QEMU 7.2 and 10.0.

use std::ffi::{OsStr, OsString};

use super::draft::{Draft, OpenedBy};
use super::error::Error;
use super::resource::{Access, CommandLine, Kind};
use super::tool::getopt::{self, Given, Opt, Order, flag, value};
use super::tool::{self, ImageOptions, Operand};

/// What an option means for the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// It names nothing outside.
    Harmless,
    /// Something is printed, and nothing served.
    Prints,
    /// An object that options refer to.
    Object,
    /// Events and a log.
    Trace,
    /// The operand is the options of a block node.
    ImageOpts,
    /// The image's format.
    Format,
    /// The image is only read.
    ReadOnly,
    /// Writes go to a temporary file.
    Snapshot,
    /// How reads and writes are done.
    Aio,
    /// It goes on in the background.
    Fork,
    /// The file for its process number.
    PidFile,
    /// It would open a socket.
    Listens,
    /// It would connect to a server.
    Connects,
    /// It would use a device of the host's NBD client.
    Device,
}

use Meaning::{
    Aio, Connects, Device, Fork, Format, Harmless, ImageOpts, Listens, Object, PidFile, Prints, ReadOnly, Snapshot,
    Trace,
};

/// All options.
#[rustfmt::skip] // one line an option
static OPTIONS: &[Opt<Meaning>] = &[
    flag(b'h', "help", Prints),
    flag(b'V', "version", Prints),
    flag(b'v', "verbose", Harmless),
    value(b'T', "trace", Trace),
    value(0, "object", Object),
    flag(0, "fork", Fork),
    value(0, "pid-file", PidFile),

    // The image.
    value(b'f', "format", Format),
    flag(0, "image-opts", ImageOpts),
    flag(b'r', "read-only", ReadOnly),
    flag(b's', "snapshot", Snapshot),
    value(b'l', "load-snapshot", ReadOnly), // a snapshot inside the image
    value(b'o', "offset", Harmless),
    flag(b'n', "nocache", Harmless),
    value(0, "cache", Harmless),
    value(0, "aio", Aio),
    value(0, "discard", Harmless),
    value(0, "detect-zeroes", Harmless),

    // The export.
    value(b'x', "export-name", Harmless),
    value(b'D', "description", Harmless),
    value(b'B', "bitmap", Harmless),
    flag(b'A', "allocation-depth", Harmless),
    value(b'e', "shared", Harmless),
    flag(b't', "persistent", Harmless),
    value(0, "handshake-limit", Harmless), // since 9.1
    value(0, "tls-creds", Harmless), // objects, by id
    value(0, "tls-authz", Harmless),
    value(0, "tls-hostname", Harmless),

    // Sockets and devices.
    value(b'b', "bind", Listens),
    value(b'p', "port", Listens),
    value(b'k', "socket", Listens),
    value(0, "selinux-label", Listens),
    flag(b'L', "list", Connects),
    value(b'c', "connect", Device),
    flag(b'd', "disconnect", Device),
];

const ACTIVATE: &str = "let the caller open the socket and hand it over as systemd does, for example \
                        `systemd-socket-activate -l /run/nbd.sock broker -- qemu-nbd ...`";
const USE_CLIENT: &str = "serve on a socket, and connect the device to it with nbd-client(8) outside of the sandbox";

/// Reads the words behind `qemu-nbd`.
///
/// # Errors
/// Those of [`getopt::sort`], and those about what the words name; [`Error::NotServed`] for a socket that it would open
/// itself.
pub(super) fn read(draft: &mut Draft<'_>, words: &[OsString]) -> Result<(), Error> {
    let sorted = getopt::sort("qemu-nbd", OPTIONS, words, Order::Permuted)?;
    if tool::has(&sorted.options, Prints) {
        draft.line.informational = true;
        return Ok(());
    }
    sorted.options.iter().try_for_each(|given| read_option(draft, given))?;
    // With another number of operands it says so and ends.
    let [word] = sorted.operands.as_slice() else { return Ok(()) };
    let snapshot = tool::has(&sorted.options, Snapshot);
    let reads = snapshot || tool::has(&sorted.options, ReadOnly);
    let operand = Operand {
        option: &tool::operand_of("qemu-nbd", word),
        word,
        format: tool::argument(&sorted.options, Format),
        options: tool::has(&sorted.options, ImageOpts).then_some(ImageOptions(Some("file"))),
        access: if reads { Access::ReadOnly } else { Access::ReadWrite },
        alone: false,
    };
    tool::image(draft, operand)?;
    if snapshot {
        tool::overlay_last(draft);
    }
    super::graph::add_images(draft)
}

fn read_option(draft: &mut Draft<'_>, given: &Given<Meaning>) -> Result<(), Error> {
    let (option, argument) = (given.typed.as_str(), given.argument.as_os_str());
    match given.meaning {
        Object => tool::object(draft, option, argument),
        Trace => tool::trace(draft, option, argument),
        PidFile => draft.file(option, argument, Kind::PidFile, OpenedBy::QemuOpen),
        Aio => {
            tool::note_aio(draft, argument);
            Ok(())
        }
        Fork => {
            draft.line.daemonize = true;
            draft.line.forks = true;
            Ok(())
        }
        Listens => Err(Error::not_served(option, "listening on a socket", ACTIVATE)),
        Connects => Err(Error::not_served(option, "a connection to a server", "run qemu-nbd --list without broker")),
        Device => Err(Error::not_served(option, "a device of the host's NBD client", USE_CLIENT)),
        Harmless | Prints | ImageOpts | Format | ReadOnly | Snapshot => Ok(()),
    }
}

/// The first descriptor that a caller hands over (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const FIRST_SOCKET: i32 = 3;

/// Notes the socket that the caller of process `pid` has opened for `qemu-nbd`; `variable` reads the environment.
///
/// # Errors
/// [`Error::NotServed`] where there is none: it would open one itself. [`Error::Malformed`] where there are several,
/// which it does not take.
pub fn take_socket(line: &mut CommandLine, variable: &dyn Fn(&str) -> Option<OsString>, pid: u32) -> Result<(), Error> {
    let number = |name| variable(name).as_deref().and_then(OsStr::to_str).and_then(|text| text.parse::<u32>().ok());
    if line.informational {
        return Ok(());
    }
    match number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(pid)) {
        None | Some(0) => {
            Err(Error::not_served("qemu-nbd", "listening on a socket (TCP port 10809 if none is named)", ACTIVATE))
        }
        Some(1) => {
            line.descriptors.insert(FIRST_SOCKET);
            Ok(())
        }
        Some(several) => {
            let problem = format!("LISTEN_FDS={several} in the environment; it listens on one socket, hand one over");
            Err(Error::malformed("qemu-nbd", problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::Program;
    use super::super::resource::Backing;
    use super::super::testing::{image, images, names, overlaid, ro, rw, tool_line};
    use super::*;

    #[test]
    fn the_image_with_its_access() {
        for (words, access) in [
            (&["-f", "qcow2", "a"][..], rw()),
            (&["-tf", "qcow2", "--persistent", "a"], rw()),
            (&["--format=qcow2", "-r", "a"], ro()),
            (&["a", "-f", "qcow2", "-l", "snapshot.name=s"], ro()),
            (&["--image-opts", "driver=qcow2,file.filename=a"], rw()),
        ] {
            let found = tool_line("qemu-nbd", words).unwrap();
            assert_eq!(images(&found), [image("a", Some("qcow2"), access, Backing::Header)], "{words:?}");
            assert_eq!(found.program, Program::Nbd);
        }
        let found = tool_line("qemu-nbd", &["-s", "-f", "raw", "a"]).unwrap();
        assert_eq!(images(&found), [overlaid("a", Some("raw"), ro(), Backing::Ignored)]);
        assert!(found.temporary_overlays);
    }

    #[test]
    fn the_process_and_what_is_printed() {
        let found = tool_line("qemu-nbd", &["--fork", "--pid-file=p", "--aio", "io_uring", "a", "-f", "raw"]).unwrap();
        assert!(found.daemonize && found.forks && found.io_uring);
        assert_eq!(names(&found)[0], ("p", &Kind::PidFile));
        for words in [&["--help"][..], &["-V"], &["-rh", "a"], &["-d", "-h"]] {
            let found = tool_line("qemu-nbd", words).unwrap();
            assert!(found.informational && found.resources.is_empty(), "{words:?}");
        }
        assert!(tool_line("qemu-nbd", &["a", "b"]).unwrap().resources.is_empty());
    }

    #[test]
    fn sockets_and_devices_are_refused_by_name() {
        for (words, option) in [
            (&["-k", "/s", "a"][..], "qemu-nbd -k /s"),
            (&["-tp", "10810", "a"], "qemu-nbd -p 10810"),
            (&["--bind=::", "a"], "qemu-nbd --bind ::"),
            (&["--sel", "x", "a"], "qemu-nbd --sel x"),
            (&["-L"], "qemu-nbd -L"),
            (&["-c", "/dev/nbd0", "a"], "qemu-nbd -c /dev/nbd0"),
            (&["-d", "/dev/nbd0"], "qemu-nbd -d"),
        ] {
            let error = tool_line("qemu-nbd", words).unwrap_err();
            assert!(matches!(error, Error::NotServed { .. }) && error.to_string().starts_with(option), "{error}");
        }
    }

    #[test]
    fn the_caller_hands_one_socket_over() {
        let taken = |pid: &'static str, number: &'static str| {
            let mut line = tool_line("qemu-nbd", &["-f", "raw", "a"]).unwrap();
            let variable = |name: &str| Some(OsString::from(if name == "LISTEN_PID" { pid } else { number }));
            take_socket(&mut line, &variable, 77).map(|()| line.descriptors)
        };
        assert_eq!(taken("77", "1").unwrap(), [3].into());
        assert!(matches!(taken("78", "1"), Err(Error::NotServed { .. })));
        assert!(matches!(taken("77", "0"), Err(Error::NotServed { .. })));
        assert!(matches!(taken("77", "x"), Err(Error::NotServed { .. })));
        assert!(matches!(taken("77", "2"), Err(Error::Malformed { .. })));
        let mut help = tool_line("qemu-nbd", &["--help"]).unwrap();
        assert!(take_socket(&mut help, &|_| None, 77).is_ok());
    }

    #[test]
    fn the_manual_names_every_option() {
        tool::tests::assert_in_manual(OPTIONS, "qemu-nbd");
    }
}
