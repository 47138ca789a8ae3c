//! Character devices: `-chardev`, and the short forms of `-serial`, `-monitor`, `-qmp` and others.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::resource::Kind;
use super::value::Pairs;

/// What a backend reaches for.
enum Backend {
    /// Nothing, or a standard stream.
    Inside,
    /// Writes the file `path=`, and reads `input-path=`.
    File,
    /// A socket; an open one can be named with `fd=`.
    Socket,
    /// Something outside.
    Later(&'static str),
}

const STDIO: &str = "use stdio, null, file, or socket with fd=N";

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
    ("udp", Backend::Later(STDIO)),
    ("pipe", Backend::Later(STDIO)),
    ("pty", Backend::Later(STDIO)),
    ("serial", Backend::Later(STDIO)), // a serial port of the host
    ("tty", Backend::Later(STDIO)),
    ("parallel", Backend::Later(STDIO)),
    ("parport", Backend::Later(STDIO)),
    ("braille", Backend::Later("use usb-kbd and -nographic")), // connects to brltty
    ("spicevmc", Backend::Later(STDIO)),
    ("spiceport", Backend::Later(STDIO)),
];

/// `-chardev`.
///
/// # Errors
/// [`Error::NotServed`] for backends that reach outside, [`Error::Malformed`] for odd values.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let name = pairs.text("backend").unwrap_or_default();
    let backend = BACKENDS.iter().find(|(n, _)| *n == name).map(|(_, b)| b);
    match backend {
        Some(Backend::Inside) => {}
        Some(Backend::File) => file(draft, option, pairs)?,
        Some(Backend::Socket) => match pairs.name("fd") {
            Some(fd) if pairs.get("path").is_none() && pairs.get("host").is_none() => {
                draft.descriptor(option, fd)?;
            }
            _ => return Err(refused_socket(option, "the socket")),
        },
        Some(Backend::Later(instead)) => {
            let what = format!("the character device {name}");
            return Err(Error::not_served(option, what, *instead));
        }
        None => {
            let what = format!("the character device {name:?}");
            return Err(Error::not_served(option, what, STDIO));
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

/// Every backend can copy what it sends to `logfile=`.
fn log(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    let append = pairs.switch(option, "logappend")?.unwrap_or(false);
    match pairs.name("logfile") {
        Some(path) => draft.file(option, path, Kind::OutputFile { append }, OpenedBy::QemuOpen),
        None => Ok(()),
    }
}

fn refused_socket(option: &str, what: &str) -> Error {
    let instead = "use stdio, or hand an open socket over: -chardev socket,id=ID,fd=N and chardev:ID";
    Error::not_served(option, what, instead)
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
    let inside = matches!(form, b"" | b"none" | b"null" | b"stdio" | b"msmouse" | b"wctablet" | b"testdev")
        || form.starts_with(b"vc")
        || form.starts_with(b"chardev:");
    if inside {
        return Ok(());
    }
    let form = String::from_utf8_lossy(form);
    let socket =
        ["unix:", "tcp:", "udp:", "telnet:", "tn3270:", "websocket:"].iter().any(|start| form.starts_with(start));
    if socket {
        return Err(refused_socket(option, "the socket"));
    }
    Err(Error::not_served(option, format!("the character device {form:?}"), STDIO))
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
    fn an_open_socket_is_a_descriptor() {
        let found = line(&["-chardev", "socket,id=m,fd=30,server=on,wait=off", "-mon", "m"]).unwrap();
        assert_eq!(found.descriptors, [30].into());
        assert!(found.resources.is_empty());
    }

    #[test]
    fn sockets_and_host_devices_are_refused() {
        assert_not_served(&[
            &["-qmp", "unix:/x,server=on"],
            &["-qmp", "unix:fd=3"],
            &["-serial", "tcp::4444,server"],
            &["-serial", "telnet:h:1"],
            &["-serial", "udp::1@:2"],
            &["-serial", "pty"],
            &["-serial", "/dev/ttyS0"],
            &["-serial", "pipe:/x"],
            &["-serial", "braille"],
            &["-serial", "odd"],
            &["-parallel", "/dev/parport0"],
            &["-gdb", "tcp::1234"],
            &["-chardev", "socket,id=a,path=/x"],
            &["-chardev", "socket,id=a,fd=3,path=/x"],
            &["-chardev", "socket,id=a,host=h,port=1"],
            &["-chardev", "pty,id=a"],
            &["-chardev", "dbus,id=a,name=n"],
            &["-chardev", "newer,id=a"],
            &["-chardev", "id=a"],
            &["-serial", "file:/dev/stdout"],
            &["-chardev", "file,id=a,path=/proc/self/fd/1"],
        ]);
        assert!(line(&["-chardev", "socket,id=a,fd=vm"]).is_err());
    }
}
