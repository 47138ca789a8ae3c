//! Which file QEMU opens for a backing name: a matter of text, not of directories (`path_combine`,
//! `path_has_protocol` and `bdrv_parse_filename_strip_prefix`, block.c, QEMU 7.2 and 10.0).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The longest name that `open(2)` takes, in bytes, without its zero byte (`PATH_MAX`, linux/limits.h).
const PATH_LIMIT: usize = 4095;

/// The name that QEMU opens for the backing name `backing` in an image that it opened as `overlay`.
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
    if name.starts_with(b"/dev/fdset/") {
        return Err(Error::Descriptor);
    }
    if name.starts_with(b"/proc/") {
        return Err(Error::Proc);
    }
    if name.len() > PATH_LIMIT {
        return Err(Error::TooLong(name.len()));
    }
    Ok(OsString::from_vec(name))
}

/// Whether a colon stands before any slash.
fn has_protocol(name: &[u8]) -> bool {
    name.iter().find(|byte| matches!(byte, b':' | b'/')) == Some(&b':')
}

/// The path behind `file:`, which is the one protocol that means a file.
fn strip_protocol(name: &[u8]) -> Result<Vec<u8>, Error> {
    if name.starts_with(b"json:") {
        return Err(Error::Json);
    }
    let Some(path) = name.strip_prefix(b"file:") else {
        let protocol = name.split(|byte| *byte == b':').next().unwrap_or_default();
        return Err(Error::Protocol(OsStr::from_bytes(protocol).to_owned()));
    };
    // So that QEMU does not find another protocol in what is left.
    Ok(if has_protocol(path) { [b"./", path].concat() } else { path.to_vec() })
}

/// `name` up to its last slash, the slash included.
fn folder(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    name.get(..end).unwrap_or_default()
}

/// Why a backing name is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A pseudo-name with options for any block driver.
    #[error("json: names are not served; write the plain path into the image with qemu-img rebase -u")]
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
            ("top", "json:{\"driver\":\"raw\"}", Error::Json),
            ("top", "/proc/self/environ", Error::Proc),
            ("top", "file:/proc/self/environ", Error::Proc),
            ("top", "/dev/fdset/0", Error::Descriptor),
            ("top", "file:/dev/fdset/0", Error::Descriptor),
        ] {
            assert_eq!(resolved(overlay, backing).unwrap_err(), error, "{backing}");
        }
    }

    #[test]
    fn a_name_is_at_most_as_long_as_a_path() {
        let folder = format!("{}/top", "x".repeat(3000));
        assert!(resolved(&folder, &"y".repeat(1094)).is_ok());
        assert_eq!(resolved(&folder, &"y".repeat(1095)).unwrap_err(), Error::TooLong(4096));
    }
}
