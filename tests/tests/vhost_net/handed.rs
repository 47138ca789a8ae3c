//! Descriptors that the caller opened, as libvirt does.

use tests::{BrokerCommand, Error, Network, PLAIN_QEMU, Result, Workdir, need};

use super::{Held, assert_held, take_turn};

/// The interface, on one end of a cable.
const MACVTAP: &str = "macvtap7";

/// A macvtap: a shell can open its device, which needs no ioctl to become a queue of it.
fn network() -> Result<(Network, String)> {
    let network = Network::new()?;
    network.cable("v7", "w7")?;
    network.ip(&format!("link add link v7 name {MACVTAP} type macvtap mode bridge"))?;
    network.ip(&format!("link set {MACVTAP} up"))?;
    let link = network.link(MACVTAP)?;
    let index = link.as_ref().and_then(|link| link.get("ifindex"));
    let index = index.ok_or_else(|| Error::Unexpected(format!("no index: {link:?}")))?;
    Ok((network, format!("/dev/tap{index}")))
}

/// Starts with the tap as descriptor 8 and vhost-net as 7.
fn start(backend: &str, expected: &Held) -> Result<()> {
    let _turn = take_turn();
    let (workdir, (network, device)) = (Workdir::new()?, network()?);
    let (files, before) = (workdir.listing()?, network.interfaces()?);
    let hand_over = format!("test -c {device} && exec 8<>{device} 7<>/dev/vhost-net && exec \"$@\"");
    let command = BrokerCommand::new(&workdir).inside(&network).through(["sh", "-c", &hand_over, "sh"]);
    let command = command.args(PLAIN_QEMU).args(["-S", "-accel", "tcg", "-device", "virtio-net-pci,netdev=n"]);
    let (mut emulator, mut qmp) = command.args(["-netdev", backend]).start_with_monitor()?;
    assert_held(&emulator, expected)?;
    qmp.quit()?;
    assert!(emulator.wait()?.status.success());
    emulator.assert_nothing_left(&workdir, &files)?;
    assert_eq!(network.interfaces()?, before);
    Ok(())
}

#[test]
fn tap_and_vhost() -> Result<()> {
    need!(VhostNet, NetworkNamespaces, Macvtap, Root, Qemu);
    start("tap,id=n,fd=8,vhost=on,vhostfd=7", &Held { macvtaps: 1, vhosts: 1, ..Held::default() })
}

/// The broker opens vhost-net itself; what it was handed besides stays out.
#[test]
fn tap_alone() -> Result<()> {
    need!(VhostNet, NetworkNamespaces, Macvtap, Root, Qemu, Broker);
    start("tap,id=n,fd=8,vhost=on", &Held { macvtaps: 1, vhosts: 1, ..Held::default() })
}
