//! Macvtaps, which are always there already.

use broker::open::net::tap::{self, Found};
use broker::open::net::{Interface, Wanted};
use tests::{During, Error, Network, ORDINARY_USER, PATIENCE, Result, need, until};

use crate::{MULTI_QUEUE, NO_PI, ONE, TAP, TWO, VNET_HDR, are_open_as_qemu_opens, has_flag, link, name, only_left};
use crate::{opened, queues, refused};

/// Bytes of the header that comes before each frame (`struct virtio_net_hdr`, linux/virtio_net.h).
const HEADER: usize = 10;

/// A namespace with the macvtap `mt0` on a cable, up.
fn network_with_macvtap() -> Result<Network> {
    let network = Network::new()?;
    network.cable("v0", "v1")?;
    network.ip("link add link v0 name mt0 type macvtap mode bridge")?;
    network.ip("link set mt0 up")?;
    Ok(network)
}

fn open(network: &Network, user: Option<u32>, wanted: Wanted) -> Result<Interface> {
    let name = name("mt0")?;
    network.within(user, || opened(tap::open(&name, wanted)))?
}

fn refuse(network: &Network, user: Option<u32>) -> Result<String> {
    let name = name("mt0")?;
    network.within(user, || refused(tap::open(&name, ONE)))?
}

/// Shows the namespace its own `/sys`, and a `/dev` with nothing in it but the macvtap's node, with the device number given
/// or, by default, its own.
fn show_own_node(network: &Network, number: Option<&str>) -> Result<()> {
    let index = link(network, "mt0")?.get("ifindex").map(ToString::to_string).unwrap_or_default();
    network.run(None, "mount", &["-t", "sysfs", "sysfs", "/sys"])?;
    let own = network.run(None, "cat", &[&format!("/sys/class/net/mt0/macvtap/tap{index}/dev")])?;
    let number = number.unwrap_or(own.trim()).replace(':', " ");
    let make = format!("mount -t tmpfs -o mode=0755 tmpfs /dev && mknod -m 0600 /dev/tap{index} c {number}");
    network.run(None, "sh", &["-c", &make]).map(|_| ())
}

/// Frames that the macvtap has sent.
fn sent(network: &Network) -> Result<u64> {
    let text = network.run(None, "ip", &["-stats", "-json", "link", "show", "mt0"])?;
    let links: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::Unexpected(format!("ip: {error}: {text}")))?;
    let packets = links.pointer("/0/stats64/tx/packets").and_then(serde_json::Value::as_u64);
    packets.ok_or_else(|| Error::Unexpected(format!("no count of packets: {text}")))
}

#[test]
fn every_queue_is_the_macvtaps_whatever_sys_shows() -> Result<()> {
    need!(Root, NetworkNamespaces, Macvtap);
    let network = network_with_macvtap()?;
    let before = link(&network, "mt0")?;
    let address = before["address"].as_str().unwrap_or_default().to_owned();
    let macvtap = name("mt0")?;
    match network.within(None, || opened(tap::look_up(&macvtap)))?? {
        Found::Macvtap { address: found } => assert_eq!(found.map(|byte| format!("{byte:02x}")).join(":"), address),
        other => panic!("{other:?}"),
    }
    for (wanted, multi_queue) in [(ONE, 0), (TWO, MULTI_QUEUE)] {
        let interface = open(&network, None, wanted)?;
        let expected = ("mt0".to_owned(), TAP | NO_PI | VNET_HDR | multi_queue);
        assert_eq!(queues(&interface.queues)?, vec![expected; usize::from(wanted.queues)]);
        assert!(are_open_as_qemu_opens(&interface.queues)?);
    }
    let without = open(&network, None, Wanted { queues: 1, vnet_hdr: Some(false) })?;
    assert_eq!(queues(&without.queues)?, [("mt0".to_owned(), TAP | NO_PI)]);
    drop(without);
    only_left(&network, &["v1", "v0", "mt0"])?;
    assert_eq!(link(&network, "mt0")?, before);
    Ok(())
}

#[test]
fn a_macvtap_that_is_down_stays_down() -> Result<()> {
    need!(Root, NetworkNamespaces, Macvtap);
    let network = network_with_macvtap()?;
    network.ip("link set mt0 down")?;
    drop(open(&network, None, ONE)?);
    assert!(!has_flag(&link(&network, "mt0")?, "UP"));
    Ok(())
}

#[test]
fn a_macvtap_is_found_by_another_name() -> Result<()> {
    need!(Root, NetworkNamespaces, Macvtap);
    let network = network_with_macvtap()?;
    network.ip("link property add dev mt0 altname uplink")?;
    let other = name("uplink")?;
    let interface = network.within(None, || opened(tap::open(&other, ONE)))??;
    assert_eq!(interface.name.as_str(), "mt0");
    Ok(())
}

#[test]
fn macvtaps_of_one_index_in_two_namespaces_are_told_apart() -> Result<()> {
    need!(Root, NetworkNamespaces, Macvtap);
    let networks = [network_with_macvtap()?, network_with_macvtap()?];
    assert_eq!(link(&networks[0], "mt0")?["ifindex"], link(&networks[1], "mt0")?["ifindex"]);
    let interfaces = [open(&networks[0], None, ONE)?, open(&networks[1], None, ONE)?];
    // What is written to one's queue comes out of that one alone.
    for (index, interface) in interfaces.iter().enumerate() {
        let before = [sent(&networks[0])?, sent(&networks[1])?];
        let mut frame = [0; HEADER + 60];
        frame[HEADER..HEADER + 6].fill(0xff);
        for _ in 0..50 {
            rustix::io::write(&interface.queues[0], &frame).during("send a frame")?;
        }
        let after = [sent(&networks[0])?, sent(&networks[1])?];
        assert!(after[index] >= before[index] + 50, "{before:?} {after:?}");
        assert!(after[1 - index] < before[1 - index] + 50, "{before:?} {after:?}");
    }
    Ok(())
}

#[test]
fn a_user_without_capabilities_opens_a_node_of_its_own() -> Result<()> {
    need!(Root, NetworkNamespaces, Macvtap);
    let network = network_with_macvtap()?;
    show_own_node(&network, None)?;
    let message = refuse(&network, Some(ORDINARY_USER))?;
    let index = link(&network, "mt0")?["ifindex"].clone();
    assert!(message.contains(&format!("chown {ORDINARY_USER} /dev/tap{index}")), "{message}");
    network.run(None, "chown", &[&ORDINARY_USER.to_string(), &format!("/dev/tap{index}")])?;
    let interface = open(&network, Some(ORDINARY_USER), TWO)?;
    assert_eq!(queues(&interface.queues)?[1].0, "mt0");
    Ok(())
}

#[test]
fn a_macvtap_that_a_guest_has_is_no_other_guests() -> Result<()> {
    need!(Root, NetworkNamespaces, Macvtap);
    let network = network_with_macvtap()?;
    show_own_node(&network, None)?;
    let index = link(&network, "mt0")?["ifindex"].clone();
    network.run(None, "chown", &[&ORDINARY_USER.to_string(), &format!("/dev/tap{index}")])?;
    for (user, other) in [(None, Some(ORDINARY_USER)), (Some(ORDINARY_USER), None)] {
        let interface = open(&network, user, TWO)?;
        for second in [user, other] {
            let message = refuse(&network, second)?;
            assert!(message.contains("mt0 is in use by another process"), "{message}");
        }
        drop(interface);
        let macvtap = name("mt0")?;
        let free = || network.within(other, || tap::open(&macvtap, ONE).ok());
        assert_eq!(until(PATIENCE, "the macvtap to be free", free)?.queues.len(), 1);
    }
    Ok(())
}

#[test]
fn a_user_without_capabilities_is_not_given_another_device() -> Result<()> {
    need!(Root, NetworkNamespaces, Macvtap);
    let network = network_with_macvtap()?;
    // The node of the interface's index is /dev/null.
    show_own_node(&network, Some("1:3"))?;
    let message = refuse(&network, Some(ORDINARY_USER))?;
    assert!(message.contains("it is 1:3") && message.contains("mknod /dev/tap"), "{message}");
    // Root makes a node that nobody sees.
    assert_eq!(queues(&open(&network, None, ONE)?.queues)?[0].0, "mt0");
    assert!(!network.run(None, "ls", &["/dev"])?.contains("mt0"));
    Ok(())
}

#[test]
fn a_sys_of_another_namespace_is_not_believed() -> Result<()> {
    need!(Root, NetworkNamespaces, Macvtap);
    let network = network_with_macvtap()?;
    let message = refuse(&network, Some(ORDINARY_USER))?;
    assert!(message.contains("/sys has to show this network namespace"), "{message}");
    // One that has an interface of the same name and index, with another address.
    let other = network_with_macvtap()?;
    let target = format!("--target={}", other.holder().0);
    let sysfs = ["nsenter", &target, "--net", "mount", "-t", "sysfs", "sysfs", "/sys"];
    network.run(None, sysfs[0], &sysfs[1..])?;
    let message = refuse(&network, Some(ORDINARY_USER))?;
    assert!(message.contains("mt0 of another network namespace"), "{message}");
    Ok(())
}
