//! A QEMU without the broker, with this helper.

use std::process::{Child, Command, Stdio};

use tests::{During, PATIENCE, PLAIN_QEMU, Result, need, until};

use crate::scene::{Scene, Way};

/// QEMU with one card on `br0`, started as whoever the way says.
fn qemu(scene: &Scene, way: Way) -> Command {
    let mut words = scene.0.words(way.user()).into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    let netdev = format!("bridge,id=n,br=br0,helper={}", way.program().join(" "));
    command.args(words).arg("qemu-system-x86_64").args(PLAIN_QEMU).args(["-accel", "tcg", "-S", "-monitor", "none"]);
    command.args(["-netdev", &netdev, "-device", "virtio-net-pci,netdev=n,romfile="]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn end(mut child: Child) -> Result<()> {
    child.kill().during("kill QEMU")?;
    child.wait().during("wait for QEMU").map(|_| ())
}

#[test]
fn gets_a_tap_on_the_bridge() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun, Qemu);
    let scene = Scene::new("allow br0")?;
    for way in [Way::Setuid, Way::Capable, Way::Command] {
        let mut child = qemu(&scene, way).spawn().during("start QEMU")?;
        let found = until(PATIENCE, "QEMU's tap on the bridge", || {
            assert!(child.try_wait().during("look at QEMU")?.is_none(), "{way}: QEMU ended");
            Ok(scene.is_up("tap0")?.then_some(()))
        });
        end(child)?;
        found?;
        scene.assert_nothing_left()?;
    }
    Ok(())
}

#[test]
fn does_not_start_on_a_bridge_that_is_denied() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun, Qemu);
    let scene = Scene::new("allow all\ndeny br0")?;
    for way in [Way::Setuid, Way::Command] {
        let output = qemu(&scene, way).output().during("start QEMU")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{way}: {stderr}");
        let line = "broker-bridge-helper: bridge br0 is denied by /etc/qemu/bridge.conf line 2 (\"deny br0\")";
        assert!(stderr.lines().any(|found| found == line), "{way}: {stderr}");
        scene.assert_nothing_left()?;
    }
    Ok(())
}
