//! `-chardev pty`: QEMU makes terminals of the host, and whoever started it opens them by the names that QMP tells.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::OFlags;
use serde_json::{Value, json};
use tests::hostile::{Puppet, Scene};
use tests::{BrokerCommand, During, Error, ORDINARY_USER, PLAIN_QEMU, Qmp, Result, Workdir, need};

use crate::scene::{Terminal, open_node, speak_qmp};

/// Arguments of an emulator that runs no guest.
const NO_MACHINE: &[&str] = &["-machine", "none", "-nodefaults", "-display", "none"];

/// The node of the character device `label`, as QMP tells it.
fn node_of(qmp: &mut Qmp, label: &str) -> Result<String> {
    let devices = qmp.execute("query-chardev", json!({}))?;
    let device = devices.as_array().into_iter().flatten().find(|device| device.get("label") == Some(&label.into()));
    let name = device.and_then(|device| device.get("filename")).and_then(Value::as_str);
    let name = name.and_then(|name| name.strip_prefix("pty:")).map(str::to_owned);
    name.ok_or_else(|| Error::Unexpected(format!("no terminal {label}: {devices}")))
}

/// Starts an emulator with a monitor on a terminal, opens that by its name, and speaks to it.
fn speak_over_a_pty(user: Option<u32>) -> Result<()> {
    let workdir = Workdir::new()?;
    let files = workdir.listing()?;
    let command = BrokerCommand::new(&workdir).args(NO_MACHINE).args(["-qmp", "pty", "-chardev", "pty,id=second"]);
    let command = user.into_iter().fold(command, BrokerCommand::user);
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    let (first, second) = (node_of(&mut qmp, "compat_monitor0")?, node_of(&mut qmp, "second")?);
    assert_ne!(first, second);
    let told = emulator.stdout()? + &emulator.stderr()?;
    assert!(told.contains(&format!("char device redirected to {first} ")), "{told}");
    let starter = fs::metadata(workdir.files()).during("look at the work folder")?.uid();
    for node in [&first, &second] {
        let status = fs::metadata(node).during(format!("look at {node}"))?;
        assert!(status.file_type().is_char_device(), "{node}");
        assert_eq!(status.uid(), starter, "who started it can open {node}");
    }
    let node = open_node(&first)?;
    speak_qmp(&emulator, &node, &node)?;
    drop(node);
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    emulator.assert_nothing_left(&workdir, &files)
}

#[test]
fn a_terminal_is_opened_by_the_name_that_qmp_tells() -> Result<()> {
    need!(Qemu, Landlock);
    speak_over_a_pty(None)
}

#[test]
fn an_ordinary_users_terminal_is_theirs() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    speak_over_a_pty(Some(ORDINARY_USER))
}

#[test]
fn more_are_added_where_the_command_line_asks_for_one() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let arguments = ["-chardev", "pty,id=first"];
    let (_emulator, mut qmp) = BrokerCommand::new(&workdir).args(NO_MACHINE).args(arguments).start_with_monitor()?;
    let add = json!({"id": "more", "backend": {"type": "pty", "data": {}}});
    // A number that is free again is given again, to another terminal.
    for _ in 0..3 {
        let added = qmp.execute("chardev-add", add.clone())?;
        let told = added.get("pty").and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!(node_of(&mut qmp, "more")?, told);
        open_node(&told)?;
        qmp.execute("chardev-remove", json!({"id": "more"}))?;
        assert!(!fs::exists(&told).unwrap(), "{told} is gone with its character device");
    }
    qmp.quit()
}

#[test]
fn none_is_made_where_nothing_asks_for_one() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (emulator, mut qmp) = BrokerCommand::new(&workdir).args(NO_MACHINE).start_with_monitor()?;
    let refused = qmp.execute("chardev-add", json!({"id": "p", "backend": {"type": "pty", "data": {}}}));
    assert!(matches!(&refused, Err(Error::Refused { description, .. }) if description.contains("PTY")), "{refused:?}");
    emulator.wait_for_message("-chardev pty,id=ID")?;
    qmp.quit()
}

#[test]
fn only_its_own_terminals_open_and_no_more_than_a_few_at_a_time() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let (scene, stranger) = (Scene::new()?, Terminal::open()?);
    let most = broker::serve::terminals::MOST;
    let puppet = Puppet::start(&scene, |command| command.args(["-serial", "pty"]))?;
    let first = puppet.start_open("/dev/ptmx", OFlags::RDWR, 0)?;
    assert_eq!(puppet.answer(first)?, "ok");
    for _ in 1..most {
        assert_eq!(puppet.open("/dev/ptmx", OFlags::RDWR)?, "ok");
    }
    assert_eq!(puppet.open("/dev/ptmx", OFlags::RDWR)?, "ENOSPC", "one too many");
    puppet.emulator().wait_for_message("64 pseudo-terminals of this guest are open")?;
    assert_eq!(puppet.open(&stranger.name, OFlags::RDWR)?, "EACCES", "a terminal of somebody else");
    assert_eq!(puppet.open("/dev/pts/ptmx", OFlags::RDWR)?, "EACCES");
    assert_eq!(puppet.open("/dev/pts", OFlags::RDONLY)?, "EACCES");
    // There is room again once one of them is closed.
    assert_eq!(puppet.ask(&format!("close {}", puppet.number(first)))?, "ok");
    assert_eq!(puppet.open("/dev/ptmx", OFlags::RDWR)?, "ok");
    let finished = puppet.end()?;
    scene.assert_unharmed(&finished)
}

#[test]
fn a_link_to_a_terminal_is_refused_before_the_start() -> Result<()> {
    need!(Broker, Qemu);
    let workdir = Workdir::new()?;
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-chardev", "pty,id=p,path=link"]);
    let finished = command.run()?;
    assert_eq!(finished.status.code(), Some(125));
    assert!(finished.stderr.contains("query-chardev tells it"), "{finished:?}");
    Ok(())
}
