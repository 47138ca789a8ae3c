//! The syntax of image names: `json:{...}`, `file:NAME`, `null-co://`, and names of protocols.
//!
//! It holds for `-drive file=` and its relatives. A name given as `filename=` is taken literally
//! (`parse_filename` in QEMU's `bdrv_fill_options`).

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;

use super::blockdev::Keys;
use super::descriptor;
use super::error::Error;
use super::json;

/// Turns a `json:{...}` name into options. Options given beside it win (`parse_json_protocol`).
///
/// # Errors
/// As [`json::pairs`].
pub(super) fn expand_json(option: &str, keys: Keys, name: Option<OsString>) -> Result<(Keys, Option<OsString>), Error> {
    let Some(text) = name.as_deref().and_then(|n| strip(n, "json:")) else {
        return Ok((keys, name));
    };
    let mut all: Keys = json::pairs(option, text)?.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    all.extend(keys);
    Ok((all, None))
}

/// What a protocol node opens.
pub(super) struct Opened {
    /// The name that QEMU opens; none for a driver that opens nothing.
    pub(super) file: Option<OsString>,
    /// The driver it gets.
    pub(super) driver: &'static str,
    /// The inherited descriptor that this name stands for.
    pub(super) descriptor: Option<RawFd>,
}

impl Opened {
    fn of(name: OsString, driver: &'static str) -> Self {
        let descriptor = descriptor::number(&name);
        Self { file: Some(name), driver, descriptor }
    }

    fn nothing(driver: &'static str) -> Self {
        Self { file: None, driver, descriptor: None }
    }
}

/// What a protocol node opens: with `driver` if that is given, else with the one that `name` is for. `literal` is its
/// `filename=` option.
///
/// # Errors
/// [`Error::NotServed`] for a protocol that is not served, [`Error::Malformed`] if nothing or two names are given.
pub(super) fn resolve(
    option: &str,
    driver: Option<&str>,
    literal: Option<OsString>,
    name: Option<OsString>,
) -> Result<Opened, Error> {
    if let Some(null) = driver.and_then(null_driver) {
        return Ok(Opened::nothing(null));
    }
    let given = protocol_driver(driver);
    match (literal, name) {
        (Some(_), Some(_)) => {
            Err(Error::malformed(option, "file= and filename= name the same thing; write one of them"))
        }
        (Some(literal), None) => Ok(Opened::of(literal, given.unwrap_or("file"))),
        // The word now reads ./fd:N, which every driver takes for a file.
        (None, Some(name)) if descriptor::number(&name).is_some() => Ok(Opened {
            descriptor: descriptor::number(&name),
            ..Opened::of(descriptor::as_file(&name), given.unwrap_or("file"))
        }),
        (None, Some(name)) => match given {
            Some(driver) => Ok(Opened::of(without_prefix(&name, driver), driver)),
            None => by_prefix(option, name),
        },
        (None, None) => Err(Error::malformed(option, "a file name is missing; add filename=, or file= in -drive")),
    }
}

fn null_driver(name: &str) -> Option<&'static str> {
    ["null-co", "null-aio"].into_iter().find(|null| *null == name)
}

fn protocol_driver(name: Option<&str>) -> Option<&'static str> {
    ["file", "host_device", "host_cdrom"].into_iter().find(|driver| Some(*driver) == name)
}

/// A name with a colon before any slash begins with the name of a protocol (`path_has_protocol`).
fn by_prefix(option: &str, name: OsString) -> Result<Opened, Error> {
    let bytes = name.as_bytes();
    let end = bytes.iter().position(|b| matches!(b, b':' | b'/'));
    let Some(protocol) = end.filter(|at| bytes.get(*at) == Some(&b':')).and_then(|at| bytes.get(..at)) else {
        return Ok(Opened::of(name, "file"));
    };
    let protocol = String::from_utf8_lossy(protocol).into_owned();
    if let Some(driver) = protocol_driver(Some(&protocol)) {
        return Ok(Opened::of(without_prefix(&name, driver), driver));
    }
    if let Some(null) = null_driver(&protocol) {
        return Ok(Opened::nothing(null));
    }
    let instead = match protocol.as_str() {
        "fd" => "write fd:N with the number of an open descriptor that the caller hands over".to_owned(),
        _ => format!("use an image on this host; for a file of this very name write ./{protocol}:..."),
    };
    Err(Error::not_served(option, format!("the protocol {protocol}:"), instead))
}

fn without_prefix(name: &OsStr, driver: &str) -> OsString {
    strip(name, &format!("{driver}:")).unwrap_or(name).to_owned()
}

fn strip<'a>(name: &'a OsStr, prefix: &str) -> Option<&'a OsStr> {
    name.as_bytes().strip_prefix(prefix.as_bytes()).map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(driver: Option<&str>, name: &str) -> Option<String> {
        let opened = resolve("-drive", driver, None, Some(name.into())).unwrap();
        opened.file.map(|f| f.into_string().unwrap())
    }

    #[test]
    fn prefixes_are_stripped_only_by_their_own_driver() {
        assert_eq!(opened(None, "file:a.raw").unwrap(), "a.raw");
        assert_eq!(opened(None, "file:file:a").unwrap(), "file:a");
        assert_eq!(opened(None, "host_device:/dev/sda").unwrap(), "/dev/sda");
        assert_eq!(opened(Some("file"), "host_device:x").unwrap(), "host_device:x");
        assert_eq!(opened(Some("file"), "nbd:x").unwrap(), "nbd:x");
    }

    #[test]
    fn a_colon_after_a_slash_is_part_of_the_name() {
        assert_eq!(opened(None, "./nbd:x").unwrap(), "./nbd:x");
        assert_eq!(opened(None, "/dev/disk/by-path/pci-0000:00").unwrap(), "/dev/disk/by-path/pci-0000:00");
    }

    #[test]
    fn other_protocols_are_refused_by_name() {
        for name in [
            "ssh://h/x",
            "http://h/x",
            "rbd:p/i",
            "iscsi://h/x",
            "fat:rw:/",
            "nvme://0:1/1",
            "blkdebug::x",
            "fd:x",
            "fd:04",
            "a:b",
            "gluster+tcp://x/y",
            ":x",
        ] {
            let result = resolve("-drive", None, None, Some(name.into())).map(|opened| opened.file);
            assert!(matches!(result, Err(Error::NotServed { .. })), "{name}: {result:?}");
        }
    }

    #[test]
    fn null_drivers_open_nothing() {
        assert_eq!(opened(None, "null-co://"), None);
        assert_eq!(opened(Some("null-aio"), "x"), None);
    }

    #[test]
    fn a_literal_name_is_not_taken_apart() {
        for name in ["nbd:x", "json:{}", "file:x"] {
            let opened = resolve("-drive", None, Some(name.into()), None).unwrap();
            assert_eq!((opened.file.unwrap().to_str().unwrap(), opened.driver), (name, "file"));
        }
        assert!(resolve("-drive", None, Some("a".into()), Some("b".into())).is_err());
        assert!(resolve("-drive", Some("file"), None, None).is_err());
    }

    #[test]
    fn options_beside_a_json_name_win_and_inner_json_names_stay_literal() {
        let keys = Keys::from([("file.filename".to_owned(), "b".into())]);
        let name = r#"json:{"driver":"raw","file":{"driver":"file","filename":"json:{}"}}"#;
        let (keys, name) = expand_json("-drive", keys, Some(name.into())).unwrap();
        assert_eq!(name, None);
        assert_eq!(keys["file.filename"], "b");
        assert_eq!(keys["driver"], "raw");
        assert!(expand_json("-drive", Keys::new(), Some("json:nonsense".into())).is_err());
    }
}
