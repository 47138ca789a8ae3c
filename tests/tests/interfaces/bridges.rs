//! New taps on bridges.

use std::process::{Command, Stdio};

use broker::open::net::bridge;
use tests::{During, Error, Network, ORDINARY_USER, Result, need};

use crate::{
    MULTI_QUEUE, NO_PI, ONE, TAP, TWO, VNET_HDR, are_open_as_qemu_opens, has_flag, link, name, only_left, opened,
    queues, refused,
};

#[test]
fn a_new_tap_is_a_port_with_the_bridges_mtu_and_a_carrier() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.bridge("br0")?;
    network.ip("link set br0 mtu 1400")?;
    let (bridge, name) = (name("br0")?, "tap0");
    let interface =
        network.within(None, || opened(bridge::look_up(&bridge).and_then(|br| bridge::join(&br, ONE))))??;
    assert_eq!(interface.name.as_str(), name);
    assert_eq!(queues(&interface.queues)?, [(name.to_owned(), TAP | NO_PI | VNET_HDR)]);
    assert!(are_open_as_qemu_opens(&interface.queues)?);
    let tap = link(&network, name)?;
    assert_eq!(tap["master"], "br0");
    assert_eq!(tap["linkinfo"]["info_slave_kind"], "bridge");
    assert_eq!(tap["mtu"], 1400);
    assert!(tap["address"].as_str().is_some_and(|address| address.starts_with("fe:")), "{tap}");
    assert_eq!(tap["linkinfo"]["info_data"]["persist"], false);
    assert!(has_flag(&tap, "UP") && has_flag(&tap, "LOWER_UP"), "{tap}");
    drop(interface);
    only_left(&network, &["br0"])
}

#[test]
fn the_bridges_own_address_stays() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.bridge("br0")?;
    network.cable("v0", "v1")?;
    network.ip("link set v0 master br0")?;
    let before = link(&network, "br0")?["address"].clone();
    let bridge = name("br0")?;
    let interface =
        network.within(None, || opened(bridge::look_up(&bridge).and_then(|br| bridge::join(&br, ONE))))??;
    assert_eq!(link(&network, "br0")?["address"], before);
    drop(interface);
    only_left(&network, &["br0", "v1", "v0"])?;
    assert_eq!(link(&network, "br0")?["address"], before);
    Ok(())
}

#[test]
fn every_queue_is_the_same_taps() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.bridge("br0")?;
    let bridge = name("br0")?;
    let interface =
        network.within(None, || opened(bridge::look_up(&bridge).and_then(|br| bridge::join(&br, TWO))))??;
    let expected = ("tap0".to_owned(), TAP | NO_PI | VNET_HDR | MULTI_QUEUE);
    assert_eq!(queues(&interface.queues)?, [expected.clone(), expected]);
    assert!(are_open_as_qemu_opens(&interface.queues)?);
    assert_eq!(link(&network, "tap0")?["linkinfo"]["info_data"]["numqueues"], 2);
    drop(interface);
    only_left(&network, &["br0"])
}

#[test]
fn a_bridge_is_found_by_each_of_its_names() -> Result<()> {
    need!(Root, NetworkNamespaces);
    let network = Network::new()?;
    network.bridge("br0")?;
    network.ip("link set br0 mtu 9000")?;
    network.ip("link property add dev br0 altname tenants altname a-name-of-more-than-fifteen-bytes")?;
    for text in ["br0", "tenants"] {
        let name = name(text)?;
        let bridge = network.within(None, || opened(bridge::look_up(&name)))??;
        assert_eq!(bridge.names, ["br0", "tenants", "a-name-of-more-than-fifteen-bytes"]);
        assert_eq!(bridge.mtu, 9000);
        assert_eq!(link(&network, "br0")?["ifindex"], bridge.index);
    }
    Ok(())
}

#[test]
fn what_is_no_bridge_is_refused_and_named() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.cable("v0", "v1")?;
    network.ip("tuntap add dev t0 mode tap")?;
    for (text, found) in [("v0", "kind veth"), ("t0", "a tap"), ("lo", "loopback")] {
        let interface = name(text)?;
        let message = network.within(None, || refused(bridge::look_up(&interface)))??;
        assert!(message.starts_with(text) && message.contains(found) && message.contains("no bridge"), "{message}");
    }
    let missing = name("br7")?;
    let message = network.within(None, || refused(bridge::look_up(&missing)))??;
    assert!(message.contains("there is no bridge br7; make it: ip link add br7 type bridge"), "{message}");
    Ok(())
}

#[test]
fn only_who_administers_the_network_may_join() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.bridge("br0")?;
    assert!(network.within(None, bridge::may_join)?);
    assert!(!network.within(Some(ORDINARY_USER), bridge::may_join)?);
    let bridge = name("br0")?;
    // A bridge can be seen without any right.
    let join = || refused(bridge::look_up(&bridge).and_then(|br| bridge::join(&br, ONE)));
    let message = network.within(Some(ORDINARY_USER), join)??;
    assert!(message.contains("takes CAP_NET_ADMIN") && message.contains("user 12345"), "{message}");
    only_left(&network, &["br0"])
}

#[test]
fn a_bridge_that_was_replaced_is_not_joined() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.bridge("br0")?;
    let bridge = name("br0")?;
    let found = network.within(None, || opened(bridge::look_up(&bridge)))??;
    network.ip("link del br0")?;
    network.bridge("br0")?;
    let message = network.within(None, || refused(bridge::join(&found, ONE)))??;
    assert!(message.starts_with("cannot add the new tap tap0 for the bridge br0"), "{message}");
    only_left(&network, &["br0"])
}

#[test]
fn a_holder_that_is_killed_leaves_no_interface() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.bridge("br0")?;
    let bridge = name("br0")?;
    let interface =
        network.within(None, || opened(bridge::look_up(&bridge).and_then(|br| bridge::join(&br, ONE))))??;
    let queue = interface.queues.into_iter().next().ok_or_else(|| Error::Unexpected("no queue".to_owned()))?;
    let mut holder = Command::new("sleep").arg("600").stdin(Stdio::from(queue)).spawn().during("start sleep")?;
    assert_eq!(link(&network, "tap0")?["master"], "br0");
    holder.kill().during("kill the holder")?;
    only_left(&network, &["br0"])?;
    holder.wait().during("wait for the holder")?;
    Ok(())
}
