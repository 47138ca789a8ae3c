//! How QEMU reads and writes an image (`aio=threads|native|io_uring`, past the host's cache or not): the same bytes with and
//! without the broker, and the rings of io_uring that the agent makes are used.

mod rings;

use serde_json::json;
use tests::{BrokerCommand, Emulator, Error, ORDINARY_USER, Qmp, Result, Workdir, need};

/// Size of a disk in bytes.
const DISK: usize = 1 << 20;

/// What `qemu-io` of the monitor is told, in turn. With `-P` it complains if it does not read what it should.
const ORDERS: &[&str] = &[
    "write -P 0x5a 0 64k",
    "writev -P 0x33 128k 4k 8k 512",
    "flush",
    "write -q -P 0x22 400k 4k",
    "write -P 0x77 512k 256k",
    "write -z 768k 4k",
    "discard 900k 64k",
    "read -P 0x5a 0 64k",
    "readv -v -P 0x33 128k 512 4k",
    "read -P 0x77 512k 256k",
];

/// A guest that does not run, so that nobody but the monitor uses its disk, whose image `disk.raw` has these options.
fn command<'a>(workdir: &'a Workdir, options: &str) -> BrokerCommand<'a> {
    let file = format!("driver=file,node-name=file,filename=disk.raw,{options}");
    BrokerCommand::new(workdir)
        .args(tests::PLAIN_QEMU)
        .args(["-S", "-accel", "tcg", "-object", "iothread,id=thread", "-blockdev", &file])
        .args(["-blockdev", "driver=raw,node-name=disk,file=file"])
        .args(["-device", "virtio-blk-pci,drive=disk,iothread=thread,id=front"])
}

/// Gives an order for `qemu-io` with the disk of the device `front`. What came of it stands on standard output at the end.
fn tell(qmp: &mut Qmp, order: &str) -> Result<()> {
    let line = format!("qemu-io -d /machine/peripheral/front/virtio-backend \"{order}\"");
    let answer = qmp.execute("human-monitor-command", json!({ "command-line": line }))?;
    // The monitor itself only says what it does not understand.
    assert_eq!(answer, "", "{order}");
    Ok(())
}

/// Ends the emulator. The transfers that it made for orders, in turn.
fn quit(mut emulator: Emulator, mut qmp: Qmp) -> Result<Vec<String>> {
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("refused") && !finished.stdout.contains("failed"), "{finished:?}");
    Ok(finished.stdout.lines().filter(|line| line.contains("bytes at offset")).map(str::to_owned).collect())
}

/// How many rings the emulator holds.
fn rings(emulator: &Emulator) -> Result<usize> {
    let descriptors = emulator.process().descriptors()?;
    Ok(descriptors.values().filter(|link| link.to_string_lossy() == "anon_inode:[io_uring]").count())
}

/// What a start has done.
struct Done {
    disk: Vec<u8>,
    transfers: Vec<String>,
    rings: usize,
}

/// Gives the orders to a start.
fn give_orders(command: BrokerCommand<'_>, workdir: &Workdir) -> Result<Done> {
    let (emulator, mut qmp) = command.start_with_monitor()?;
    for order in ORDERS {
        tell(&mut qmp, order)?;
    }
    let rings = rings(&emulator)?;
    let transfers = quit(emulator, qmp)?;
    Ok(Done { disk: workdir.read("disk.raw")?, transfers, rings })
}

/// The same orders with and without the broker. How many rings there were with it.
fn compare(options: &str, user: Option<u32>) -> Result<usize> {
    let [with, without] = [Workdir::new()?, Workdir::new()?];
    for workdir in [&with, &without] {
        workdir.write("disk.raw", &vec![0x11; DISK])?;
    }
    let expected = give_orders(command(&without, options).bare(), &without)?;
    assert_eq!(expected.disk.get(..4), Some([0x5a; 4].as_slice()));
    // All but the flush and the quiet one.
    assert_eq!(expected.transfers.len(), ORDERS.len() - 2, "{:?}", expected.transfers);
    let command = command(&with, options);
    let command = if let Some(user) = user { command.user(user) } else { command };
    let found = give_orders(command, &with)?;
    assert!(found.disk == expected.disk, "{options}: other bytes");
    assert_eq!(found.transfers, expected.transfers, "{options}");
    Ok(found.rings)
}

#[test]
fn threads_do_what_they_do_without_the_broker() -> Result<()> {
    need!(Qemu, Landlock);
    for cache in ["on", "off"] {
        assert_eq!(compare(&format!("aio=threads,cache.direct={cache}"), None)?, 0);
    }
    Ok(())
}

#[test]
fn native_aio_does_what_it_does_without_the_broker() -> Result<()> {
    need!(Qemu, Landlock);
    assert_eq!(compare("aio=native,cache.direct=on", None)?, 0);
    Ok(())
}

#[test]
fn io_uring_does_what_it_does_without_the_broker() -> Result<()> {
    need!(Qemu, Landlock);
    for cache in ["on", "off"] {
        let rings = compare(&format!("aio=io_uring,cache.direct={cache}"), None)?;
        assert!(rings > 0 || tests::is_bare(), "no ring is used");
    }
    Ok(())
}

#[test]
fn io_uring_of_an_ordinary_user_does_what_it_does_without_the_broker() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    let rings = compare("aio=io_uring", Some(ORDINARY_USER))?;
    assert!(rings > 0 || tests::is_bare(), "no ring is used");
    Ok(())
}

#[test]
fn without_io_uring_on_the_command_line_there_is_none() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    workdir.write("disk.raw", &vec![0; DISK])?;
    let file = ["-blockdev", "driver=file,node-name=first,filename=disk.raw"];
    let (emulator, mut qmp) = BrokerCommand::new(&workdir).args(tests::PLAIN_QEMU).args(file).start_with_monitor()?;
    qmp.execute("blockdev-del", json!({ "node-name": "first" }))?;
    // QEMU takes another way, or says what is missing: that is its own decision, and depends on its version.
    let again = json!({ "driver": "file", "node-name": "again", "filename": "disk.raw", "aio": "io_uring" });
    match qmp.execute("blockdev-add", again) {
        Ok(_) => {}
        Err(Error::Refused { description, .. }) => assert!(description.contains("io_uring"), "{description}"),
        Err(error) => return Err(error),
    }
    assert_eq!(rings(&emulator)?, 0);
    quit(emulator, qmp).map(drop)
}
