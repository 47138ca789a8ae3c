//! What the helper may do when it has laid its rights down.

use std::process::Child;

use tests::{During, ORDINARY_USER, Process, Result, ThreadStatus, need};

use crate::scene::{Scene, WAYS, Way};

/// `CAP_NET_ADMIN` alone (capability 12), as `/proc/PID/status` shows sets.
const NETWORK: &str = "0000000000001000";
const NONE: &str = "0000000000000000";

/// Ends it as nothing can prepare for.
fn kill(mut child: Child) -> Result<()> {
    child.kill().during("kill the helper")?;
    child.wait().during("wait for the helper").map(|_| ())
}

fn assert_laid_down(way: Way, status: &ThreadStatus) {
    let id = way.user().unwrap_or(0).to_string();
    for field in ["Uid", "Gid"] {
        assert_eq!(status.field(field), [id.as_str(); 4].join(" "), "{way}: {field}");
    }
    for (field, value) in
        [("CapPrm", NETWORK), ("CapEff", NETWORK), ("CapInh", NONE), ("CapAmb", NONE), ("NoNewPrivs", "1")]
    {
        assert_eq!(status.field(field), value, "{way}: {field}");
    }
    // Without CAP_SETPCAP nobody can empty it; under no_new_privs it gives nothing.
    if way != Way::Capable {
        assert_eq!(status.field("CapBnd"), NONE, "{way}: CapBnd");
    }
    assert_eq!(status.field("Threads"), "1", "{way}");
}

#[test]
fn only_the_right_to_networks_is_left() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0")?;
    for way in WAYS.into_iter().chain([Way::SetuidBroker]) {
        let (child, socket) = scene.stop_with_tap(way, "exec \"$@\"")?;
        let status = Process(child.id()).status();
        // What takes the right to trace it. Its caller has as little as before, though the ids are the same.
        let environment = scene.0.run(way.user(), "cat", &[&format!("/proc/{}/environ", child.id())]);
        kill(child)?;
        drop(socket);
        assert_eq!(environment.is_ok(), way.user().is_none(), "{way}: {environment:?}");
        assert_laid_down(way, &status.ok_or_else(|| tests::Error::Unexpected(format!("{way}: it ended")))?);
        scene.assert_nothing_left()?;
    }
    Ok(())
}

#[test]
fn supplementary_groups_stay() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0")?;
    let line = format!(
        "exec setpriv --reuid {ORDINARY_USER} --regid {ORDINARY_USER} --groups 1,777 -- /mnt/setuid \"${{@:2}}\""
    );
    let (child, socket) = scene.stop_with_tap(Way::Root, &line)?;
    let status = Process(child.id()).status();
    kill(child)?;
    drop(socket);
    let status = status.ok_or_else(|| tests::Error::Unexpected("it ended".to_owned()))?;
    assert_laid_down(Way::Setuid, &status);
    assert_eq!(status.field("Groups"), "1 777");
    Ok(())
}

#[test]
fn only_its_own_caller_chooses_the_list() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("deny all")?;
    scene.shell("echo allow br0 > /mnt/own; chmod 644 /mnt/own")?;
    let words = ["--br=br0", "--fd=0", "--bridge-acl=/mnt/own"];
    for way in [Way::Setuid, Way::Capable, Way::SetuidBroker] {
        scene.ask(way, &words)?.assert_refused("--bridge-acl= is not for a caller");
    }
    for way in [Way::Root, Way::Command] {
        assert_eq!(scene.ask(way, &words)?.descriptors.len(), 1, "{way}");
        scene.ask(way, &words[..2])?.assert_refused("denied by /etc/qemu/bridge.conf line 1");
        scene.ask(way, &["--br=br0", "--fd=0", "--bridge-acl=own"])?.assert_refused("absolute path");
    }
    // The caller's own file may be the list of a program that gives no right, and does not help.
    scene.shell(&format!("chown {ORDINARY_USER} /mnt/own /etc/qemu/bridge.conf"))?;
    scene.ask(Way::Plain, &words)?.assert_refused("setcap cap_net_admin+ep");
    scene.ask(Way::Setuid, &words[..2])?.assert_refused("/etc/qemu/bridge.conf: others than root");
    Ok(())
}

#[test]
fn a_broker_that_is_setuid_does_nothing() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0")?;
    for arguments in ["check", "--help", "plan -- qemu-system-x86_64", "-- qemu-system-x86_64 -version"] {
        let line = format!("exec /mnt/setuid-broker {arguments}");
        let answer = scene.command(Way::Plain, &line, &[]).output().during("start broker")?;
        let stderr = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.status.code(), Some(125), "{arguments}: {stderr}");
        assert!(stderr.starts_with("broker: broker must not be setuid") && answer.stdout.is_empty(), "{stderr}");
    }
    Ok(())
}
