//! What the helper hands over, and to whom.

use std::path::Path;

use serde_json::Value;
use tests::{ORDINARY_USER, Result, need};

use crate::scene::{Scene, WAYS, Way, interface_of};

/// Fails unless it is `tap0`, made as it must be for `br0`, and its caller's.
fn assert_made(scene: &Scene, way: Way, header: bool) -> Result<()> {
    let link = scene.0.link("tap0")?.unwrap_or(Value::Null);
    assert!(scene.is_up("tap0")?, "{way}: {link}");
    let address = link.get("address").and_then(Value::as_str);
    assert!(address.is_some_and(|address| address.starts_with("fe:")), "{way}: {link}");
    for (path, value) in [
        ("/mtu", 1400.into()),
        ("/linkinfo/info_data/type", "tap".into()),
        ("/linkinfo/info_data/persist", false.into()),
        ("/linkinfo/info_data/vnet_hdr", header.into()),
        ("/linkinfo/info_data/user", way.user().map_or_else(|| "root".into(), Value::from)),
    ] {
        assert_eq!(link.pointer(path), Some(&value), "{way}: {path}: {link}");
    }
    Ok(())
}

#[test]
fn a_tap_on_the_bridge_by_one_byte_and_one_descriptor() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0")?;
    for way in WAYS {
        for (words, header) in [(&["--use-vnet", "--br=br0", "--fd=0"][..], true), (&["--fd=0", "--br=br0"], false)] {
            let answer = scene.ask(way, words)?;
            assert!(answer.output.status.success(), "{way}: {answer:?}");
            assert_eq!((answer.bytes.as_slice(), answer.descriptors.len()), (&[0][..], 1), "{way}: {answer:?}");
            assert!(answer.output.stderr.is_empty() && answer.output.stdout.is_empty(), "{way}: {answer:?}");
            for descriptor in &answer.descriptors {
                assert_eq!(interface_of(descriptor)?, "tap0", "{way}");
            }
            assert_made(&scene, way, header)?;
            drop(answer);
            scene.assert_nothing_left()?;
        }
    }
    Ok(())
}

#[test]
fn queues_and_vhost_in_the_same_message() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0")?;
    let answer = scene.ask(Way::Setuid, &["--use-vnet", "--br=br0", "--fd=0", "--queues=3"])?;
    assert_eq!((answer.bytes.as_slice(), answer.descriptors.len()), (&[0][..], 3), "{answer:?}");
    for descriptor in &answer.descriptors {
        assert_eq!(interface_of(descriptor)?, "tap0");
    }
    assert_made(&scene, Way::Setuid, true)?;
    drop(answer);
    let answer = scene.ask(Way::Root, &["--br=br0", "--fd=0", "--queues=2", "--vhost"])?;
    if Path::new("/dev/vhost-net").exists() {
        assert_eq!((answer.bytes.as_slice(), answer.descriptors.len()), (&[0][..], 4), "{answer:?}");
    } else {
        answer.assert_refused("/dev/vhost-net");
    }
    drop(answer);
    scene.assert_nothing_left()
}

#[test]
fn refusals_say_why() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0\nallow none\nallow cable\ndeny lan")?;
    scene.0.ip("link property add dev br0 altname wan")?;
    scene.0.bridge("br1")?;
    scene.0.cable("cable", "end")?;
    for way in WAYS {
        for (bridge, part) in [
            ("br1", "bridge br1: no rule of /etc/qemu/bridge.conf allows it to user "),
            ("none", "there is no bridge none"),
            ("cable", "cable is "),
            ("a-name-of-16-byt", "--br=: "),
        ] {
            scene.ask(way, &["--use-vnet", &format!("--br={bridge}"), "--fd=0"])?.assert_refused(part);
        }
        scene.ask(way, &["-help"])?.assert_refused("usage: ");
        scene.ask(way, &["--br=br0"])?.assert_refused("usage: ");
        scene.ask(way, &["--br=br0", "--fd=1"])?.assert_refused("--fd=1 is no UNIX socket");
        scene.ask(way, &["--br=br0", "--fd=777"])?.assert_refused("--fd=777 is no UNIX socket");
    }
    assert_eq!(scene.ask(Way::Setuid, &["--br=wan", "--fd=0"])?.descriptors.len(), 1);
    // Another name of the same bridge: what denies it denies the bridge.
    scene.0.ip("link property add dev br0 altname lan")?;
    let part = "bridge br0 is denied by /etc/qemu/bridge.conf line 4 (\"deny lan\")";
    scene.ask(Way::Setuid, &["--br=br0", "--fd=0"])?.assert_refused(part);
    scene.ask(Way::Plain, &["--br=br1", "--fd=0"])?.assert_refused("no rule of");
    scene.write_list("allow all")?;
    scene.ask(Way::Plain, &["--br=br1", "--fd=0"])?.assert_refused("setcap cap_net_admin+ep");
    Ok(())
}

#[test]
fn rules_for_users_are_about_the_caller() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let words = ["--use-vnet", "--br=br0", "--fd=0"];
    // It is the caller who is meant, not root, whose the program file is; groups are the caller's as well.
    for (list, counts) in [
        (format!("allow br0 user:{ORDINARY_USER}"), true),
        (format!("allow br0 user:root group:{ORDINARY_USER}"), true),
        ("allow br0 user:root group:root".to_owned(), false),
        (format!("allow br0\ndeny br0 user:{ORDINARY_USER}"), false),
        ("allow br0\ndeny br0 user:root".to_owned(), true),
    ] {
        let scene = Scene::new(&list)?;
        for way in [Way::Setuid, Way::Capable] {
            let answer = scene.ask(way, &words)?;
            assert_eq!(answer.descriptors.len(), usize::from(counts), "{way}, {list}: {answer:?}");
        }
    }
    let scene = Scene::new("allow br0 group:daemon")?;
    scene.ask(Way::Setuid, &words)?.assert_refused("no rule of");
    // A setpriv of root's: the supplementary group comes with the caller.
    let line =
        format!("exec setpriv --reuid {ORDINARY_USER} --regid {ORDINARY_USER} --groups 1 -- /mnt/setuid \"${{@:2}}\"");
    assert_eq!(scene.ask_by(Way::Root, &line, &words)?.descriptors.len(), 1);
    Ok(())
}
