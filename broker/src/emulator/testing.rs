//! Shorthand for this folder's tests.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::{Access, Backing, CommandLine, Error, Image, Kind, parse};

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
