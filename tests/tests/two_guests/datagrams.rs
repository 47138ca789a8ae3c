//! Frames in datagrams: of UDP between a guest under the broker and one of stock QEMU, and of a group.

use tests::{Network, Result, need};

use crate::conversation::{CLIENT_CARD, SERVER_CARD, Side, converse, our_turn};

/// A network whose loopback interface carries everything, groups too.
fn loopback() -> Result<Network> {
    let network = Network::new()?;
    network.ip("link set lo up multicast on")?;
    network.ip("route add 224.0.0.0/4 dev lo")?;
    Ok(network)
}

#[test]
fn udp_with_stock_qemu() -> Result<()> {
    need!(Root, Qemu, Guest, Landlock, NetworkNamespaces);
    let _turn = our_turn();
    let server = Side::backend("socket,udp=127.0.0.1:7002,localaddr=127.0.0.1:7001", SERVER_CARD);
    let sides = "local.type=inet,local.host=127.0.0.1,local.port=7002,remote.type=inet,remote.host=127.0.0.1";
    let client = Side::backend(&format!("dgram,{sides},remote.port=7001"), CLIENT_CARD).bare();
    converse(&loopback()?, server, client, 1)
}

#[test]
fn a_group() -> Result<()> {
    need!(Root, Qemu, Guest, Landlock, NetworkNamespaces);
    let _turn = our_turn();
    let side = |address| Side::backend("socket,mcast=230.0.0.1:7003", address);
    converse(&loopback()?, side(SERVER_CARD), side(CLIENT_CARD), 1)
}

#[test]
fn unix_sockets() -> Result<()> {
    need!(Root, Qemu, Guest, Landlock, NetworkNamespaces);
    let _turn = our_turn();
    let folder = tests::Workdir::new()?;
    let side = |local: &str, remote: &str, address| {
        let path = |name: &str| folder.aside().join(name).display().to_string();
        let sides = format!("local.type=unix,local.path={},remote.type=unix,remote.path={}", path(local), path(remote));
        Side::backend(&format!("dgram,{sides}"), address)
    };
    converse(&loopback()?, side("a", "b", SERVER_CARD), side("b", "a", CLIENT_CARD), 1)
}
