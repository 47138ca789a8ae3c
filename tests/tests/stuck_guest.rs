//! A guest whose disk or disc is on a server that hangs: QEMU's commands fail at the deadline with an errno, the operator
//! can still ask, the guest goes on when the server does; and nobody keeps a lock of a guest that is dead.

use std::ffi::OsString;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::control::{Control, unique_name};
use tests::fuse::{FuseFolder, Mood};
use tests::{BrokerCommand, During, Emulator, Error, Qmp, Result, Workdir, boot_disk, need};

/// Seconds until an open is given up.
const DEADLINE: &str = "2";

/// A guest named `name` with its disk and a medium on a server of its own.
struct Guest {
    emulator: Emulator,
    qmp: Qmp,
    control: Control,
}

/// The server, with the disk `disk.raw` and the discs `one.iso` and `two.iso`.
fn server(workdir: &Workdir) -> Result<FuseFolder> {
    let disc = vec![0x5a; 1 << 20];
    let files = [("disk.raw", boot_disk()), ("one.iso", disc.clone()), ("two.iso", disc)];
    let files = files.map(|(name, bytes)| (OsString::from(name), bytes)).into();
    FuseFolder::mount(workdir.aside().join("server"), 0, files)
}

fn start(workdir: &Workdir, server: &FuseFolder) -> Result<Guest> {
    let name = unique_name();
    let path = |name: &str| server.path(name).to_string_lossy().into_owned();
    let disk = format!("driver=file,node-name=file,filename={},auto-read-only=on", path("disk.raw"));
    let (emulator, qmp) = BrokerCommand::new(workdir)
        .options(["--open-timeout", DEADLINE, "--name", &name])
        .options(["--medium", &path("one.iso"), "--medium", &path("two.iso")])
        .args(tests::PLAIN_QEMU)
        .args(["-accel", "tcg", "-serial", "stdio", "-blockdev", &disk])
        .args(["-blockdev", "driver=raw,node-name=disk,file=file", "-device", "virtio-blk-pci,drive=disk"])
        .args(["-drive", "if=none,id=disc,media=cdrom", "-device", "ide-cd,drive=disc,id=tray"])
        .start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    Ok(Guest { emulator, qmp, control: Control::new(&name) })
}

impl Guest {
    fn reopen(&mut self, server: &FuseFolder, direct: bool) -> Result<Value> {
        reopen(&mut self.qmp, server, direct)
    }

    fn insert(&mut self, server: &FuseFolder, disc: &str) -> Result<Value> {
        let arguments = json!({ "id": "tray", "filename": server.path(disc), "format": "raw" });
        self.qmp.execute("blockdev-change-medium", arguments)
    }
}

/// Fails unless QEMU refused with the system's text for `errno`.
fn assert_errno(answer: Result<Value>, errno: Errno) {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    match answer {
        Err(Error::Refused { description, .. }) => assert!(description.contains(&text), "{text}: {description}"),
        other => panic!("{text} was expected: {other:?}"),
    }
}

#[test]
fn a_reopen_that_hangs_fails_at_its_deadline_and_the_guest_goes_on() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let server = server(&workdir)?;
    let mut guest = start(&workdir, &server)?;

    server.set("disk.raw", Mood::Hanging)?;
    let answer = std::thread::scope(|scope| {
        let control = &guest.control;
        let asking = scope.spawn(|| {
            server.await_hanging(1)?;
            control.status()
        });
        let answer = reopen(&mut guest.qmp, &server, true);
        let status = asking.join().map_err(|_| Error::Unexpected("the asking thread panicked".into()))??;
        assert!(status["grants"].is_array(), "the operator was answered: {status}");
        Ok::<_, Error>(answer)
    })?;
    assert_errno(answer, Errno::TIMEDOUT);
    guest.emulator.wait_for_writes(2)?;

    server.release();
    guest.reopen(&server, true)?;
    guest.reopen(&server, false)?;
    guest.emulator.wait_for_writes(2)?;
    guest.qmp.quit()?;
    assert_eq!(guest.emulator.wait()?.status.code(), Some(0));
    Ok(())
}

/// Makes QEMU open its disk once more.
fn reopen(qmp: &mut Qmp, server: &FuseFolder, direct: bool) -> Result<Value> {
    let file = json!({
        "driver": "file", "node-name": "file", "filename": server.path("disk.raw"),
        "auto-read-only": true, "cache": { "direct": direct },
    });
    qmp.execute("blockdev-reopen", json!({ "options": [file] }))
}

#[test]
fn a_medium_that_hangs_is_given_up_and_another_one_inserted() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let server = server(&workdir)?;
    let mut guest = start(&workdir, &server)?;
    server.set("one.iso", Mood::Hanging)?;
    assert_errno(guest.insert(&server, "one.iso"), Errno::TIMEDOUT);
    guest.insert(&server, "two.iso")?;
    guest.emulator.wait_for_writes(2)?;
    server.release();
    guest.insert(&server, "one.iso")?;
    guest.emulator.wait_for_writes(2)
}

#[test]
fn what_the_server_says_of_a_lost_file_reaches_the_monitor() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let server = server(&workdir)?;
    let mut guest = start(&workdir, &server)?;
    server.set("one.iso", Mood::Failing(Errno::STALE.raw_os_error()))?;
    server.set("disk.raw", Mood::Failing(Errno::STALE.raw_os_error()))?;
    assert_errno(guest.insert(&server, "one.iso"), Errno::STALE);
    assert_errno(guest.reopen(&server, true), Errno::STALE);
    guest.emulator.wait_for_writes(2)?;
    server.release();
    guest.insert(&server, "one.iso")?;
    guest.reopen(&server, true)?;
    guest.emulator.wait_for_writes(2)
}

/// Fails unless whoever comes next can lock an image at once: `qemu-img resize` takes the locks of a writer.
fn assert_unlocked(image: &std::path::Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["resize", "-q", "-f", "raw"])
        .arg(image)
        .arg("1M")
        .output()
        .during("start qemu-img")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn no_lock_outlives_a_guest_that_is_killed_right_after_a_reopen() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    for round in 0..5 {
        let workdir = Workdir::new()?;
        let server = server(&workdir)?;
        let mut guest = start(&workdir, &server)?;
        guest.reopen(&server, round % 2 == 0)?;
        guest.emulator.signal(Signal::KILL)?;
        guest.emulator.wait()?;
        assert_unlocked(&server.path("disk.raw"))?;
    }
    Ok(())
}

#[test]
fn an_open_that_completes_after_the_guests_death_holds_no_lock() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let server = server(&workdir)?;
    let mut guest = start(&workdir, &server)?;
    server.set("disk.raw", Mood::Hanging)?;
    assert_errno(guest.reopen(&server, true), Errno::TIMEDOUT);
    guest.emulator.signal(Signal::KILL)?;
    guest.emulator.wait()?;
    assert!(server.hanging() > 0, "the open still hangs");
    // Others open the file as before, while the dead guest's open still hangs and after it has come back.
    server.set("disk.raw", Mood::Healthy)?;
    assert_unlocked(&server.path("disk.raw"))?;
    server.release();
    assert_unlocked(&server.path("disk.raw"))
}
