//! Shorthand for this folder's tests.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::{Access, Address, Backing, CommandLine, EndpointUse, Error, Image, Kind, parse};

/// An image as the tests write it down.
pub(super) type Seen = (String, Image);

/// Reads a command line that gives `words` to an emulator; configuration files are not found.
pub(super) fn line(words: &[&str]) -> Result<CommandLine, Error> {
    line_with(words, &|_| Err(io::ErrorKind::NotFound.into()))
}

/// The same for another program.
pub(super) fn tool_line(program: &str, words: &[&str]) -> Result<CommandLine, Error> {
    let argv: Vec<OsString> = std::iter::once(program).chain(words.iter().copied()).map(OsString::from).collect();
    parse(&argv, &|_| Err(io::ErrorKind::NotFound.into()))
}

/// The same, with configuration files.
pub(super) fn line_with(words: &[&str], read: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<CommandLine, Error> {
    let argv: Vec<OsString> =
        std::iter::once("qemu-system-x86_64").chain(words.iter().copied()).map(OsString::from).collect();
    parse(&argv, read)
}

/// The images of a command line of `-blockdev` options.
pub(super) fn blockdevs(values: &[&str]) -> Result<Vec<Seen>, Error> {
    let words: Vec<&str> = values.iter().flat_map(|value| ["-blockdev", value]).collect();
    line(&words).map(|line| images(&line))
}

/// The images among the resources.
pub(super) fn images(line: &CommandLine) -> Vec<Seen> {
    line.resources
        .iter()
        .filter_map(|resource| match &resource.kind {
            Kind::Image(image) => Some((resource.name.to_str().unwrap().to_owned(), image.clone())),
            _ => None,
        })
        .collect()
}

/// Names and kinds of all resources.
pub(super) fn names(line: &CommandLine) -> Vec<(&str, &Kind)> {
    line.resources.iter().map(|resource| (resource.name.to_str().unwrap(), &resource.kind)).collect()
}

pub(super) fn image(name: &str, format: Option<&str>, access: Access, backing: Backing) -> Seen {
    let format = format.map(str::to_owned);
    (
        name.to_owned(),
        Image {
            format,
            access,
            backing,
            data_file_given: false,
            layers: Vec::new(),
            overlaid: false,
            commit: None,
            descriptor: None,
        },
    )
}

/// The same for one that lies under an overlay.
pub(super) fn overlaid(name: &str, format: Option<&str>, access: Access, backing: Backing) -> Seen {
    let (name, found) = image(name, format, access, backing);
    (name, Image { overlaid: true, ..found })
}

pub(super) fn rw() -> Access {
    Access::ReadWrite
}

pub(super) fn ro() -> Access {
    Access::ReadOnly
}

/// The address of one port.
pub(super) fn inet(host: &str, port: u16) -> Address {
    Address::Inet { host: host.to_owned(), first_port: port, last_port: port, ipv4: None, ipv6: None }
}

/// The sockets of a command line: `listen ADDRESS`, `connect ADDRESS` or `datagram ADDRESS [from ADDRESS]`, where an
/// address is a path, `@NAME` or `HOST:PORT`, with `-PORT`, ` ipv4`, ` noipv4`, ` ipv6` and ` noipv6` where they are said.
pub(super) fn sockets(line: &CommandLine) -> Vec<String> {
    let shown = |endpoint: &super::Endpoint| match &endpoint.use_ {
        EndpointUse::Listen => format!("listen {}", socket(&endpoint.address)),
        EndpointUse::Connect => format!("connect {}", socket(&endpoint.address)),
        EndpointUse::Datagram(None) => format!("datagram {}", socket(&endpoint.address)),
        EndpointUse::Datagram(Some(own)) => format!("datagram {} from {}", socket(&endpoint.address), socket(own)),
    };
    line.endpoints.iter().map(shown).collect()
}

fn socket(address: &Address) -> String {
    match address {
        Address::Unix { path } => path.to_string_lossy().into_owned(),
        Address::Abstract { name } => format!("@{}", name.escape_ascii()),
        Address::Inet { host, first_port, last_port, ipv4, ipv6 } => {
            let range = if last_port == first_port { String::new() } else { format!("-{last_port}") };
            let family = |name: &str, said: &Option<bool>| match said {
                None => String::new(),
                Some(true) => format!(" {name}"),
                Some(false) => format!(" no{name}"),
            };
            format!("{host}:{first_port}{range}{}{}", family("ipv4", ipv4), family("ipv6", ipv6))
        }
    }
}

/// Fails unless each of these command lines names these sockets, separated by semicolons, and nothing else.
pub(super) fn assert_sockets(lines: &[(&[&str], &str)]) {
    for (words, expected) in lines {
        let line = line(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        assert_eq!(sockets(&line).join("; "), *expected, "{words:?}");
        assert!(line.resources.is_empty() && line.descriptors.is_empty(), "{words:?}: {line:?}");
    }
}

/// Fails unless every one of these command lines is refused as not served.
pub(super) fn assert_not_served(lines: &[&[&str]]) {
    for words in lines {
        let result = line(words);
        assert!(matches!(result, Err(Error::NotServed { .. })), "{words:?}: {result:?}");
    }
}

/// Fails unless every one of these command lines is served and names nothing outside.
pub(super) fn assert_harmless(lines: &[&[&str]]) {
    for words in lines {
        let line = line(words).unwrap();
        assert_eq!((line.resources.len(), line.descriptors.len()), (0, 0), "{words:?}");
    }
}
