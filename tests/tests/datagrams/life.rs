//! How long a relay lives, and what is left of it.

use std::fs;

use rustix::process::Signal;
use tests::{During, PATIENCE, Process, Result, need, until};

use crate::scene::{Scene, frame, receive_udp, relays};

const NETDEV: &str = "socket,id=n,udp=127.0.0.1:7002,localaddr=127.0.0.1:7001";

#[test]
fn a_relay_ends_with_the_emulator_however_that_ends() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces);
    for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
        let scene = Scene::new()?;
        let files = scene.workdir.listing()?;
        let (mut emulator, mut qmp) = scene.start(NETDEV).start_with_monitor()?;
        assert_eq!(relays(emulator.helpers()?).len(), 1);
        assert!(scene.path("joined").exists());
        match signal {
            Some(signal) => emulator.signal(signal)?,
            None => qmp.quit()?,
        }
        emulator.wait()?;
        emulator.assert_nothing_left(&scene.workdir, &files)?;
        assert!(!scene.path("joined").exists());
    }
    Ok(())
}

#[test]
fn a_relay_outlives_signals_to_the_group_and_serves_a_daemon() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces);
    let scene = Scene::new()?;
    let files = scene.workdir.listing()?;
    let peer = scene.udp(7002)?;
    let pid_file = scene.path("pid").to_string_lossy().into_owned();
    let mut emulator = scene.start(NETDEV).args(["-daemonize", "-pidfile", &pid_file]).start()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    let text = fs::read_to_string(&pid_file).during("read the pid file")?;
    let daemon = Process(text.trim().parse().unwrap_or_default());
    let relay = relays(emulator.helpers()?);
    assert_eq!(relay.len(), 1);
    for process in &relay {
        let standard = process.descriptors()?.into_iter().filter(|(number, _)| *number < 3);
        assert!(standard.into_iter().all(|(_, target)| target.ends_with("null")));
        for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::PIPE] {
            process.signal(signal)?;
        }
    }
    scene.send(&frame("from a daemon", 60))?;
    assert_eq!(receive_udp(&peer)?, frame("from a daemon", 60));
    daemon.signal(Signal::TERM)?;
    emulator.assert_nothing_left(&scene.workdir, &files)?;
    assert!(!scene.path("joined").exists());
    Ok(())
}

#[test]
fn without_its_relay_a_guest_runs_on() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces);
    let scene = Scene::new()?;
    let (mut emulator, mut qmp) = scene.start(NETDEV).start_with_monitor()?;
    let found = relays(emulator.helpers()?);
    for relay in &found {
        relay.signal(Signal::KILL)?;
    }
    until(PATIENCE, "the relay's end", || Ok(relays(emulator.helpers()?).is_empty().then_some(())))?;
    let status = qmp.execute("query-status", serde_json::json!({}))?;
    assert_eq!(status["status"], "running", "{status}");
    qmp.quit()?;
    assert!(emulator.wait()?.status.success());
    Ok(())
}
