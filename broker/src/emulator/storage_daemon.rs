//! `qemu-storage-daemon`: images that are served to others while it runs.
//!
//! Sources: `process_options` in `storage-daemon/qemu-storage-daemon.c`, `NbdServerOptions` and `BlockExportOptions` in
//! `qapi/block-export.json`, of QEMU 7.2 and 10.0.

use std::ffi::OsString;

use super::address;
use super::draft::{Draft, Group, OpenedBy};
use super::endpoint::EndpointUse;
use super::error::Error;
use super::resource::Kind;
use super::tool;
use super::tool::getopt::{self, Given, Opt, Order, flag, value};
use super::{blockdev, chardev, graph};

/// What an option means for the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// It names nothing outside: a monitor on a character device, by id.
    Harmless,
    /// Something is printed, and nothing served.
    Prints,
    /// A block node.
    Blockdev,
    /// A character device.
    Chardev,
    /// An object that options refer to.
    Object,
    /// Events and a log.
    Trace,
    /// The socket for all NBD exports.
    NbdServer,
    /// A block node for others to use.
    Export,
    /// It goes on in the background.
    Daemonize,
    /// The file for its process number.
    PidFile,
}

use Meaning::{Blockdev, Chardev, Daemonize, Export, Harmless, NbdServer, Object, PidFile, Prints, Trace};

/// All options.
#[rustfmt::skip] // one line an option
static OPTIONS: &[Opt<Meaning>] = &[
    flag(b'h', "help", Prints),
    flag(b'V', "version", Prints),
    value(b'T', "trace", Trace),
    value(0, "blockdev", Blockdev),
    value(0, "chardev", Chardev),
    flag(0, "daemonize", Daemonize),
    value(0, "export", Export),
    value(0, "monitor", Harmless),
    value(0, "nbd-server", NbdServer),
    value(0, "object", Object),
    value(0, "pidfile", PidFile),
];

const UNKNOWN: &str = "leave it out: it is not known what it names";

/// Reads the words behind `qemu-storage-daemon`.
///
/// # Errors
/// Those of [`getopt::sort`], and those about what the words name; [`Error::NotServed`] for what it would open on the
/// host itself.
pub(super) fn read(draft: &mut Draft<'_>, words: &[OsString]) -> Result<(), Error> {
    let sorted = getopt::sort("qemu-storage-daemon", OPTIONS, words, Order::Permuted)?;
    if tool::has(&sorted.options, Prints) {
        draft.line.informational = true;
        return Ok(());
    }
    sorted.options.iter().try_for_each(|given| read_option(draft, given))?;
    graph::add_images(draft)
}

fn read_option(draft: &mut Draft<'_>, given: &Given<Meaning>) -> Result<(), Error> {
    let (option, argument) = (given.typed.as_str(), given.argument.as_os_str());
    match given.meaning {
        Harmless | Prints => Ok(()),
        Blockdev => tool::keyed(draft, option, argument, Some("driver"), blockdev::read),
        // Its values are never JSON.
        Chardev => tool::pairs(draft, option, argument, Some("backend"), chardev::read),
        NbdServer => tool::keyed(draft, option, argument, None, nbd_server),
        Export => tool::keyed(draft, option, argument, Some("type"), export),
        Object => tool::object(draft, option, argument),
        Trace => tool::trace(draft, option, argument),
        PidFile => draft.file(option, argument, Kind::PidFile, OpenedBy::QemuOpen),
        Daemonize => {
            draft.line.daemonize = true;
            draft.line.forks = true;
            Ok(())
        }
    }
}

/// `--nbd-server`.
fn nbd_server(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    listens(draft, group, &["tls-creds", "tls-authz", "max-connections", "handshake-max-seconds"])
}

/// `--export`.
fn export(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let kind = group.pairs.text("type").unwrap_or_default();
    let instead = match kind {
        // On the server of --nbd-server.
        "nbd" => return Ok(()),
        "vhost-user-blk" => {
            let mut known = COMMON.to_vec();
            known.extend(["logical-block-size", "num-queues"]);
            return listens(draft, group, &known);
        }
        "fuse" => "use type=nbd or type=vhost-user-blk: no file system can be mounted in the sandbox",
        _ => "use type=nbd or type=vhost-user-blk",
    };
    Err(Error::not_served(&group.option, format!("an export of type {kind:?}"), instead))
}

/// The keys of every export.
const COMMON: [&str; 8] =
    ["type", "id", "fixed-iothread", "iothread", "node-name", "writable", "writethrough", "allow-inactive"];

/// Notes the socket of `addr.`, which it makes or is handed. A key that is not `known` could name another address.
fn listens(draft: &mut Draft<'_>, group: &Group, known: &[&str]) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    if let Some((key, _)) = pairs.iter().find(|(key, _)| !known.contains(key) && !key.starts_with("addr.")) {
        return Err(Error::not_served(option, key, UNKNOWN));
    }
    let named = address::of_pairs(draft, option, pairs, "addr.")?;
    address::note(draft, option, EndpointUse::Listen, named)
}

#[cfg(test)]
mod tests {
    use super::super::resource::Backing;
    use super::super::testing::{image, images, names, ro, rw, sockets, tool_line};
    use super::*;

    const DAEMON: &str = "qemu-storage-daemon";

    #[test]
    fn nodes_sockets_and_exports() {
        let found = tool_line(
            DAEMON,
            &[
                "--blockdev=driver=file,filename=a,node-name=f",
                "--blockdev",
                r#"{"driver":"qcow2","node-name":"q","file":"f"}"#,
                "--blockdev",
                "file,filename=b,node-name=g,read-only=on",
                "--nbd-server",
                "addr.type=fd,addr.str=5,max-connections=2",
                "--export",
                "type=nbd,id=e,node-name=q,name=x/y,writable=on",
                "--export",
                "vhost-user-blk,id=v,node-name=g,addr.type=fd,addr.str=6",
                "--chardev",
                "socket,id=m,fd=7,server=on,wait=off",
                "--monitor",
                "chardev=m",
                "--object",
                "iothread,id=t",
            ],
        );
        let found = found.unwrap();
        assert_eq!(found.descriptors, [5, 6, 7].into());
        let expected =
            [image("a", Some("qcow2"), rw(), Backing::Header), image("b", Some("raw"), ro(), Backing::Ignored)];
        assert_eq!(images(&found), expected);
    }

    #[test]
    fn sockets_by_address() {
        for (words, expected) in [
            (["--nbd-server", "addr.type=unix,addr.path=/s"], "listen /s"),
            (["--nbd-server", "addr.type=inet,addr.host=::,addr.port=10809,max-connections=0"], "listen :::10809"),
            (["--nbd-server", r#"{"addr":{"type":"unix","path":"/s"},"tls-creds":"t"}"#], "listen /s"),
            (["--nbd-server", "addr.type=fd"], ""),
            (["--export", "vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path=/s,num-queues=2"], "listen /s"),
            (["--chardev", "socket,id=m,path=/s,server=on"], "listen /s"),
            (["--blockdev", "nbd,node-name=n,server.type=unix,server.path=/s"], "connect /s"),
        ] {
            assert_eq!(sockets(&tool_line(DAEMON, &words).unwrap()).join("; "), expected, "{words:?}");
        }
    }

    #[test]
    fn the_process_and_what_is_printed() {
        let found = tool_line(DAEMON, &["--daemonize", "--pidfile", "p"]).unwrap();
        assert!(found.daemonize && found.forks);
        assert_eq!(names(&found), [("p", &Kind::PidFile)]);
        assert!(tool_line(DAEMON, &["--blockdev", "nbd,path=/x", "--help"]).unwrap().informational);
        assert!(tool_line(DAEMON, &["-V"]).unwrap().informational);
        assert!(tool_line(DAEMON, &[]).unwrap().resources.is_empty());
    }

    #[test]
    fn what_would_be_opened_on_the_host_is_refused_by_name() {
        for words in [
            ["--nbd-server", "addr.type=unix,addr.path=/s,addr.newer=/t"],
            ["--nbd-server", "addr.type=unix,addr.path=/s,newer=/t"],
            ["--nbd-server", "addr.type=vsock,addr.cid=1,addr.port=1"],
            ["--export", "fuse,id=e,node-name=n,mountpoint=/mnt/x"],
            ["--export", "vduse-blk,id=e,node-name=n,name=v"],
            ["--export", "id=e"],
            ["--blockdev", "ssh,server.host=h,server.port=1,path=/s"],
        ] {
            let error = tool_line(DAEMON, &words).unwrap_err();
            let start = format!("{DAEMON} {} ", words[0]);
            assert!(matches!(error, Error::NotServed { .. }) && error.to_string().starts_with(&start), "{error}");
        }
        assert!(matches!(
            tool_line(DAEMON, &["--nbd-server", "addr.type=fd,addr.str=x"]),
            Err(Error::Malformed { .. })
        ));
        assert!(matches!(tool_line(DAEMON, &["-drive", "file=x"]), Err(Error::UnknownOption { .. })));
    }

    #[test]
    fn the_manual_names_every_option() {
        tool::tests::assert_in_manual(OPTIONS, DAEMON);
    }
}
