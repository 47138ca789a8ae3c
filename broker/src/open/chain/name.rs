//! Which file QEMU opens for a name in a header: a matter of text, not of directories (`path_combine`,
//! `path_has_protocol` and `bdrv_parse_filename_strip_prefix`, block.c, QEMU 7.2 and 10.0).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::prober::header::ReferenceRole;

/// The longest name that `open(2)` takes, in bytes, without its zero byte (`PATH_MAX`, linux/limits.h).
const PATH_LIMIT: usize = 4095;

/// The name that QEMU opens for the backing file `backing` of an image that it opened as `overlay`.
///
/// # Errors
/// [`Error`]: a name that is not the plain path of a file.
pub fn resolve(overlay: &OsStr, backing: &[u8]) -> Result<OsString, Error> {
    let name = if backing.starts_with(b"/") {
        backing.to_vec()
    } else if has_protocol(backing) {
        // Not combined with the overlay's name: QEMU takes it from the working directory.
        strip_protocol(backing)?
    } else {
        let combined = [folder(overlay.as_bytes()), backing].concat();
        // QEMU parses the combination once more, and so a folder called "nbd:x" would be a server.
        if has_protocol(&combined) { strip_protocol(&combined)? } else { combined }
    };
    check(&name)?;
    Ok(OsString::from_vec(name))
}

/// The name that QEMU opens for a qcow2 image's data file: it starts from the working directory, wherever the image is.
/// A QEMU that knows of CVE-2024-4467 takes it as it stands, others take prefixes of protocols off; so there may be none.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_data_file(name: &[u8]) -> Result<OsString, Error> {
    refuse_protocol(name)?;
    literal(OsStr::from_bytes(name).to_owned())
}

/// The name that QEMU opens for an extent of a vmdk image that it opened as `image`: it starts from that one's folder
/// (`vmdk_parse_extents`, block/vmdk.c), and is taken as a data file's is.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_extent(image: &OsStr, name: &[u8]) -> Result<OsString, Error> {
    refuse_protocol(name)?;
    let folder = if name.starts_with(b"/") { &[] } else { folder(image.as_bytes()) };
    let combined = [folder, name].concat();
    refuse_protocol(&combined)?;
    literal(OsString::from_vec(combined))
}

/// Whether QEMU puts the image's own folder in front of such a name.
#[must_use]
pub fn starts_from_folder(role: ReferenceRole, name: &[u8]) -> bool {
    role != ReferenceRole::DataFile && !name.starts_with(b"/") && !has_protocol(name)
}

/// A name that QEMU opens as it stands.
///
/// # Errors
/// As [`resolve`].
pub fn literal(name: OsString) -> Result<OsString, Error> {
    check(name.as_bytes())?;
    Ok(name)
}

fn check(name: &[u8]) -> Result<(), Error> {
    // As a person would read it: however many slashes, dots and detours it takes.
    let plain = crate::paths::absolute(Path::new("/"), name);
    let begins = |start: &&[u8]| name.starts_with(b"/") && plain.starts_with(start);
    if [&b"/dev/fd/"[..], b"/dev/fdset/", b"/dev/std"].iter().any(begins) {
        return Err(Error::Descriptor);
    }
    if begins(&&b"/proc/"[..]) {
        return Err(Error::Proc);
    }
    if name.len() > PATH_LIMIT {
        return Err(Error::TooLong(name.len()));
    }
    Ok(())
}

/// Whether a colon stands before any slash.
fn has_protocol(name: &[u8]) -> bool {
    name.iter().find(|byte| matches!(byte, b':' | b'/')) == Some(&b':')
}

fn refuse_protocol(name: &[u8]) -> Result<(), Error> {
    if !has_protocol(name) {
        return Ok(());
    }
    let protocol = name.split(|byte| *byte == b':').next().unwrap_or_default();
    Err(Error::Protocol(OsStr::from_bytes(protocol).to_owned()))
}

/// The path behind `file:`, which is the one protocol that means a file.
fn strip_protocol(name: &[u8]) -> Result<Vec<u8>, Error> {
    match name.strip_prefix(b"file:") {
        // So that QEMU does not find another protocol in what is left.
        Some(path) if has_protocol(path) => Ok([b"./", path].concat()),
        Some(path) => Ok(path.to_vec()),
        None => refuse_protocol(name).map(|()| name.to_vec()),
    }
}

/// `name` up to its last slash, the slash included.
fn folder(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    name.get(..end).unwrap_or_default()
}

/// Why a name is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A pseudo-name with options for any block driver.
    #[error(
        "of json: names only a format over a file is served, {{\"driver\":FORMAT,\"file\":{{\"driver\":\"file\",\"filename\":PATH}}}}; \
         write the plain path into the image with qemu-img rebase -u"
    )]
    Json,
    /// A server, or a driver that is not a file.
    #[error("the protocol {0:?} is not served; only files are")]
    Protocol(OsString),
    /// A descriptor of the emulator.
    #[error("an image's header may not name a descriptor of the emulator; give the backing file on the command line")]
    Descriptor,
    /// A file that is another process's, or another one for each process.
    #[error("nothing in /proc can be a disk image; the image is forged")]
    Proc,
    /// No file can have that name.
    #[error("together with the image's folder it has {0} bytes, and no path has more than 4095")]
    TooLong(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(overlay: &str, backing: &str) -> Result<String, Error> {
        resolve(OsStr::new(overlay), backing.as_bytes()).map(|name| name.into_string().unwrap())
    }

    #[test]
    fn names_are_combined_as_text() {
        for (overlay, backing, name) in [
            ("top.qcow2", "base.qcow2", "base.qcow2"),
            ("images/top.qcow2", "base.qcow2", "images/base.qcow2"),
            ("./images//top.qcow2", "../base.qcow2", "./images//../base.qcow2"),
            ("/srv/top.qcow2", "/pool/base.qcow2", "/pool/base.qcow2"),
            ("/top.qcow2", "base", "/base"),
            ("images/top.qcow2", "file:base.qcow2", "base.qcow2"),
            ("images/top.qcow2", "file:/pool/base", "/pool/base"),
            ("images/top.qcow2", "file:a:b", "./a:b"),
            ("images/top.qcow2", "sub/a:b", "images/sub/a:b"),
            ("./a:b", "base", "./base"),
        ] {
            assert_eq!(resolved(overlay, backing).unwrap(), name);
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let protocol = |name: &str| Error::Protocol(name.into());
        for (overlay, backing, error) in [
            ("top", "nbd://host/export", protocol("nbd")),
            ("top", "ssh:host", protocol("ssh")),
            ("top", "fat:rw:/etc", protocol("fat")),
            ("top", "host_device:/dev/sda", protocol("host_device")),
            ("top", "blkdebug::/etc/shadow", protocol("blkdebug")),
            ("top", ":x", protocol("")),
            ("dir/top", "a:b", protocol("a")),
            ("nbd:x/top", "base", protocol("nbd")),
            ("top", "json:{\"driver\":\"raw\"}", protocol("json")),
            ("top", "/proc/self/environ", Error::Proc),
            ("top", "file:/proc/self/environ", Error::Proc),
            ("top", "//proc/self/cwd/base", Error::Proc),
            ("top", "/./proc/thread-self/cwd/base", Error::Proc),
            ("top", "/srv/../proc/self/root/base", Error::Proc),
            ("top", "/dev/fd/3", Error::Descriptor),
            ("top", "/dev//stdin", Error::Descriptor),
            ("top", "/dev/fdset/0", Error::Descriptor),
            ("top", "file:/dev/fdset/0", Error::Descriptor),
        ] {
            assert_eq!(resolved(overlay, backing).unwrap_err(), error, "{backing}");
        }
    }

    #[test]
    fn a_data_file_starts_from_the_working_directory() {
        assert_eq!(resolve_data_file(b"data.raw").unwrap(), "data.raw");
        assert_eq!(resolve_data_file(b"../a/b:c").unwrap(), "../a/b:c");
        for name in [&b"file:data.raw"[..], b"json:{}", b"nbd:h"] {
            assert!(matches!(resolve_data_file(name), Err(Error::Protocol(_))));
        }
        assert_eq!(resolve_data_file(b"/proc/self/environ"), Err(Error::Proc));
    }

    #[test]
    fn a_name_is_at_most_as_long_as_a_path() {
        let folder = format!("{}/top", "x".repeat(3000));
        assert!(resolved(&folder, &"y".repeat(1094)).is_ok());
        assert_eq!(resolved(&folder, &"y".repeat(1095)).unwrap_err(), Error::TooLong(4096));
    }
}
