//! Sockets in the short forms: `tcp:HOST:PORT,server`, `unix:PATH`, `udp:HOST:PORT@HOST:PORT`, ...
//!
//! Source: `qemu_chr_parse_compat` in QEMU's `chardev/char.c`. What stands behind the address are further pairs, and
//! of all the last counts: they can make another character device of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::super::address;
use super::super::error::Error;
use super::super::value::Pairs;

/// Forms with a host and a port, and the switch that they stand for.
const TCP: &[(&[u8], Option<&str>)] =
    &[(b"tcp:", None), (b"telnet:", Some("telnet")), (b"tn3270:", Some("tn3270")), (b"websocket:", Some("websocket"))];

/// Room for a host and for a port (`%64[^:]`, `%32[^,]`), in bytes.
const MAX_HOST: usize = 64;
const MAX_PORT: usize = 32;

/// A short form.
pub(super) enum Form {
    /// No socket.
    Other,
    /// One that QEMU refuses.
    Refused,
    /// The options of `-chardev` that it stands for.
    Socket(Pairs),
}

impl From<Option<Pairs>> for Form {
    fn from(pairs: Option<Pairs>) -> Self {
        pairs.map_or(Self::Refused, Self::Socket)
    }
}

/// Reads a short form, without `mon:`.
///
/// # Errors
/// [`Error::Malformed`] for what is not UTF-8.
pub(super) fn read(option: &str, form: &[u8]) -> Result<Form, Error> {
    if let Some(path) = form.strip_prefix(b"unix:") {
        let mut pairs = backend("socket");
        pairs.extend(Pairs::parse(option, OsStr::from_bytes(path), Some("path"))?);
        return Ok(Form::Socket(pairs));
    }
    if let Some(rest) = form.strip_prefix(b"udp:") {
        return Ok(udp(address::utf8(option, OsStr::from_bytes(rest))?).into());
    }
    for (prefix, switch) in TCP {
        if let Some(rest) = form.strip_prefix(*prefix) {
            return tcp(option, address::utf8(option, OsStr::from_bytes(rest))?, *switch).map(Form::from);
        }
    }
    Ok(Form::Other)
}

fn backend(name: &str) -> Pairs {
    let mut pairs = Pairs::default();
    pairs.push("backend", name);
    pairs
}

fn tcp(option: &str, text: &str, switch: Option<&str>) -> Result<Option<Pairs>, Error> {
    let Some((host, port, rest)) = host_and_port(text, &[',']) else { return Ok(None) };
    let mut pairs = backend("socket");
    pairs.push("host", host);
    pairs.push("port", port);
    if let Some(more) = rest.strip_prefix(',') {
        pairs.extend(Pairs::parse(option, OsStr::new(more), None)?);
    }
    if let Some(switch) = switch {
        pairs.push(switch, "on");
    }
    Ok(Some(pairs))
}

/// What stands behind a second port is not looked at.
fn udp(text: &str) -> Option<Pairs> {
    let (host, port, rest) = host_and_port(text, &['@', ','])?;
    let mut pairs = backend("udp");
    pairs.push("host", host);
    pairs.push("port", port);
    if let Some(own) = rest.strip_prefix('@') {
        let (host, port, _) = host_and_port(own, &[','])?;
        pairs.push("localaddr", host);
        pairs.push("localport", port);
    }
    Some(pairs)
}

/// `HOST:PORT` or `:PORT`, up to one of `ends`, and the rest.
fn host_and_port<'t>(text: &'t str, ends: &[char]) -> Option<(&'t str, &'t str, &'t str)> {
    let (host, rest) = text.split_once(':').filter(|(host, _)| host.len() <= MAX_HOST)?;
    let end = rest.find(ends).unwrap_or(rest.len()).min(MAX_PORT);
    let (port, rest) = rest.split_at_checked(end)?;
    (!port.is_empty()).then_some((host, port, rest))
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::Kind;
    use super::super::super::testing::{assert_not_served, assert_sockets, line, names};

    #[test]
    fn every_short_form() {
        let long = format!("tcp:{}:1", "h".repeat(65));
        assert_sockets(&[
            (&["-qmp", "unix:/x,server=on,wait=off"], "listen /x"),
            (&["-qmp-pretty", "unix:x,server,nowait"], "listen x"),
            (&["-monitor", "unix:a,,b"], "connect a,b"),
            (&["-monitor", "unix:n,abstract=on,server=on"], "listen @n"),
            (&["-monitor", "telnet:127.0.0.1:55555,server,nowait"], "listen 127.0.0.1:55555"),
            (&["-serial", "tcp::4444,server"], "listen :4444"),
            (&["-serial", "mon:tcp:h:4444,server=on,ipv4=on,to=4450"], "listen h:4444-4450 ipv4"),
            (&["-serial", "tn3270:h:1,server=on"], "listen h:1"),
            (&["-serial", "websocket:h:1,server=on,wait=off"], "listen h:1"),
            (&["-parallel", "tcp:h:1,reconnect=1"], "connect h:1"),
            (&["-debugcon", "tcp:h:1,host=g,port=2"], "connect g:2"),
            (&["-qtest", "unix:/q,server=on,wait=off"], "listen /q"),
            (&["-serial", "udp::1@:2"], "datagram localhost:1 from :2"),
            (&["-serial", "udp:h:1"], "datagram h:1"),
            (&["-serial", "udp:h:1@127.0.0.1:2,x"], "datagram h:1 from 127.0.0.1:2"),
            (&["-serial", "udp:h:1,localport=3"], "datagram h:1"),
            (&["-monitor", "nonesuch:h:1"], ""),
            (&["-serial", "tcp:h"], ""),
            (&["-serial", "tcp:[::1]:4444"], ""),
            (&["-serial", "udp:h:1@"], ""),
            (&["-serial", &long], ""),
        ]);
    }

    #[test]
    fn a_debugger_is_waited_for() {
        assert_sockets(&[
            (&["-s"], "listen :1234"),
            (&["-gdb", "tcp::1234"], "listen :1234"),
            (&["-gdb", "tcp:localhost:9000,server=off"], "listen localhost:9000"),
            (&["-gdb", "unix:/g,server=on,wait=off"], "listen /g"),
            (&["-gdb", "unix:/g"], "connect /g"),
            (&["-gdb", "none"], ""),
        ]);
    }

    #[test]
    fn what_stands_behind_an_address_can_change_all() {
        let found = line(&["-serial", "tcp:h:1,backend=file,path=/etc/x"]).unwrap();
        assert_eq!(names(&found), [("/etc/x", &Kind::OutputFile { append: false })]);
        assert!(found.endpoints.is_empty());
        assert_eq!(line(&["-qmp", "unix:fd=3"]).unwrap().descriptors, [3].into());
        assert_not_served(&[&["-serial", "unix:/x,backend=dbus"], &["-qmp", "unix:,server=on"]]);
    }
}
