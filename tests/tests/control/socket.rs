//! Whose socket it is, and when it comes and goes.

use std::fs;
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::Signal;
use tests::control::{CONTROL_FOLDER, Control};
use tests::{BrokerCommand, During, Error, Process, Result, Workdir, need, raw_boot_disk, until};

use crate::guest::Guest;

#[test]
fn a_second_guest_of_one_name_is_told_so() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let guest = Guest::start()?;
    let folder = guest.control.folder();
    let name = folder.file_name().unwrap_or_default().to_owned();
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "boot.raw")?;
    let second =
        BrokerCommand::new(&workdir).options(["--name".into(), name]).boot_sector("file=boot.raw,format=raw").run()?;
    assert_eq!(second.status.code(), Some(125), "{second:?}");
    assert!(second.stderr.contains("runs already"), "{second:?}");
    assert!(guest.granted()?.iter().any(|name| name.ends_with("boot.raw")), "the first one still answers");
    guest.end()
}

/// A broker that does not come to accepting for a moment is no dead one.
#[test]
fn a_guest_whose_broker_is_slow_keeps_its_name() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let guest = Guest::start()?;
    let folder = guest.control.folder();
    let is_broker = |process: &Process| process.status().is_some_and(|status| status.field("Name") == "broker");
    let brokers: Vec<Process> = guest.emulator.helpers()?.into_iter().filter(is_broker).collect();
    brokers.iter().try_for_each(|broker| broker.signal(Signal::STOP))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let address = SocketAddrUnix::new(guest.control.socket()).during("make an address")?;
    let mut waiting = Vec::new();
    loop {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).during("make a socket")?;
        if connect(&socket, &address).is_err() {
            break;
        }
        waiting.push(socket);
    }
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "boot.raw")?;
    let second = BrokerCommand::new(&workdir)
        .options(["--name".into(), folder.file_name().unwrap_or_default().to_owned()])
        .boot_sector("file=boot.raw,format=raw")
        .start()?;
    second.wait_for_a_write_or_the_end()?;
    drop(second);
    // An operator who calls now waits for room.
    let control = guest.control.clone();
    let caller = std::thread::spawn(move || control.status());
    std::thread::sleep(std::time::Duration::from_millis(200));
    brokers.iter().try_for_each(|broker| broker.signal(Signal::CONT))?;
    drop(waiting);
    let status = caller.join().map_err(|_| tests::Error::Unexpected("the caller panicked".into()))??;
    assert_eq!(status["pid"], guest.emulator.process().0, "another guest has taken the name over");
    guest.end()
}

#[test]
fn the_socket_of_a_broker_that_was_killed_is_replaced() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut first = Guest::start()?;
    let folder = first.control.folder();
    let name = folder.file_name().unwrap_or_default().to_owned();
    for helper in first.emulator.helpers()? {
        helper.signal(Signal::KILL)?;
    }
    first.emulator.signal(Signal::KILL)?;
    first.emulator.wait()?;
    assert!(first.control.socket().exists(), "nobody was left to remove it");
    let complaint = first.control.refused(["status"])?;
    assert!(complaint.contains("no guest named"), "{complaint}");
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "boot.raw")?;
    let (mut second, mut qmp) = BrokerCommand::new(&workdir)
        .options(["--name".into(), name])
        .boot_sector("file=boot.raw,format=raw")
        .start_with_monitor()?;
    second.wait_for_writes(1)?;
    assert!(first.control.status()?["grants"].is_array());
    qmp.quit()?;
    second.wait()?;
    until(tests::PATIENCE, "the socket to go", || Ok((!folder.exists()).then_some(())))
}

#[test]
fn what_the_operator_granted_outlives_neither_guest_nor_broker() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let guest = Guest::start()?;
    for name in ["data.raw", "base.raw"] {
        guest.control.order(["grant", &guest.path(name), "--write"])?;
    }
    guest.control.order(["grant", &guest.path("top.qcow2"), "--format", "qcow2"])?;
    guest.control.order(["revoke", &guest.path("data.raw")])?;
    let holders = || -> Result<usize> {
        let processes = fs::read_dir("/proc").during("list /proc")?.flatten();
        let marker = guest.workdir.path("").to_string_lossy().into_owned();
        let holds = |path: PathBuf| {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            let words = fs::read(path.join("cmdline")).unwrap_or_default();
            name.trim_end() == "broker-holder" && String::from_utf8_lossy(&words).contains(&marker)
        };
        Ok(processes.filter(|process| holds(process.path())).count())
    };
    until(tests::PATIENCE, "one process for each grant", || Ok((holders()? == 2).then_some(())))?;
    guest.emulator.signal(Signal::KILL)?;
    until(tests::PATIENCE, "the holders' end", || Ok((holders()? == 0).then_some(())))?;
    until(tests::PATIENCE, "the socket to go", || Ok((!guest.control.folder().exists()).then_some(())))
}

#[test]
fn nobody_but_the_operator_gets_to_the_socket() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let guest = Guest::start()?;
    // A folder of that user's own with a link where the guest's would be: the way is there, and the socket says no.
    let runtime = guest.workdir.aside().join("runtime");
    fs::create_dir_all(&runtime).during("mkdir")?;
    std::os::unix::fs::symlink(CONTROL_FOLDER, runtime.join("broker")).during("make a link")?;
    let binary = guest.workdir.aside().join("broker-copy");
    let copied = std::process::Command::new("cp").arg(tests::broker_binary()?).arg(&binary).status();
    assert!(copied.during("start cp")?.success());
    let name = guest.control.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stranger = Control::new(&name).user(tests::ORDINARY_USER, &runtime, &binary);
    stranger.refused(["status"])?;
    // Even where the folders let everybody through.
    for folder in [CONTROL_FOLDER.into(), guest.control.folder()] {
        open_to_everybody(&folder, true)?;
    }
    open_to_everybody(&guest.control.socket(), true)?;
    let complaint = stranger.refused(["status"]);
    for folder in [CONTROL_FOLDER.into(), guest.control.folder()] {
        open_to_everybody(&folder, false)?;
    }
    complaint?;
    guest.emulator.wait_for_message("may not use the control socket")?;
    assert!(guest.control.status()?["grants"].is_array());
    guest.end()
}

/// Changes who may go through a folder or connect to a socket.
fn open_to_everybody(path: &std::path::Path, open: bool) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if open { 0o777 } else { 0o700 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(format!("chmod {}", path.display()))
}

#[test]
fn a_broker_that_is_stopped_hides_no_other_guest() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    // Their names are asked in order.
    let (stopped, other) = (Guest::start()?, Guest::start()?);
    let is_broker = |process: &Process| process.status().is_some_and(|status| status.field("Name") == "broker");
    let broker = stopped.emulator.helpers()?.into_iter().find(is_broker);
    let broker = broker.ok_or_else(|| Error::Unexpected("there is no broker".into()))?;
    broker.signal(Signal::STOP)?;
    let pid = other.emulator.process().0;
    let status = Control::new(&pid.to_string()).status();
    broker.signal(Signal::CONT)?;
    assert_eq!(status?["pid"], serde_json::json!(pid));
    stopped.end()?;
    other.end()
}
