//! Macvtaps: interfaces that are there already, each for one guest's address.

use tests::{Network, Result, need};

use crate::conversation::{CLIENT_CARD, SERVER_CARD, Side, converse, our_turn};

/// Makes a macvtap on one end of a cable, up; those on one end reach each other.
fn precreate(network: &Network, name: &str, address: &str) -> Result<()> {
    network.ip(&format!("link add link lan0 name {name} address {address} type macvtap mode bridge"))?;
    network.without_ipv6(name)?;
    network.ip(&format!("link set {name} up")).map(|_| ())
}

#[test]
fn macvtaps_on_one_cable() -> Result<()> {
    need!(Broker, Root, Qemu, Guest, Landlock, NetworkNamespaces, Macvtap);
    let _turn = our_turn();
    let network = Network::new()?;
    network.cable("lan0", "lan1")?;
    network.without_ipv6("lan0")?;
    network.without_ipv6("lan1")?;
    precreate(&network, "theirs0", SERVER_CARD)?;
    precreate(&network, "theirs1", CLIENT_CARD)?;
    let server = Side::backend("tap,ifname=theirs0", SERVER_CARD);
    let nic = format!("tap,ifname=theirs1,script=no,downscript=no,model=virtio-net-pci,mac={CLIENT_CARD}");
    converse(&network, server, Side::card(&["-nic", &nic]), 1)
}
