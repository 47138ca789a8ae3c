//! `qemu-nbd`: one image, served on a socket by address or on one that the caller has opened; or a list of what a server has.
//!
//! Sources: the table `lopt` and `nbd_build_socket_address` in `qemu-nbd.c`, and `check_socket_activation` in `util/systemd.c`, of QEMU 7.2 and 10.0.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::address::{self, Inet, Transport};
use super::draft::{Draft, OpenedBy};
use super::endpoint::EndpointUse;
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
    /// The address of its socket.
    Bind,
    /// The port of its socket.
    Port,
    /// The path of its socket.
    Socket,
    /// A label for its socket.
    Label,
    /// It prints what a server has.
    List,
    /// It would use a device of the host's NBD client.
    Device,
}

use Meaning::{
    Aio, Bind, Device, Fork, Format, Harmless, ImageOpts, Label, List, Object, PidFile, Port, Prints, ReadOnly,
    Snapshot, Socket, Trace,
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
    value(b'b', "bind", Bind),
    value(b'p', "port", Port),
    value(b'k', "socket", Socket),
    value(0, "selinux-label", Label),
    flag(b'L', "list", List),
    value(b'c', "connect", Device),
    flag(b'd', "disconnect", Device),
];

/// Where it listens, and what it connects to, unless that is said.
const HOST: &str = "0.0.0.0";
const PORT: &str = "10809";

const USE_CLIENT: &str = "serve on a socket, and connect the device to it with nbd-client(8) outside of the sandbox";

/// Reads the words behind `qemu-nbd`.
///
/// # Errors
/// Those of [`getopt::sort`], and those about what the words name.
pub(super) fn read(draft: &mut Draft<'_>, words: &[OsString]) -> Result<(), Error> {
    let sorted = getopt::sort("qemu-nbd", OPTIONS, words, Order::Permuted)?;
    if tool::has(&sorted.options, Prints) {
        draft.line.informational = true;
        return Ok(());
    }
    sorted.options.iter().try_for_each(|given| read_option(draft, given))?;
    if tool::has(&sorted.options, List) {
        return socket(draft, &sorted.options, EndpointUse::Connect);
    }
    // With another number of operands it says so and ends.
    let [word] = sorted.operands.as_slice() else { return Ok(()) };
    socket(draft, &sorted.options, EndpointUse::Listen)?;
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
        Label => Err(Error::not_served(option, "a label of the socket", "leave it out: the broker makes the socket")),
        Device => Err(Error::not_served(option, "a device of the host's NBD client", USE_CLIENT)),
        Harmless | Prints | ImageOpts | Format | ReadOnly | Snapshot | Bind | Port | Socket | List => Ok(()),
    }
}

/// Notes the socket of `-k`, or else that of `-b` and `-p`.
fn socket(draft: &mut Draft<'_>, options: &[Given<Meaning>], use_: EndpointUse) -> Result<(), Error> {
    let typed = |meaning| tool::last(options, meaning);
    let given = typed(Socket).or(typed(Port)).or(typed(Bind));
    let option = given.map_or("qemu-nbd", |given| given.typed.as_str());
    let address = match tool::argument(options, Socket) {
        // It demands an absolute path.
        Some(path) if path.as_bytes().starts_with(b"/") => address::unix(option, path, false, true)?,
        Some(_) => None,
        None => {
            let host = address::utf8(option, tool::argument(options, Bind).unwrap_or(OsStr::new(HOST)))?;
            let port = address::utf8(option, tool::argument(options, Port).unwrap_or(OsStr::new(PORT)))?;
            Inet { host, port, ..Inet::default() }.address(draft, option, Transport::Tcp)?
        }
    };
    draft.endpoint(option, use_, address);
    Ok(())
}

/// The first descriptor that a caller hands over (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const FIRST_SOCKET: i32 = 3;

/// Notes the socket that the caller of process `pid` has opened for `qemu-nbd`, in place of one that it would make;
/// `variable` reads the environment.
///
/// # Errors
/// [`Error::Malformed`] where there are several, which it does not take.
pub fn take_socket(line: &mut CommandLine, variable: &dyn Fn(&str) -> Option<OsString>, pid: u32) -> Result<(), Error> {
    let number = |name| variable(name).as_deref().and_then(OsStr::to_str).and_then(|text| text.parse::<u32>().ok());
    if line.informational {
        return Ok(());
    }
    match number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(pid)) {
        None | Some(0) => Ok(()),
        Some(1) => {
            // It refuses words that name another one besides.
            line.endpoints.retain(|endpoint| endpoint.use_ != EndpointUse::Listen);
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
    use super::super::testing::{image, images, names, overlaid, ro, rw, sockets, tool_line};
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
    fn it_listens_or_lists() {
        for (words, expected) in [
            (&["a"][..], "listen 0.0.0.0:10809"),
            (&["-tp", "10810", "a"], "listen 0.0.0.0:10810"),
            (&["--bind=::1", "a"], "listen ::1:10809"),
            (&["-b", "localhost", "--port", "1", "-p2", "a"], "listen localhost:2"),
            (&["-k", "/s", "a"], "listen /s"),
            (&["-k", "/s", "-p", "1", "a"], "listen /s"),
            (&["-L"], "connect 0.0.0.0:10809"),
            (&["-L", "-b", "h", "-p", "1"], "connect h:1"),
            (&["--list", "-k", "/s"], "connect /s"),
            (&["-k", "s", "a"], ""),
            (&["-p", "nosuch", "a"], ""),
            (&["-k", "/s"], ""),
        ] {
            let found = tool_line("qemu-nbd", words).unwrap();
            assert_eq!(sockets(&found).join("; "), expected, "{words:?}");
        }
        let option = &tool_line("qemu-nbd", &["-k", "/s", "a"]).unwrap().endpoints[0].option;
        assert_eq!(option, "qemu-nbd -k /s");
    }

    #[test]
    fn labels_and_devices_are_refused_by_name() {
        for (words, option) in [
            (&["--sel", "x", "a"][..], "qemu-nbd --sel x"),
            (&["-c", "/dev/nbd0", "a"], "qemu-nbd -c /dev/nbd0"),
            (&["-d", "/dev/nbd0"], "qemu-nbd -d"),
        ] {
            let error = tool_line("qemu-nbd", words).unwrap_err();
            assert!(matches!(error, Error::NotServed { .. }) && error.to_string().starts_with(option), "{error}");
        }
    }

    #[test]
    fn the_caller_may_hand_one_socket_over() {
        let taken = |pid: &'static str, number: &'static str| {
            let mut line = tool_line("qemu-nbd", &["-f", "raw", "a"]).unwrap();
            let variable = |name: &str| Some(OsString::from(if name == "LISTEN_PID" { pid } else { number }));
            take_socket(&mut line, &variable, 77).map(|()| (line.descriptors, line.endpoints.len()))
        };
        assert_eq!(taken("77", "1").unwrap(), ([3].into(), 0));
        for (pid, number) in [("78", "1"), ("77", "0"), ("77", "x")] {
            assert_eq!(taken(pid, number).unwrap(), ([].into(), 1));
        }
        assert!(matches!(taken("77", "2"), Err(Error::Malformed { .. })));
        let mut help = tool_line("qemu-nbd", &["--help"]).unwrap();
        assert!(take_socket(&mut help, &|_| Some("1".into()), 1).is_ok() && help.descriptors.is_empty());
    }

    #[test]
    fn the_manual_names_every_option() {
        tool::tests::assert_in_manual(OPTIONS, "qemu-nbd");
    }
}
