//! `qemu-storage-daemon` that serves a disk by vhost-user: it and the emulator are both under the broker, and the one maps
//! the memory of the other one's guest.

use tests::{Guest, ORDINARY_USER, PATIENCE, Result, Workdir, need, until};

use crate::scene::{MEMORY_OF_NOBODY, assert_well, command};

const DAEMON: [&str; 6] = [
    "--blockdev",
    "driver=file,filename=top.qcow2,node-name=f",
    "--blockdev",
    r#"{"driver":"qcow2","node-name":"q","file":"f"}"#,
    "--export",
    "type=vhost-user-blk,id=e,node-name=q,writable=on,num-queues=2,addr.type=unix,addr.path=disk.sock",
];

/// The disk's words in place of those for a disk of QEMU's own.
const DISK: [&str; 8] = [
    "-object",
    MEMORY_OF_NOBODY,
    "-numa",
    "node,memdev=m",
    "-chardev",
    "socket,id=c,path=disk.sock,reconnect=1",
    "-device",
    "vhost-user-blk-pci,chardev=c,num-queues=2",
];

fn boots(user: Option<u32>) -> Result<()> {
    let workdir = Workdir::new()?;
    let guest = Guest::copy_to(&workdir)?;
    let files = workdir.listing()?;
    let mut daemon = command(&workdir, user).program("qemu-storage-daemon").args(DAEMON).start()?;
    for boots in 1..=2 {
        let listening = || Ok(workdir.path("disk.sock").exists().then_some(()));
        until(PATIENCE, "the disk's socket", listening).map_err(|error| daemon.explain(error))?;
        let arguments = guest.arguments("top.qcow2");
        // All but the disk, which are two words.
        let (before, rest) = arguments.split_at(arguments.iter().position(|word| word == "-drive").unwrap_or_default());
        let rest = rest.get(2..).unwrap_or_default();
        let finished = command(&workdir, user).args(before).args(rest).args(DISK).run()?;
        assert_well(&finished);
        let expected = format!("boots={boots} base=only-the-base-image-holds-this ");
        assert!(Guest::proof(&finished)?.starts_with(&expected), "{finished:?}");
    }
    daemon.signal(rustix::process::Signal::TERM)?;
    assert_well(&daemon.wait()?);
    daemon.assert_nothing_left(&workdir, &files)
}

#[test]
fn a_guest_boots_from_a_disk_of_the_storage_daemon() -> Result<()> {
    need!(Qemu, Tools, Landlock, Guest);
    boots(None)
}

#[test]
fn a_users_guest_boots_from_a_disk_of_the_storage_daemon() -> Result<()> {
    need!(Qemu, Tools, Landlock, Guest, UserNamespaces);
    boots(Some(ORDINARY_USER))
}
