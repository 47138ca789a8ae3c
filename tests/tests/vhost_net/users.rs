//! An ordinary user without any capability: who may open `/dev/vhost-net` is the host's decision.

use tests::{BrokerCommand, Network, ORDINARY_USER, PLAIN_QEMU, Result, Workdir, need};

use super::{Held, TAP, assert_held, network_with_bridge, take_turn};

/// The group that may use virtual machines on this host, `kvm` on a Debian system.
const GROUP: u32 = 54321;

/// A node of vhost-net (char 10:238, VHOST_NET_MINOR of linux/miscdevice.h) as udev makes it on a Debian system
/// (50-udev-default.rules), in this mount namespace alone.
fn give_vhost_to_the_group(network: &Network) -> Result<()> {
    let node = "/dev/net/vhost-net";
    let script = format!(
        "mknod {node} c 10 238 && chown 0:{GROUP} {node} && chmod 0660 {node} && mount --bind {node} /dev/vhost-net"
    );
    network.run(None, "sh", &["-c", &script]).map(drop)
}

/// A start by the ordinary user, with a tap of that user's that is there already.
fn start<'a>(workdir: &'a Workdir, network: &'a Network, groups: &str) -> BrokerCommand<'a> {
    let (uid, gid) = (format!("--reuid={ORDINARY_USER}"), format!("--regid={ORDINARY_USER}"));
    BrokerCommand::new(workdir)
        .user(ORDINARY_USER)
        .inside(network)
        .through(["setpriv", &uid, &gid, groups, "--inh-caps=-all", "--"])
        .args(PLAIN_QEMU)
        .args(["-S", "-accel", "tcg", "-device", "virtio-net-pci,netdev=n"])
        .args(["-netdev", &format!("tap,id=n,ifname={TAP},script=no,downscript=no,vhost=on")])
}

fn network() -> Result<Network> {
    let network = network_with_bridge()?;
    network.ip(&format!("tuntap add dev {TAP} mode tap user {ORDINARY_USER}"))?;
    give_vhost_to_the_group(&network)?;
    Ok(network)
}

#[test]
fn of_the_group() -> Result<()> {
    need!(VhostNet, NetworkNamespaces, Tun, Root, Qemu);
    let _turn = take_turn();
    let (workdir, network) = (Workdir::new()?, network()?);
    let (files, before) = (workdir.listing()?, network.interfaces()?);
    let command = start(&workdir, &network, &format!("--groups={GROUP}"));
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    assert_held(&emulator, &Held::taps(1, TAP))?;
    qmp.quit()?;
    assert!(emulator.wait()?.status.success());
    emulator.assert_nothing_left(&workdir, &files)?;
    assert_eq!(network.interfaces()?, before, "a tap that was there stays");
    Ok(())
}

#[test]
fn of_no_group() -> Result<()> {
    need!(VhostNet, NetworkNamespaces, Tun, Root, Qemu, Broker);
    let _turn = take_turn();
    let (workdir, network) = (Workdir::new()?, network()?);
    let finished = start(&workdir, &network, "--clear-groups").run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert!(finished.stderr.contains("/dev/vhost-net") && finished.stderr.contains("group"), "{finished:?}");
    assert_eq!(network.processes()?, []);
    Ok(())
}
