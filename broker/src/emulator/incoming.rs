//! `-incoming`: where a migrated guest comes from.
//!
//! Sources: `qemu_start_incoming_migration` and `migrate_uri_parse` in `migration/migration.c`, `file_parse_offset` in
//! `migration/file.c`, `socket_parse` in `util/qemu-sockets.c`, and `MigrationChannel` in `qapi/migration.json`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::address::{self, Transport};
use super::draft::{Draft, OpenedBy};
use super::endpoint::EndpointUse;
use super::error::Error;
use super::json;
use super::resource::Kind;
use super::value::Pairs;

const INSTEAD: &str = "use -incoming tcp:, unix:, exec:, fd:N or defer, or file: with QEMU 8.2 and later";

/// Reads a source that is neither a command nor a descriptor.
///
/// # Errors
/// [`Error::NotServed`] for RDMA, vsock and what is not known; as [`address::inet_text`] and [`address::unix`].
pub(super) fn read(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    let bytes = value.as_bytes();
    if bytes.starts_with(b"{") {
        return channel(draft, option, &json::pairs(option, value)?);
    }
    if let Some(path) = bytes.strip_prefix(b"unix:") {
        // QEMU says itself that an empty path is invalid.
        if !path.is_empty() {
            let address = address::unix(option, OsStr::from_bytes(path), false, true)?;
            draft.endpoint(option, EndpointUse::Listen, address);
        }
        return Ok(());
    }
    if let Some(text) = bytes.strip_prefix(b"tcp:") {
        // QEMU 7.2 would look for another prefix behind this one.
        let other = [&b"unix:"[..], b"fd:", b"vsock:", b"tcp:"].iter().any(|prefix| text.starts_with(prefix));
        if other {
            return Err(Error::not_served(option, "an address behind tcp: that has a prefix too", INSTEAD));
        }
        let address = address::inet_text(draft, option, OsStr::from_bytes(text), Transport::Tcp)?;
        draft.endpoint(option, EndpointUse::Listen, address);
        return Ok(());
    }
    match bytes.strip_prefix(b"file:") {
        Some(spec) => file(draft, option, OsStr::from_bytes(without_offset(spec))),
        None => Err(Error::not_served(option, format!("the migration source {}", value.to_string_lossy()), INSTEAD)),
    }
}

fn file(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    draft.file(option, name, Kind::ReadOnlyFile, OpenedBy::QemuOpen)
}

/// The name before the first `,offset=`.
fn without_offset(spec: &[u8]) -> &[u8] {
    const OFFSET: &[u8] = b",offset=";
    let at = spec.windows(OFFSET.len()).position(|window| window == OFFSET);
    at.and_then(|at| spec.get(..at)).unwrap_or(spec)
}

/// One channel as a JSON object, since QEMU 8.2.
fn channel(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    let prefix = "addr.";
    match pairs.text("addr.transport") {
        Some("socket") => {
            let mut address = Pairs::default();
            let own = pairs.iter().filter(|(key, _)| *key != "addr.transport");
            own.for_each(|(key, value)| address.push(key, value));
            let named = address::of_pairs(draft, option, &address, prefix)?;
            address::note(draft, option, EndpointUse::Listen, named)
        }
        Some("file") => pairs.get("addr.filename").map_or(Ok(()), |name| file(draft, option, name)),
        Some(other) => Err(Error::not_served(option, format!("the transport {other}"), INSTEAD)),
        // QEMU says that it is missing.
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_not_served, assert_sockets, line, names};
    use super::*;

    #[test]
    fn sockets_listen() {
        assert_sockets(&[
            (&["-incoming", "tcp:0:4444"], "listen 0:4444"),
            (&["-incoming", "tcp::4444,to=4450,ipv4"], "listen :4444-4450 ipv4"),
            (&["-incoming", "tcp:[::]:4444"], "listen :::4444"),
            (&["-incoming", "unix:/run/m,x"], "listen /run/m,x"),
            (
                &["-incoming", r#"{"channel-type":"main","addr":{"transport":"socket","type":"unix","path":"/m"}}"#],
                "listen /m",
            ),
            (
                &[
                    "-incoming",
                    r#"{"channel-type":"main","addr":{"transport":"socket","type":"inet","host":"h","port":"1"}}"#,
                ],
                "listen h:1",
            ),
            (&["-incoming", "unix:"], ""),
            (&["-incoming", "tcp:4444"], ""),
            (&["-incoming", r#"{"channel-type":"main"}"#], ""),
        ]);
    }

    #[test]
    fn files_are_read() {
        for value in [
            "file:F",
            "file:F,offset=0x1000",
            r#"{"channel-type":"main","addr":{"transport":"file","filename":"F","offset":0}}"#,
        ] {
            assert_eq!(names(&line(&["-incoming", value]).unwrap()), [("F", &Kind::ReadOnlyFile)], "{value}");
        }
        assert_eq!(names(&line(&["-incoming", "file:a,b"]).unwrap())[0].0, "a,b");
        assert!(line(&["-incoming", "file:/dev/fdset/3,offset=0"]).unwrap().resources.is_empty());
    }

    #[test]
    fn descriptors_are_passed_on() {
        let value = r#"{"channel-type":"main","addr":{"transport":"socket","type":"fd","str":"7"}}"#;
        assert_eq!(line(&["-incoming", value]).unwrap().descriptors, [7].into());
    }

    #[test]
    fn what_reaches_elsewhere_is_refused() {
        assert_not_served(&[
            &["-incoming", "rdma:h:1"],
            &["-incoming", "vsock:1:2"],
            &["-incoming", "tcp:unix:/x"],
            &["-incoming", "nonsense"],
            &["-incoming", "{'channel-type':'main','addr':{'transport':'rdma','host':'h','port':'1'}}"],
            &["-incoming", "{'channel-type':'main','addr':{'transport':'socket','type':'vsock','cid':'1','port':'1'}}"],
        ]);
    }
}
