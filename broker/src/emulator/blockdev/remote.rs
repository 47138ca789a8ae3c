//! Block nodes behind a socket: `nbd`, and `virtio-blk-vhost-user`.
//!
//! Sources: `nbd_parse_filename`, `nbd_parse_uri` and `nbd_process_options` in QEMU's `block/nbd.c`, `block/blkio.c`.
//! Like QEMU this turns every way to name a server into keys of a `SocketAddress`, `server.type` and so on.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::super::address;
use super::super::error::Error;
use super::super::value::Pairs;
use super::{Keys, take_below};

/// The port of NBD (`NBD_DEFAULT_PORT`).
const PORT: &str = "10809";

/// Before the name of an export.
const EXPORT: &str = ":exportname=";

/// Protocols of names that NBD's driver takes.
const PROTOCOLS: [&str; 3] = ["nbd", "nbd+tcp", "nbd+unix"];

/// Keys that name something on the server.
const ON_THE_SERVER: [&str; 4] = ["export", "x-dirty-bitmap", "tls-hostname", "tls-creds"];

/// Whether `name` is one that only the driver `nbd` takes.
pub(in super::super) fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let end = bytes.iter().position(|byte| matches!(byte, b':' | b'/'));
    let protocol = end.filter(|end| bytes.get(*end) == Some(&b':')).and_then(|end| bytes.get(..end));
    protocol.is_some_and(|protocol| PROTOCOLS.iter().any(|known| known.as_bytes() == protocol))
}

/// The server of a name; none if QEMU refuses it.
///
/// # Errors
/// [`Error::Malformed`] if it is not UTF-8, which only the path of a socket need not be.
pub(in super::super) fn of_name(option: &str, name: &OsStr) -> Result<Option<Pairs>, Error> {
    if let Some((scheme, rest)) = name.to_str().and_then(|text| text.split_once("://")) {
        return Ok(of_uri(scheme, rest));
    }
    let bytes = name.as_bytes();
    let end = bytes.windows(EXPORT.len()).position(|window| window == EXPORT.as_bytes()).unwrap_or(bytes.len());
    let Some(server) = bytes.get(..end).and_then(|server| server.strip_prefix(b"nbd:")) else { return Ok(None) };
    if let Some(path) = server.strip_prefix(b"unix:") {
        return Ok(Some(unix(OsStr::from_bytes(path))));
    }
    let text = address::utf8(option, OsStr::from_bytes(server))?;
    Ok(address::host_and_port(text).map(|(host, port, _)| inet(host, port)))
}

/// `nbd://HOST[:PORT]/EXPORT`, or `nbd+unix:///EXPORT?socket=PATH`.
fn of_uri(scheme: &str, rest: &str) -> Option<Pairs> {
    let rest = rest.split('#').next().unwrap_or_default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    if scheme == "nbd+unix" {
        let (_, path) = query.split_once('=').filter(|(key, path)| *key == "socket" && !path.contains(['&', ';']))?;
        return authority.is_empty().then(|| unix(&decoded(path)));
    }
    let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = port.trim_start_matches(':').trim_start_matches('0');
    let served = PROTOCOLS.contains(&scheme) && query.is_empty() && !host.is_empty();
    let host = decoded(host).into_string().ok()?;
    served.then(|| inet(&host, if port.is_empty() { PORT } else { port }))
}

/// `%XX` as the byte that it stands for.
fn decoded(text: &str) -> OsString {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| *byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(out)
}

/// Takes what names the server out of the options of a node of `driver`.
///
/// # Errors
/// [`Error::Malformed`] if the server is named twice; as [`of_name`].
pub(super) fn take(option: &str, driver: &str, keys: &mut Keys, name: Option<&OsStr>) -> Result<Option<Pairs>, Error> {
    ON_THE_SERVER.iter().for_each(|key| drop(keys.remove(*key)));
    let below = take_below(keys, "server");
    let (host, port, path) = (keys.remove("host"), keys.remove("port"), keys.remove("path"));
    if driver != "nbd" {
        return Ok(path.map(|path| unix(&path)));
    }
    let flat = host.is_some() || port.is_some() || path.is_some();
    match name {
        Some(_) if flat || !below.is_empty() => {
            Err(Error::malformed(option, "the name and other options both name a server; write one of them"))
        }
        Some(name) => of_name(option, name),
        None if !below.is_empty() => {
            let mut server = Pairs::default();
            below.into_iter().for_each(|(key, value)| server.push(format!("server.{key}"), value));
            Ok((!flat).then_some(server))
        }
        None => match (host, path) {
            (Some(host), None) => {
                let host = address::utf8(option, &host)?;
                let port = port.unwrap_or_else(|| PORT.into());
                Ok(Some(inet(host, address::utf8(option, &port)?)))
            }
            (None, Some(path)) if port.is_none() => Ok(Some(unix(&path))),
            _ => Ok(None),
        },
    }
}

fn unix(path: &OsStr) -> Pairs {
    let mut server = Pairs::default();
    server.push("server.type", "unix");
    server.push("server.path", path);
    server
}

fn inet(host: &str, port: &str) -> Pairs {
    let mut server = Pairs::default();
    server.push("server.type", "inet");
    server.push("server.host", host);
    server.push("server.port", port);
    server
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{assert_not_served, images, line, sockets, tool_line};

    fn of(words: &[&str]) -> String {
        let found = line(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        assert!(images(&found).is_empty());
        sockets(&found).join("; ")
    }

    #[test]
    fn servers_in_names() {
        for (name, expected) in [
            ("nbd:h:1", "connect h:1"),
            ("nbd:[::1]:1:exportname=a/b", "connect ::1:1"),
            ("nbd:h:1,to=5,ipv4", "connect h:1"),
            ("nbd:unix:/run/n:exportname=x", "connect /run/n"),
            ("nbd:unix:rel", "connect rel"),
            ("nbd://h", "connect h:10809"),
            ("nbd://h:2/export/x", "connect h:2"),
            ("nbd+tcp://[::1]:2/", "connect ::1:2"),
            ("nbd://u@h:0/x#y", "connect h:10809"),
            ("nbd+unix:///?socket=/run/n%20x", "connect /run/n x"),
            ("nbd+unix:///e/x?socket=rel", "connect rel"),
            ("nbd+unix:///e", ""),
            ("nbd+unix:///e?socket=a&x=b", ""),
            ("nbd+unix://h/e?socket=a", ""),
            ("nbd://h/x?y=z", ""),
            ("nbd://", ""),
            ("nbd:", ""),
            ("nbd:h", ""),
            ("nbd+tcp:h:1", ""),
        ] {
            let doubled = name.replace(',', ",,");
            assert_eq!(of(&["-drive", &format!("file={doubled},if=none,format=raw")]), expected, "{name}");
            assert_eq!(of(&["-hda", name]), expected, "{name}");
        }
    }

    #[test]
    fn servers_in_options() {
        for (option, value, expected) in [
            ("-blockdev", "driver=nbd,node-name=n,server.type=unix,server.path=/s,export=a/b", "connect /s"),
            ("-blockdev", "nbd,server.type=inet,server.host=h,server.port=1,server.ipv4=on", "connect h:1 ipv4"),
            (
                "-blockdev",
                r#"{"driver":"nbd","server":{"type":"inet","host":"h","port":"1"},"tls-creds":"t"}"#,
                "connect h:1",
            ),
            ("-blockdev", "driver=qcow2,file.driver=nbd,file.server.type=unix,file.server.path=/s", "connect /s"),
            ("-blockdev", "virtio-blk-vhost-user,path=/s,cache.direct=on", "connect /s"),
            ("-drive", "driver=nbd,host=h", "connect h:10809"),
            ("-drive", "driver=nbd,host=h,port=2,export=/x", "connect h:2"),
            ("-drive", "file.driver=nbd,file.path=/s,format=raw", "connect /s"),
            ("-drive", "driver=nbd,path=/s,host=h", ""),
            ("-drive", "driver=nbd,port=1", ""),
            ("-drive", "driver=nbd,export=x", ""),
            ("-drive", "file=json:{'driver':'nbd',,'host':'h'}", "connect h:10809"),
            ("-drive", "file=x,driver=nbd", ""),
            ("-drive", "driver=nbd,file=nbd://h/x", "connect h:10809"),
        ] {
            assert_eq!(of(&[option, value]), expected, "{value}");
        }
        let two = ["-blockdev", "nbd,node-name=n,server.type=unix,server.path=/s", "-blockdev", "raw,file=n"];
        assert_eq!(of(&two), "connect /s");
        let handed = line(&["-blockdev", "nbd,server.type=fd,server.str=7"]).unwrap();
        assert_eq!(handed.descriptors, [7].into());
    }

    #[test]
    fn a_backing_file_may_be_on_a_server() {
        let words = ["-drive", "file=top,format=qcow2,backing.driver=raw,backing.file.driver=nbd,backing.file.path=/s"];
        let found = line(&words).unwrap();
        assert_eq!((sockets(&found), found.resources.len()), (vec!["connect /s".to_owned()], 1));
    }

    #[test]
    fn what_could_name_something_else_is_refused() {
        assert_not_served(&[
            &["-blockdev", "nbd,server.type=vsock,server.cid=1,server.port=1"],
            &["-blockdev", "nbd,server.type=unix,server.path=/s,server.newer=/x"],
            &["-blockdev", "nbd,server.type=unix,server.path=/s,newer=/x"],
            &["-blockdev", "virtio-blk-vhost-vdpa,path=/dev/vhost-vdpa-0"],
            &["-drive", "file=nbds://h/x"],
        ]);
        assert!(line(&["-drive", "file=nbd://h/x,file.server.type=unix,file.server.path=/s"]).is_err());
    }

    #[test]
    fn tools_connect_too() {
        let servers = |program: &str, words: &[&str]| sockets(&tool_line(program, words).unwrap()).join("; ");
        assert_eq!(servers("qemu-img", &["info", "nbd:unix:/s"]), "connect /s");
        assert_eq!(servers("qemu-img", &["convert", "-n", "-f", "raw", "a", "nbd://h/x"]), "connect h:10809");
        assert_eq!(servers("qemu-img", &["convert", "-f", "raw", "a", "nbd://h/x"]), "connect h:10809");
        assert_eq!(servers("qemu-io", &["--image-opts", "driver=nbd,path=/s"]), "connect /s");
        assert_eq!(
            servers("qemu-storage-daemon", &["--blockdev", "nbd,server.type=unix,server.path=/s"]),
            "connect /s"
        );
    }
}
