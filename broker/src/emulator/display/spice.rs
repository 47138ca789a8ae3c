//! `-spice`: a server on a port, on a second one with TLS, or on a UNIX socket.
//!
//! Sources: `qemu_spice_init` in QEMU's `ui/spice-core.c`, and `reds_init_socket` in spice-server.

use std::ffi::{OsStr, OsString};

use super::super::address::{self, Inet, Transport};
use super::super::draft::{Draft, Group};
use super::super::endpoint::{Address, EndpointUse};
use super::super::error::Error;
use super::super::network::number;
use super::super::value::Pairs;

/// The files of TLS: the key of its name, and its name in `x509-dir=`.
const FILES: [(&str, &str); 3] =
    [("x509-key-file", "server-key.pem"), ("x509-cert-file", "server-cert.pem"), ("x509-cacert-file", "ca-cert.pem")];

/// The longest path of a UNIX socket, in bytes: spice-server cuts longer ones.
const MAX_PATH: usize = 107;

/// `-spice` is a display; what it says is understood with the others of its kind.
///
/// # Errors
/// None.
pub(in super::super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    draft.display |= !group.from_file;
    Ok(())
}

/// Reads all `-spice` together, which QEMU takes for one.
///
/// # Errors
/// [`Error::NotServed`] for SASL and a UNIX socket without a name, [`Error::Malformed`] for odd values.
pub(in super::super) fn connect(draft: &mut Draft<'_>, groups: &[Group]) -> Result<(), Error> {
    let mut all = groups.iter().filter(|group| group.name == "spice");
    let Some(first) = all.next() else { return Ok(()) };
    let (option, mut pairs) = (first.option.as_str(), first.pairs.clone());
    all.for_each(|group| pairs.extend(group.pairs.clone()));
    address::refuse_switch(option, &pairs, "sasl", "use password-secret=: SASL has files of its own")?;
    if pairs.switch(option, "gl")? == Some(true) {
        super::render_node(draft, option, pairs.get("rendernode"))?;
    }
    let (Some(port), Some(tls_port)) = (port(&pairs, "port"), port(&pairs, "tls-port")) else { return Ok(()) };
    if tls_port.is_some() {
        tls(draft, option, &pairs)?;
    }
    let on = |key: &str| Ok::<_, Error>(pairs.switch(option, key)?.unwrap_or(false));
    let (ipv4, ipv6) = (on("ipv4")?, on("ipv6")?);
    if on("unix")? && !ipv4 && !ipv6 {
        let path = pairs.get("addr").unwrap_or_default();
        let address = address::unix(option, path, false, true)?.filter(|_| path.len() <= MAX_PATH);
        draft.endpoint(option, EndpointUse::Listen, address);
        return Ok(());
    }
    let host = address::utf8(option, pairs.get("addr").unwrap_or_default())?;
    for port in [port, tls_port].into_iter().flatten() {
        let (ipv4, ipv6) = (ipv4.then_some(true), (ipv6 && !ipv4).then_some(true));
        let inet = Inet { host, port: &port.to_string(), to: None, ipv4, ipv6 };
        let address: Option<Address> = inet.address(draft, option, Transport::Tcp)?;
        draft.endpoint(option, EndpointUse::Listen, address);
    }
    Ok(())
}

/// A port, if there is one; no answer if QEMU refuses it.
fn port(pairs: &Pairs, key: &str) -> Option<Option<u16>> {
    let Some(value) = pairs.get(key) else { return Some(None) };
    let port = u16::try_from(number(value)?).ok()?;
    Some((port != 0).then_some(port))
}

fn tls(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    let folder = pairs.get("x509-dir").unwrap_or(OsStr::new("."));
    for (key, name) in FILES {
        let default: OsString = [folder, OsStr::new("/"), OsStr::new(name)].into_iter().collect();
        draft.read_only(option, pairs.get(key).unwrap_or(&default))?;
    }
    pairs.get("x509-dh-key-file").map_or(Ok(()), |file| draft.read_only(option, file))
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::Kind;
    use super::super::super::testing::{assert_not_served, assert_sockets, line, line_with, names, sockets};

    #[test]
    fn servers_with_and_without_a_port() {
        assert_sockets(&[
            (&["-spice", "port=5930,disable-ticketing=on"], "listen :5930"),
            (&["-spice", "port=0x10,addr=127.0.0.1,image-compression=off"], "listen 127.0.0.1:16"),
            (&["-spice", "port=1,ipv4=on,ipv6=on,unix=on"], "listen :1 ipv4"),
            (&["-spice", "port=1,addr=h,ipv6"], "listen h:1 ipv6"),
            (&["-spice", "unix=on,addr=/run/s,disable-ticketing"], "listen /run/s"),
            (&["-spice", "port=1", "-spice", "addr=h"], "listen h:1"),
            (&["-spice", "disable-ticketing=on"], ""),
            (&["-spice", "port=0"], ""),
            (&["-spice", "port=65536"], ""),
            (&["-spice", "port=x"], ""),
        ]);
    }

    #[test]
    fn tls_reads_files() {
        let found = line(&["-spice", "tls-port=2,port=1,x509-dir=/pki,x509-key-file=k,x509-dh-key-file=d"]).unwrap();
        assert_eq!(sockets(&found), ["listen :1", "listen :2"]);
        let read = &Kind::ReadOnlyFile;
        let expected = [("k", read), ("/pki/server-cert.pem", read), ("/pki/ca-cert.pem", read), ("d", read)];
        assert_eq!(names(&found), expected);
        assert_eq!(names(&line(&["-spice", "tls-port=2"]).unwrap())[0], ("./server-key.pem", read));
    }

    #[test]
    fn what_it_would_open_besides_is_refused() {
        assert_not_served(&[&["-spice", "port=1,sasl=on"], &["-spice", "unix=on"]]);
    }

    #[test]
    fn a_server_is_a_display() {
        let displayed = |words: &[&str]| line(words).unwrap().argv.iter().any(|word| word == "-display");
        assert!(!displayed(&["-spice", "port=1"]));
        let config = |_: &std::path::Path| Ok(b"[spice]\n  port = \"3\"\n".to_vec());
        let found = line_with(&["-readconfig", "f"], &config).unwrap();
        assert_eq!(sockets(&found), ["listen :3"]);
        assert!(found.argv.iter().any(|word| word == "-display"));
    }
}
