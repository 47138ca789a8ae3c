//! Sockets that QEMU makes by address.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// A socket that QEMU makes by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The option that names it, as typed, for messages.
    pub option: String,
    /// What QEMU does with it.
    pub use_: EndpointUse,
    /// Where it listens, or what it connects to.
    pub address: Address,
}

/// What QEMU does with a socket that it makes by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointUse {
    /// Listens for streams. QEMU removes a UNIX path before it binds it, and at its end.
    Listen,
    /// Connects a stream, perhaps again and again.
    Connect,
    /// Sends datagrams to the address and receives them at this one (any, if none).
    Datagram(Option<Address>),
}

/// An address as QEMU's options have it (`SocketAddress` in `qapi/sockets.json`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A UNIX socket.
    Unix {
        /// Its path, relative to the folder of the start if it is relative.
        path: OsString,
    },
    /// A UNIX socket without a path (`abstract=on`).
    Abstract {
        /// The name as the kernel sees it, without the NUL before it; with `tight=off` NULs fill it up.
        name: Vec<u8>,
    },
    /// TCP or UDP.
    Inet {
        /// A name or an address; empty: all of this host's.
        host: String,
        /// The first port; 0: any.
        first_port: u16,
        /// The last port of a range (`to=`), else the first.
        last_port: u16,
        /// `ipv4=`
        ipv4: Option<bool>,
        /// `ipv6=`
        ipv6: Option<bool>,
    },
}

/// Room for the name of a UNIX socket, in bytes (`sun_path`, unix(7)); an abstract one has a NUL before it.
const UNIX_NAME: usize = 108;

const USAGE: &str = "write HOST:PORT, [IPV6]:PORT, HOST:FIRST-LAST, unix:PATH or abstract:NAME";

impl Endpoint {
    /// A socket that the operator grants with `option`, as in `--listen ADDRESS`.
    ///
    /// # Errors
    /// What is wrong with the address, and how one is written.
    pub fn granted(option: &str, use_: EndpointUse, address: &OsStr) -> Result<Self, String> {
        let found = granted(address)?;
        let Address::Inet { host, first_port, .. } = &found else {
            return Ok(Self { option: as_typed(option, address), use_, address: found });
        };
        if use_ == EndpointUse::Connect && (host.is_empty() || *first_port == 0) {
            return Err("name the host and the port to connect to".into());
        }
        Ok(Self { option: as_typed(option, address), use_, address: found })
    }
}

fn as_typed(option: &str, address: &OsStr) -> String {
    format!("{option} {}", address.to_string_lossy())
}

fn granted(address: &OsStr) -> Result<Address, String> {
    let bytes = address.as_bytes();
    if let Some(path) = bytes.strip_prefix(b"unix:") {
        let path = Some(path).filter(|path| (1..=UNIX_NAME).contains(&path.len()));
        let path = path.ok_or_else(|| format!("the path must have 1 to {UNIX_NAME} bytes"))?;
        return Ok(Address::Unix { path: OsStr::from_bytes(path).to_owned() });
    }
    if let Some(name) = bytes.strip_prefix(b"abstract:") {
        let name = Some(name).filter(|name| (1..UNIX_NAME).contains(&name.len()));
        let name = name.ok_or_else(|| format!("the name must have 1 to {} bytes", UNIX_NAME - 1))?;
        return Ok(Address::Abstract { name: name.to_owned() });
    }
    let (host, ports) = address.to_str().and_then(|text| text.rsplit_once(':')).ok_or(USAGE)?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']').filter(|host| host.contains(':')).ok_or(USAGE)?,
        None if host.contains(':') => {
            return Err(format!("put an address of IPv6 into brackets, as in [::1]:5900; {USAGE}"));
        }
        None => host,
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first_port, last_port) = (port(first)?, port(last)?);
    if last_port < first_port {
        return Err("write the lower port of the range first".into());
    }
    Ok(Address::Inet { host: host.to_owned(), first_port, last_port, ipv4: None, ipv6: None })
}

fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| format!("{text:?} is no port, a number from 0 to 65535; {USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::inet;
    use super::*;

    fn listen(text: &str) -> Result<Address, String> {
        Endpoint::granted("--listen", EndpointUse::Listen, OsStr::new(text)).map(|endpoint| endpoint.address)
    }

    #[test]
    fn addresses_that_are_granted() {
        for (text, expected) in [
            ("localhost:80", inet("localhost", 80)),
            (":0", inet("", 0)),
            ("[::]:65535", inet("::", 65535)),
            ("unix:a:b", Address::Unix { path: "a:b".into() }),
            ("abstract:n", Address::Abstract { name: b"n".to_vec() }),
        ] {
            assert_eq!(listen(text).unwrap(), expected);
        }
        let Address::Inet { first_port, last_port, .. } = listen("h:49152-49215").unwrap() else { panic!() };
        assert_eq!((first_port, last_port), (49152, 49215));
        let endpoint = Endpoint::granted("--connect", EndpointUse::Connect, OsStr::new("h:1")).unwrap();
        assert_eq!(endpoint.option, "--connect h:1");
    }

    #[test]
    fn what_is_no_address() {
        let long = format!("unix:{}", "x".repeat(109));
        for text in [
            "",
            "h",
            "80",
            "h:",
            "h:x",
            "h:65536",
            "h:+1",
            "h:5-4",
            "h:1-",
            "::1:80",
            "[h]:1",
            "[::1]",
            "unix:",
            "abstract:",
            &long,
        ] {
            assert!(listen(text).is_err(), "{text}");
        }
        for text in [":1", "h:0"] {
            assert!(Endpoint::granted("--connect", EndpointUse::Connect, OsStr::new(text)).is_err(), "{text}");
        }
    }
}
