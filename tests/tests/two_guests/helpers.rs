//! Taps that a bridge helper makes for an ordinary user, who has no right to.

use tests::{ORDINARY_USER, Result, Workdir, need, setuid_bridge_helper};

use crate::conversation::{CLIENT_CARD, SERVER_CARD, Side, bridged, converse, our_turn};

#[test]
fn stock_qemu_runs_our_helper() -> Result<()> {
    need!(Root, Qemu, Guest, NetworkNamespaces, Tun);
    let _turn = our_turn();
    let (network, workdir) = (bridged()?, Workdir::new()?);
    network.access_list("allow br0\n")?;
    let helper = setuid_bridge_helper(&workdir)?;
    let helper = helper.display();
    let server = Side::backend(&format!("bridge,br=br0,helper={helper}"), SERVER_CARD);
    let client = Side::backend(&format!("tap,helper={helper}"), CLIENT_CARD);
    converse(&network, server.user(ORDINARY_USER).bare(), client.user(ORDINARY_USER).bare(), 1)
}

#[test]
fn the_broker_runs_a_helper() -> Result<()> {
    need!(Broker, Root, Qemu, Guest, Landlock, NetworkNamespaces, Tun, UserNamespaces);
    let _turn = our_turn();
    let (network, workdir) = (bridged()?, Workdir::new()?);
    network.access_list("# ordinary users\nallow br0 user:12345\n")?;
    let helper = setuid_bridge_helper(&workdir)?;
    let server = Side::backend(&format!("bridge,br=br0,helper={}", helper.display()), SERVER_CARD);
    let nic = format!("tap,helper={},model=virtio-net-pci,mac={CLIENT_CARD}", helper.display());
    converse(&network, server.user(ORDINARY_USER), Side::card(&["-nic", &nic]).user(ORDINARY_USER), 1)
}
