//! Character devices: `-chardev`, and the short forms of `-serial`, `-monitor`, `-qmp` and others.

mod compat;
mod socket;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use self::compat::Form;

use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::resource::Kind;
use super::value::{Pairs, is_help};

/// What a backend reaches for.
enum Backend {
    /// Nothing, or a standard stream.
    Inside,
    /// Writes the file `path=`, and reads `input-path=`.
    File,
    /// A socket by address; an open one can be named with `fd=`.
    Socket,
    /// A socket for datagrams.
    Udp,
    /// A new pseudo-terminal.
    Pty,
    /// The FIFOs `PATH.in` and `PATH.out`, or whatever is at `path=`.
    Pipe,
    /// The serial or parallel port `path=`.
    Port,
    /// Something outside.
    Later(&'static str),
}

const STDIO: &str = "use stdio, null, file or socket";

/// All backends of QEMU 7.2 and 10.0 (`ChardevBackendKind` in `qapi/char.json`, and QEMU's aliases).
const BACKENDS: &[(&str, Backend)] = &[
    ("null", Backend::Inside),
    ("stdio", Backend::Inside),
    ("vc", Backend::Inside),
    ("ringbuf", Backend::Inside),
    ("memory", Backend::Inside),
    ("mux", Backend::Inside),
    ("hub", Backend::Inside), // other chardevs, by id
    ("msmouse", Backend::Inside),
    ("wctablet", Backend::Inside),
    ("testdev", Backend::Inside),
    ("qemu-vdagent", Backend::Inside), // the clipboard of QEMU's own display
    ("console", Backend::Inside),      // Windows only
    ("file", Backend::File),
    ("socket", Backend::Socket),
    ("udp", Backend::Udp),
    ("pipe", Backend::Pipe),
    ("pty", Backend::Pty),
    ("serial", Backend::Port),
    ("tty", Backend::Port),
    ("parallel", Backend::Port),
    ("parport", Backend::Port),
    ("dbus", Backend::Later(STDIO)),
    ("braille", Backend::Later("use usb-kbd and -nographic")), // connects to brltty
    ("spicevmc", Backend::Inside),                             // channels of QEMU's own SPICE server
    ("spiceport", Backend::Inside),
];

/// `-chardev`.
///
/// # Errors
/// [`Error::NotServed`] for backends that reach outside, [`Error::Malformed`] for odd values.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    if pairs.help || pairs.get("backend").is_some_and(is_help) {
        draft.line.informational = true;
        return Ok(());
    }
    let name = pairs.text("backend").unwrap_or_default();
    let backend = BACKENDS.iter().find(|(n, _)| *n == name).map(|(_, b)| b);
    match backend {
        Some(Backend::Inside) => {}
        Some(Backend::File) => file(draft, option, pairs)?,
        Some(Backend::Socket) => socket::stream(draft, option, pairs)?,
        Some(Backend::Udp) => socket::datagram(draft, option, pairs)?,
        Some(Backend::Pty) => pty(draft, option, pairs)?,
        Some(Backend::Pipe) => pairs.name("path").map_or(Ok(()), |path| pipe(draft, option, path))?,
        Some(Backend::Port) => pairs.name("path").map_or(Ok(()), |path| port(draft, option, path))?,
        Some(Backend::Later(instead)) => {
            let what = format!("the character device {name}");
            return Err(Error::not_served(option, what, *instead));
        }
        None => {
            let what = format!("the character device {name:?}");
            return Err(Error::not_known(option, what, STDIO));
        }
    }
    log(draft, option, pairs)
}

fn file(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    let append = pairs.switch(option, "append")?.unwrap_or(false);
    if let Some(path) = pairs.name("path") {
        draft.file(option, path, Kind::OutputFile { append }, OpenedBy::QemuOpen)?;
    }
    if let Some(path) = pairs.name("input-path") {
        draft.file(option, path, Kind::ReadOnlyFile, OpenedBy::QemuOpen)?;
    }
    Ok(())
}

/// A new pseudo-terminal. Since QEMU 10.0 a link to it can be asked for, whose target nobody knows beforehand.
fn pty(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    if pairs.name("path").is_some() {
        let instead = "leave out the path: QEMU prints the terminal's name, and query-chardev tells it";
        return Err(Error::not_served(option, "the link to a new terminal", instead));
    }
    draft.line.terminals = true;
    Ok(())
}

/// QEMU tries `PATH.in` and `PATH.out`, and takes the path itself if one of them cannot be opened
/// (`qemu_chr_open_pipe` in `chardev/char-pipe.c`).
fn pipe(draft: &mut Draft<'_>, option: &str, path: &OsStr) -> Result<(), Error> {
    for suffix in ["", ".in", ".out"] {
        let name = OsString::from_iter([path, OsStr::new(suffix)]);
        draft.file(option, &name, Kind::Stream, OpenedBy::QemuOpen)?;
    }
    Ok(())
}

fn port(draft: &mut Draft<'_>, option: &str, path: &OsStr) -> Result<(), Error> {
    draft.file(option, path, Kind::Stream, OpenedBy::QemuOpen)
}

/// Every backend can copy what it sends to `logfile=`.
fn log(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    let append = pairs.switch(option, "logappend")?.unwrap_or(false);
    match pairs.name("logfile") {
        Some(path) => draft.file(option, path, Kind::OutputFile { append }, OpenedBy::QemuOpen),
        None => Ok(()),
    }
}

/// The short form: `-serial`, `-parallel`, `-monitor`, `-qmp`, `-debugcon`, `-gdb`, `-qtest`.
/// Source: `qemu_chr_parse_compat` in QEMU's `chardev/char.c`; all but sockets take the rest as it stands.
///
/// # Errors
/// [`Error::NotServed`] for what reaches outside, or is no known form.
pub(super) fn short(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    // A chardev: name cannot follow mon:, and QEMU says so itself.
    let bytes = value.as_bytes();
    let form = bytes.strip_prefix(b"mon:").unwrap_or(bytes);
    if let Some(path) = form.strip_prefix(b"file:") {
        let kind = Kind::OutputFile { append: false };
        return draft.file(option, OsStr::from_bytes(path), kind, OpenedBy::QemuOpen);
    }
    if form == b"pty" {
        draft.line.terminals = true;
        return Ok(());
    }
    if let Some(path) = form.strip_prefix(b"pipe:") {
        return pipe(draft, option, OsStr::from_bytes(path));
    }
    if form.starts_with(b"/dev/") {
        return port(draft, option, OsStr::from_bytes(form));
    }
    let inside = matches!(form, b"" | b"none" | b"null" | b"stdio" | b"msmouse" | b"wctablet" | b"testdev")
        || form.starts_with(b"vc")
        || form.starts_with(b"chardev:");
    if inside {
        return Ok(());
    }
    match compat::read(option, form)? {
        Form::Socket(pairs) => {
            let option = option.to_owned();
            self::read(draft, &Group { name: "chardev", option, pairs, read, from_file: false, word: None })
        }
        Form::Refused => Ok(()),
        Form::Other => {
            let name = form.split(|byte| matches!(byte, b':' | b',')).next().unwrap_or_default();
            let known = BACKENDS.iter().any(|(backend, _)| backend.as_bytes() == name);
            let what = format!("the character device {:?}", String::from_utf8_lossy(form));
            Err(if known { Error::not_served(option, what, STDIO) } else { Error::not_known(option, what, STDIO) })
        }
    }
}

/// `-gdb`: QEMU listens on TCP whatever else is said (`gdbserver_start` in its `gdbstub`).
///
/// # Errors
/// As [`short`].
pub(super) fn gdb(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    let mut value = OsString::from(value);
    if value.as_bytes().starts_with(b"tcp:") {
        value.push(",wait=off,nodelay=on,server=on");
    }
    short(draft, option, &value)
}

/// `-s`, which is `-gdb tcp::1234`.
///
/// # Errors
/// As [`short`].
pub(super) fn default_gdb(draft: &mut Draft<'_>, option: &str) -> Result<(), Error> {
    gdb(draft, option, OsStr::new("tcp::1234"))
}

/// `-monitor`: QEMU takes every word that begins with `none` for none.
///
/// # Errors
/// As [`short`].
pub(super) fn monitor(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    if value.as_bytes().starts_with(b"none") {
        return Ok(());
    }
    short(draft, option, value)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_harmless, assert_not_served, line, names};
    use super::*;

    #[test]
    fn streams_and_inner_devices_name_nothing() {
        assert_harmless(&[
            &["-serial", "stdio"],
            &["-serial", "mon:stdio"],
            &["-serial", "none", "-parallel", "null", "-monitor", "none"],
            &["-serial", "vc:80Cx24C"],
            &["-qmp", "stdio"],
            &["-serial", "chardev:c", "-chardev", "ringbuf,id=c,size=64k"],
            &["-chardev", "null,id=a", "-mon", "chardev=a,mode=control"],
            &["-chardev", "stdio,id=a,mux=on,signal=off"],
            &["-chardev", "spicevmc,id=a,name=vdagent", "-chardev", "spiceport,id=b,name=org.x.0"],
            &["-serial", "file:/dev/null"],
            &["-chardev", "file,id=a,path=/dev/fdset/3,append=on"],
        ]);
    }

    #[test]
    fn files_are_written() {
        let found = line(&["-serial", "file:a,b"]).unwrap();
        assert_eq!(names(&found), [("a,b", &Kind::OutputFile { append: false })]);
        let found = line(&["-serial", "mon:file:x"]).unwrap();
        assert_eq!(names(&found), [("x", &Kind::OutputFile { append: false })]);
        let value = "file,id=a,path=out,append=on,input-path=in,logfile=log,logappend=off";
        let found = line(&["-chardev", value]).unwrap();
        assert_eq!(
            names(&found),
            [
                ("out", &Kind::OutputFile { append: true }),
                ("in", &Kind::ReadOnlyFile),
                ("log", &Kind::OutputFile { append: false }),
            ]
        );
        let found = line(&["-chardev", "stdio,id=a,logfile=l,logappend=on"]).unwrap();
        assert_eq!(names(&found), [("l", &Kind::OutputFile { append: true })]);
    }

    #[test]
    fn asking_for_the_list_starts_nothing() {
        assert!(line(&["-chardev", "help"]).unwrap().informational);
        assert!(line(&["-chardev", "socket,help"]).unwrap().informational);
    }

    #[test]
    fn an_open_socket_is_a_descriptor() {
        let found = line(&["-chardev", "socket,id=m,fd=30,server=on,wait=off", "-mon", "m"]).unwrap();
        assert_eq!(found.descriptors, [30].into());
        assert!(found.resources.is_empty());
    }

    #[test]
    fn terminals_are_counted_and_named_ones_are_devices() {
        for words in [["-serial", "pty"], ["-monitor", "pty"], ["-serial", "mon:pty"], ["-chardev", "pty,id=a"]] {
            let found = line(&words).unwrap();
            assert!(found.terminals && found.resources.is_empty(), "{words:?}");
        }
        assert!(!line(&["-serial", "stdio"]).unwrap().terminals);
        for (words, name) in [
            (["-serial", "/dev/ttyS0"], "/dev/ttyS0"),
            (["-monitor", "/dev/pts/3"], "/dev/pts/3"),
            (["-parallel", "/dev/parport0"], "/dev/parport0"),
            (["-parallel", "/dev/null"], "/dev/null"),
            (["-chardev", "serial,id=a,path=/dev/tty1"], "/dev/tty1"),
            (["-chardev", "tty,id=a,path=t"], "t"),
            (["-chardev", "parallel,id=a,path=/dev/parport1"], "/dev/parport1"),
            (["-chardev", "parport,id=a,path=/dev/parport1"], "/dev/parport1"),
        ] {
            assert_eq!(names(&line(&words).unwrap()), [(name, &Kind::Stream)], "{words:?}");
        }
    }

    #[test]
    fn a_pipe_is_two_fifos_or_one() {
        for words in [["-serial", "pipe:p"], ["-chardev", "pipe,id=a,path=p"]] {
            let found = line(&words).unwrap();
            let wanted = ["p", "p.in", "p.out"].map(|name| (name, &Kind::Stream));
            assert_eq!(names(&found), wanted, "{words:?}");
        }
    }

    #[test]
    fn links_to_terminals_and_servers_of_the_host_are_refused() {
        assert_not_served(&[
            &["-serial", "pty:/tmp/link"],
            &["-chardev", "pty,id=a,path=/tmp/link"],
            &["-serial", "/dev/tty"],
            &["-serial", "/dev/ptmx"],
            &["-serial", "braille"],
            &["-serial", "odd"],
            &["-chardev", "dbus,id=a,name=n"],
            &["-chardev", "newer,id=a"],
            &["-chardev", "id=a"],
            &["-serial", "file:/dev/stdout"],
            &["-chardev", "file,id=a,path=/proc/self/fd/1"],
        ]);
        assert!(line(&["-chardev", "socket,id=a,fd=vm"]).is_err());
    }
}
