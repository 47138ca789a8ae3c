//! Taps on bridges: who may have one, and who makes it.

use std::fs;
use std::path::Path;

use tests::{During, ORDINARY_USER, Result, helper_binary, need};

use crate::scene::{Scene, setuid_copy, taps_of, taps_of_helpers};

/// QEMU's own helper.
const QEMUS_HELPER: &str = "/usr/lib/qemu/qemu-bridge-helper";

fn scene_with_bridge() -> Result<Scene> {
    let scene = Scene::new()?;
    scene.network.bridge("br0")?;
    Ok(scene)
}

/// Starts a guest on the bridge; its tap must be on it, and the emulator alone may hold it.
fn assert_runs(scene: &Scene, user: Option<u32>, option: &[String], network: &str) -> Result<()> {
    let interfaces = scene.network.interfaces()?;
    let command = scene.start(&[network]).options(option);
    let command = if let Some(user) = user { command.user(user) } else { command };
    let (emulator, qmp) = command.start_with_monitor()?;
    let tap = scene.network.link("tap0")?.unwrap_or_default();
    assert_eq!(tap.get("master").and_then(|master| master.as_str()), Some("br0"), "{tap}");
    assert_eq!(taps_of(emulator.process())?, 1);
    assert!(taps_of_helpers(&emulator)?.iter().all(|(_, taps)| *taps == 0));
    scene.quit(emulator, qmp, &interfaces)?;
    Ok(())
}

#[test]
fn a_list_decides_who_may_join_a_bridge() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = scene_with_bridge()?;
    let list = scene.path("bridges");
    let lists = |text: &str| fs::write(&list, text).during("write the list");
    let option = ["--bridge-acl".to_owned(), list.clone()];
    lists("allow br0\n")?;
    assert_runs(&scene, None, &option, "bridge")?;
    scene.network.ip("link add br1 type bridge")?;
    let on_other = || scene.start(&["bridge,br=br1"]).options(&option);
    scene.refuse(on_other(), &["br1", &list])?;
    lists("allow all\ndeny br1\n")?;
    scene.refuse(on_other(), &["br1", &list, "line 2"])?;
    fs::remove_file(&list).during("remove the list")?;
    scene.refuse(on_other(), &[&list])?;
    lists("allow all\n")?;
    scene.refuse(scene.start(&["bridge,br=none"]).options(&option), &["none"])?;
    scene.network.access_list("deny all\n")?;
    scene.refuse(scene.start(&["bridge"]), &["br0", "/etc/qemu/bridge.conf", "line 1"])
}

#[test]
fn a_user_joins_by_the_helper_that_the_command_line_names() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, QemuBridgeHelper, Landlock, NetworkNamespaces, Tun);
    let scene = scene_with_bridge()?;
    let helper = setuid_copy(&scene, Path::new(QEMUS_HELPER), "qemu-bridge-helper")?;
    scene.network.access_list("allow br0\n")?;
    for word in [format!("bridge,helper={helper}"), format!("tap,helper=/usr/bin/env {helper}")] {
        assert_runs(&scene, Some(ORDINARY_USER), &[], &word)?;
    }
    scene.network.access_list("deny br0\n")?;
    let command = scene.start(&[&format!("bridge,helper={helper}")]).user(ORDINARY_USER);
    scene.refuse(command, &[&helper, "br0", "exit status: 1"])?;
    for odd in ["true", "false", "sh -c 'exit 0'"] {
        let command = scene.start(&[&format!("bridge,helper=/bin/{odd}")]).user(ORDINARY_USER);
        scene.refuse(command, &["bridge helper", odd])?;
    }
    Ok(())
}

#[test]
fn a_user_joins_by_the_helper_beside_the_broker() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = scene_with_bridge()?;
    setuid_copy(&scene, &helper_binary()?, "broker-bridge-helper")?;
    scene.network.access_list("allow br0\n")?;
    assert_runs(&scene, Some(ORDINARY_USER), &[], "bridge")?;
    scene.network.access_list("deny br0\n")?;
    scene.refuse(scene.start(&["bridge"]).user(ORDINARY_USER), &["broker-bridge-helper", "br0", "exit status: 1"])?;
    // A list that the operator names counts too.
    scene.network.access_list("allow br0\n")?;
    let list = scene.path("bridges");
    fs::write(&list, "deny br0\n").during("write the list")?;
    let command = scene.start(&["bridge"]).user(ORDINARY_USER).options(["--bridge-acl", &list]);
    scene.refuse(command, &["br0", "line 1"])
}

#[test]
fn a_list_that_the_operator_names_counts_for_what_a_helper_hands_over() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = scene_with_bridge()?;
    scene.network.bridge("br1")?;
    let helper = setuid_copy(&scene, &helper_binary()?, "helper")?;
    // The helper's own list allows both.
    scene.network.access_list("allow br0\nallow br1\n")?;
    let list = scene.path("bridges");
    fs::write(&list, "allow br0\n").during("write the list")?;
    let option = ["--bridge-acl".to_owned(), list];
    assert_runs(&scene, Some(ORDINARY_USER), &option, &format!("bridge,helper={helper}"))?;
    let start = || scene.start(&[&format!("bridge,helper={helper} --br=br1")]);
    for command in [start().options(&option), start().options(&option).user(ORDINARY_USER)] {
        scene.refuse(command, &["tap0 is no port of the bridge br0"])?;
    }
    // Without such a list the helper's counts alone.
    let interfaces = scene.network.interfaces()?;
    let (emulator, qmp) = start().user(ORDINARY_USER).start_with_monitor()?;
    assert_eq!(scene.network.link("tap0")?.unwrap_or_default()["master"], "br1");
    scene.quit(emulator, qmp, &interfaces)?;
    Ok(())
}

#[test]
fn a_user_who_may_gain_no_rights_is_told_so() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = scene_with_bridge()?;
    setuid_copy(&scene, &helper_binary()?, "broker-bridge-helper")?;
    scene.network.access_list("allow br0\n")?;
    assert_runs(&scene, Some(ORDINARY_USER), &[], "bridge")?;
    let (uid, gid) = (format!("--reuid={ORDINARY_USER}"), format!("--regid={ORDINARY_USER}"));
    let words = ["setpriv", &uid, &gid, "--clear-groups", "--inh-caps=-all", "--no-new-privs", "--"];
    let command = scene.start(&["bridge"]).user(ORDINARY_USER).through(words);
    scene.refuse(command, &["no_new_privs", "NoNewPrivileges=", "-netdev tap,ifname=NAME"])
}
