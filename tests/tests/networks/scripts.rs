//! Scripts: run by the broker, outside of the sandbox, at the start and when the guest has ended.

use std::fs;

use rustix::process::Signal;
use tests::{During, PATIENCE, Process, Result, need, until};

use crate::scene::{Scene, taps_of, taps_of_helpers};

/// Writes down its argument, the kind of the interface, and what it inherited.
const REPORT: &str = "{ echo \"$#:$1\"; ip -o link show \"$1\"; ls -l /proc/$$/fd; } >\"$0.out.new\" 2>&1; \
                      echo end >>\"$0.out.new\"; mv \"$0.out.new\" \"$0.out\"";

#[test]
fn a_script_gets_the_interface_and_nothing_else() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let up = scene.script("up", REPORT)?;
    let interfaces = scene.network.interfaces()?;
    let network = format!("tap,ifname=gate%d,script={up},downscript=no");
    let (emulator, qmp) = scene.start(&[&network]).start_with_monitor()?;
    let report = scene.wait_for("up.out")?;
    assert!(report.starts_with("1:gate0\n"), "{report}");
    assert!(report.contains(": gate0: <"), "{report}");
    for kept in ["tun", "socket:", "pipe:", "anon_inode"] {
        assert!(!report.contains(kept), "{report}");
    }
    assert_eq!(taps_of(emulator.process())?, 1);
    assert!(taps_of_helpers(&emulator)?.iter().all(|(_, taps)| *taps == 0));
    scene.quit(emulator, qmp, &interfaces)?;
    Ok(())
}

#[test]
fn the_status_of_a_script_decides() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let fails = scene.script("fails", "exit 3")?;
    let network = format!("tap,ifname=gate0,script={fails},downscript=no");
    scene.refuse(scene.start(&[&network]), &[&fails, "gate0", "exit status: 3", "script=no"])?;
    let missing = scene.path("missing");
    let network = format!("tap,ifname=gate0,script={missing},downscript=no");
    scene.refuse(scene.start(&[&network]), &[&missing, "script=no"])?;
    let odd = scene.script("odd", "")?;
    scene.network.run(None, "sh", &["-c", "echo none >\"$1\"", "sh", &odd])?;
    let network = format!("tap,ifname=gate0,script={odd},downscript=no");
    scene.refuse(scene.start(&[&network]), &[&odd, "gate0", "script=no"])
}

#[test]
fn a_script_runs_when_the_guest_has_ended() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    for killed in [false, true] {
        let scene = Scene::new()?;
        let down = scene.script("down", REPORT)?;
        let interfaces = scene.network.interfaces()?;
        let network = format!("tap,ifname=gate0,script=no,downscript={down}");
        let (mut emulator, mut qmp) = scene.start(&[&network]).start_with_monitor()?;
        let mut helpers = taps_of_helpers(&emulator)?;
        helpers.retain(|(_, taps)| *taps > 0);
        assert_eq!(helpers, [("broker-ifdown".to_owned(), 1)]);
        assert!(fs::exists(scene.path("down.out")).is_ok_and(|there| !there));
        if killed {
            emulator.signal(Signal::KILL)?;
        } else {
            qmp.quit()?;
        }
        emulator.wait()?;
        let report = scene.wait_for("down.out")?;
        assert!(report.starts_with("1:gate0\n") && report.contains(": gate0: <"), "{report}");
        assert!(!report.contains("tun") && !report.contains("pipe:"), "{report}");
        scene.assert_clean(&emulator, &interfaces)?;
    }
    Ok(())
}

#[test]
fn a_script_waits_for_a_daemon() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let down = scene.script("down", REPORT)?;
    let interfaces = scene.network.interfaces()?;
    let network = format!("tap,ifname=gate0,script=no,downscript={down}");
    let pid_file = scene.path("pid");
    let command = scene.start(&[&network]).args(["-daemonize", "-pidfile", &pid_file]);
    let mut emulator = command.start()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    let text = fs::read_to_string(&pid_file).during("read the pid file")?;
    let daemon = Process(text.trim().parse().unwrap_or_default());
    assert_eq!(taps_of(daemon)?, 1);
    assert!(fs::exists(scene.path("down.out")).is_ok_and(|there| !there));
    let waits = |process: &Process| process.status().is_some_and(|status| status.field("Name") == "broker-ifdown");
    let waiting = emulator.helpers()?.into_iter().find(waits).unwrap();
    let standard = waiting.descriptors()?.into_iter().filter(|(number, _)| *number < 3);
    assert!(standard.into_iter().all(|(_, target)| target.ends_with("null")));
    daemon.signal(Signal::TERM)?;
    assert!(scene.wait_for("down.out")?.starts_with("1:gate0\n"));
    scene.assert_clean(&emulator, &interfaces)
}

#[test]
fn a_script_that_waits_is_undone_when_the_next_network_fails() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let (up, down) = (scene.script("up", REPORT)?, scene.script("down", REPORT)?);
    let fails = scene.script("fails", "exit 1")?;
    let first = format!("tap,ifname=gate0,script={up},downscript={down}");
    let second = format!("tap,ifname=gate1,script={fails},downscript={down}");
    scene.refuse(scene.start(&[&first, &second]), &[&fails, "gate1"])?;
    assert!(scene.wait_for("up.out")?.starts_with("1:gate0\n"));
    assert!(scene.wait_for("down.out")?.starts_with("1:gate0\n"));
    Ok(())
}

#[test]
fn the_next_guest_waits_for_the_script_of_the_last() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let down = scene.script("down", "sleep 1; echo ran >>\"$0.out\"")?;
    let interfaces = scene.network.interfaces()?;
    let network = format!("tap,ifname=gate0,script=no,downscript={down}");
    let (mut emulator, mut qmp) = scene.start(&[&network]).start_with_monitor()?;
    qmp.quit()?;
    emulator.wait()?;
    let (next, qmp) = scene.start(&[&network]).start_with_monitor()?;
    assert_eq!(scene.wait_for("down.out")?, "ran\n");
    assert_eq!(taps_of(next.process())?, 1);
    scene.quit(next, qmp, &interfaces)?;
    assert_eq!(scene.wait_for("down.out")?, "ran\nran\n");
    Ok(())
}

#[test]
fn who_kills_the_waiting_process_leaves_no_interface() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let down = scene.script("down", REPORT)?;
    let interfaces = scene.network.interfaces()?;
    let network = format!("tap,ifname=gate0,script=no,downscript={down}");
    let (mut emulator, _qmp) = scene.start(&[&network]).start_with_monitor()?;
    for process in emulator.helpers()? {
        // They may end on their own meanwhile.
        let _ = process.signal(Signal::KILL);
    }
    assert!(scene.network.link("gate0")?.is_some());
    emulator.signal(Signal::KILL)?;
    emulator.wait()?;
    until(PATIENCE, "the interface's end", || Ok(scene.network.link("gate0")?.is_none().then_some(())))?;
    assert_eq!(scene.network.interfaces()?, interfaces);
    Ok(())
}
