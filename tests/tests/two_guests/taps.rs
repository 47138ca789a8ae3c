//! Taps: new ones that a script adds to the bridge, ones that are there already, and ones with several queues.

use tests::{Network, ORDINARY_USER, Result, Workdir, need};

use crate::conversation::{CLIENT_CARD, SERVER_CARD, Side, bridged, converse, our_turn};

/// Makes a persistent tap on the bridge, up, for an ordinary user.
fn precreate(network: &Network, name: &str, kind: &str) -> Result<()> {
    network.ip(&format!("tuntap add dev {name} mode tap user {ORDINARY_USER} {kind}"))?;
    network.without_ipv6(name)?;
    network.ip(&format!("link set {name} master br0 up")).map(|_| ())
}

/// A script that adds the tap of its argument to the bridge; its path. A process of its own writes it: a child that another
/// test forks in the meantime would inherit our open file, and what is open for writing cannot be executed (ETXTBSY,
/// execve(2)).
fn script(network: &Network, workdir: &Workdir) -> Result<String> {
    let path = workdir.aside().join("join").to_string_lossy().into_owned();
    let text = "#!/bin/sh\nexec ip link set \"$1\" master br0 up\n";
    network.run(None, "sh", &["-c", "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh", &path, text])?;
    Ok(path)
}

#[test]
fn new_taps_that_a_script_adds_to_the_bridge() -> Result<()> {
    need!(Root, Qemu, Guest, Landlock, NetworkNamespaces, Tun);
    let _turn = our_turn();
    let (network, workdir) = (bridged()?, Workdir::new()?);
    let script = script(&network, &workdir)?;
    let server = Side::backend(&format!("tap,ifname=ours0,script={script},downscript=no"), SERVER_CARD);
    let nic = format!("tap,script={script},downscript=no,model=virtio-net-pci,mac={CLIENT_CARD}");
    converse(&network, server, Side::card(&["-nic", &nic]), 1)
}

#[test]
fn taps_that_are_there_already_as_an_ordinary_user() -> Result<()> {
    need!(Root, Qemu, Guest, Landlock, NetworkNamespaces, Tun, UserNamespaces);
    let _turn = our_turn();
    let network = bridged()?;
    precreate(&network, "theirs0", "")?;
    precreate(&network, "theirs1", "")?;
    let server = Side::backend("tap,ifname=theirs0,script=no,downscript=no", SERVER_CARD);
    let card = format!("nic,model=virtio,macaddr={CLIENT_CARD}");
    let client = Side::card(&["-net", &card, "-net", "tap,ifname=theirs1,script=no,downscript=no"]);
    converse(&network, server.user(ORDINARY_USER), client.user(ORDINARY_USER), 1)
}

#[test]
fn four_queues() -> Result<()> {
    need!(Root, Qemu, Guest, Landlock, NetworkNamespaces, Tun, UserNamespaces);
    let _turn = our_turn();
    let (network, workdir) = (bridged()?, Workdir::new()?);
    precreate(&network, "theirs0", "multi_queue")?;
    let script = script(&network, &workdir)?;
    let side = |tap: &str, address: &str| {
        let backend = format!("tap,id=n,queues=4,downscript=no,{tap}");
        let device = format!("virtio-net-pci,netdev=n,mac={address},romfile=,mq=on,vectors=10");
        Side::card(&["-netdev", &backend, "-device", &device])
    };
    let server = side("ifname=theirs0,script=no", SERVER_CARD).user(ORDINARY_USER);
    converse(&network, server, side(&format!("script={script}"), CLIENT_CARD), 4)
}
