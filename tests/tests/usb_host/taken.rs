//! What a guest, and whoever has its monitor, see of the stick.

use std::fs;

use serde_json::json;
use tests::{ALIVE, BrokerCommand, During, Emulator, ORDINARY_USER, PLAIN_QEMU, Qmp, Result, Workdir, need};

use crate::stick::Stick;

/// An ordinary user to whom the node does not belong.
const STRANGER: u32 = 12_408;

/// What the monitor says of the guest's devices and of the host's.
#[derive(Debug)]
struct Seen {
    usb: String,
    usbhost: String,
}

fn command<'a>(workdir: &'a Workdir, words: &str, user: Option<u32>) -> BrokerCommand<'a> {
    let device = format!("usb-host,{words},bootindex=0");
    let command = BrokerCommand::new(workdir).args(PLAIN_QEMU).args(["-accel", "tcg", "-serial", "stdio"]);
    let command = command.args(["-device", "qemu-xhci", "-device", &device]);
    match user {
        Some(user) => command.user(user),
        None => command,
    }
}

fn ask(qmp: &mut Qmp, line: &str) -> Result<String> {
    let said = qmp.execute("human-monitor-command", json!({ "command-line": line }))?;
    Ok(said.as_str().unwrap_or_default().to_owned())
}

/// Starts a guest from the stick, and ends it when it has started.
fn boot(command: BrokerCommand) -> Result<(Emulator, Seen)> {
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_output("the guest to start from the stick", |text| text.contains(ALIVE))?;
    let seen = Seen { usb: ask(&mut qmp, "info usb")?, usbhost: ask(&mut qmp, "info usbhost")? };
    assert_no_netlink(&emulator)?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    assert!(!finished.stderr.contains("broker: refused"), "{finished:?}");
    Ok((emulator, seen))
}

/// No process of the emulator's network has a socket of netlink: those of the kernel have no port (`proc_pid_net(5)`).
fn assert_no_netlink(emulator: &Emulator) -> Result<()> {
    let path = format!("/proc/{}/net/netlink", emulator.process().0);
    let sockets = fs::read_to_string(&path).during(format!("read {path}"))?;
    let ports = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2));
    let bound: Vec<&str> = ports.filter(|port| *port != "0").collect();
    assert!(tests::is_bare() || bound.is_empty(), "{sockets}");
    Ok(())
}

#[test]
fn a_guest_starts_from_a_stick_named_in_each_way() -> Result<()> {
    need!(Root, Qemu, Landlock, UsbStick);
    let stick = Stick::take()?;
    for words in stick.spellings() {
        let workdir = Workdir::new()?;
        let files = workdir.listing()?;
        let (emulator, seen) = boot(command(&workdir, &words, None))?;
        assert!(seen.usb.contains("Product QEMU USB HARDDRIVE"), "{words}: {seen:?}");
        assert!(seen.usbhost.contains("46f4:0001, QEMU USB HARDDRIVE"), "{words}: {seen:?}");
        assert!(tests::is_bare() || !seen.usbhost.contains("Tablet"), "{words}: {seen:?}");
        emulator.assert_nothing_left(&workdir, &files)?;
    }
    Ok(())
}

#[test]
fn a_user_starts_from_a_stick_whose_node_is_theirs() -> Result<()> {
    need!(Root, UserNamespaces, Qemu, Landlock, UsbStick);
    let stick = Stick::take()?;
    stick.give_to(ORDINARY_USER)?;
    let workdir = Workdir::new()?;
    let words = format!("hostbus={},hostport={},pcap=traffic", stick.bus, stick.port());
    let booted = boot(command(&workdir, &words, Some(ORDINARY_USER)));
    stick.give_to(0)?;
    let (_, seen) = booted?;
    assert!(seen.usb.contains("Product QEMU USB HARDDRIVE"), "{seen:?}");
    // The magic number of such files (pcap-savefile(5)).
    let traffic = fs::read(workdir.path("traffic")).during("read what was recorded")?;
    assert!(traffic.starts_with(&0xa1b2_c3d4_u32.to_ne_bytes()), "{} bytes", traffic.len());
    Ok(())
}

/// How the emulator ends that cannot have its device, and its own words.
fn outcome(words: &str, user: Option<u32>, bare: bool) -> Result<(Option<i32>, String)> {
    let workdir = Workdir::new()?;
    let command = command(&workdir, words, user);
    let finished = if bare { command.bare() } else { command }.run()?;
    let lines = finished.stderr.lines().filter(|line| !line.starts_with("broker: "));
    Ok((finished.status.code(), lines.collect::<Vec<_>>().join("\n")))
}

#[test]
fn what_cannot_be_had_is_missed_as_in_plain_qemu() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock, UsbStick);
    let stick = Stick::take()?;
    let [node, address, ..] = stick.spellings();
    for (words, user) in [
        (format!("hostbus={},hostaddr=99", stick.bus), None),
        ("hostdevice=/dev/bus/usb/001/099".into(), None),
        ("vendorid=0x12345".into(), None),
        ("vendorid=46f4".into(), None),
        (node, Some(STRANGER)),
        (address, Some(STRANGER)),
    ] {
        let (bare, confined) = (outcome(&words, user, true)?, outcome(&words, user, false)?);
        assert_eq!(bare, confined, "{words}");
        assert_eq!(bare.0, Some(1), "{words}");
    }
    Ok(())
}

#[test]
fn a_device_that_is_not_there_is_waited_for_in_vain_and_said_so() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, UsbStick);
    let _stick = Stick::take()?;
    let workdir = Workdir::new()?;
    let (mut emulator, mut qmp) = command(&workdir, "vendorid=0xfffe", None).start_with_monitor()?;
    assert!(ask(&mut qmp, "info usb")?.contains("Product USB Host Device"));
    qmp.quit()?;
    let finished = emulator.wait()?;
    let lines: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with("broker: ")).collect();
    assert!(matches!(lines[..], [line] if line.contains("no such USB device is plugged in")), "{finished:?}");
    Ok(())
}
