//! Taps and macvtaps, and who holds them.

use tests::{ORDINARY_USER, Result, need};

use crate::scene::{Scene, taps_of, taps_of_helpers};

#[test]
fn queues_of_a_new_tap_are_the_emulators_alone() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let interfaces = scene.network.interfaces()?;
    let networks = ["tap,script=no,downscript=no,queues=3", "tap,ifname=gate0,script=no,downscript=no"];
    let (emulator, qmp) = scene.start(&networks).start_with_monitor()?;
    assert!(scene.network.link("tap0")?.is_some() && scene.network.link("gate0")?.is_some());
    assert_eq!(taps_of(emulator.process())?, 4);
    assert!(taps_of_helpers(&emulator)?.iter().all(|(_, taps)| *taps == 0));
    scene.quit(emulator, qmp, &interfaces)?;
    Ok(())
}

#[test]
fn a_user_without_any_right_has_the_tap_that_was_made_for_it() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    scene.network.ip(&format!("tuntap add dev gate0 mode tap user {ORDINARY_USER}"))?;
    let interfaces = scene.network.interfaces()?;
    let network = "tap,ifname=gate0,script=no,downscript=no";
    let (emulator, qmp) = scene.start(&[network]).user(ORDINARY_USER).start_with_monitor()?;
    assert_eq!(taps_of(emulator.process())?, 1);
    scene.quit(emulator, qmp, &interfaces)?;
    let other = "tap,ifname=gate1,script=no,downscript=no";
    let command = scene.start(&[other]).user(ORDINARY_USER);
    scene.refuse(command, &["gate1", "ip tuntap add"])
}

#[test]
fn two_networks_have_two_interfaces() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun, Macvtap);
    let scene = Scene::new()?;
    scene.network.ip("tuntap add dev gate1 mode tap multi_queue")?;
    scene.network.cable("v0", "v1")?;
    scene.network.ip("link add m0 link v0 type macvtap mode bridge")?;
    for name in ["gate0", "gate1", "m0"] {
        let network = format!("tap,ifname={name},script=no,downscript=no");
        let command =
            scene.start(&[]).args(["-netdev", &format!("{network},id=a"), "-netdev", &format!("{network},id=b")]);
        scene.refuse(command, &[name, "named twice", "ifname="])?;
    }
    Ok(())
}

#[test]
fn a_macvtap_takes_its_own_address_only() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Macvtap);
    let scene = Scene::new()?;
    scene.network.cable("v0", "v1")?;
    scene.network.ip("link add m0 link v0 address 02:00:00:00:00:07 type macvtap mode bridge")?;
    scene.network.ip("link set m0 up")?;
    let interfaces = scene.network.interfaces()?;
    let start = |card: &str| scene.start(&[]).args(["-netdev", "tap,id=m,ifname=m0", "-device", card]);
    let default = start("virtio-net-pci,netdev=m,romfile=");
    scene.refuse(default, &["m0", "virtio-net-pci", "default address", "mac=02:00:00:00:00:07"])?;
    let other = start("virtio-net-pci,netdev=m,mac=52:54:00:00:00:01,romfile=");
    scene.refuse(other, &["m0", "52:54:00:00:00:01", "mac=02:00:00:00:00:07"])?;
    let right = start("virtio-net-pci,netdev=m,mac=02:00:00:00:00:07,romfile=");
    let (emulator, qmp) = right.start_with_monitor()?;
    scene.quit(emulator, qmp, &interfaces)?;
    Ok(())
}
