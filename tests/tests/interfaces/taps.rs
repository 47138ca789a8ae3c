//! Taps, new ones and those that were there before.

use broker::open::net::tap::{self, Found};
use broker::open::net::{Interface, Wanted};
use serde_json::Value;
use tests::{Network, ORDINARY_USER, Result, need};

use crate::{
    MULTI_QUEUE, NO_PI, ONE, PERSIST, TAP, TWO, VNET_HDR, are_open_as_qemu_opens, has_flag, link, name, only_left,
    opened, queues, refused,
};

/// Opens an interface in the namespace, as root or as a user without capabilities.
fn open(network: &Network, user: Option<u32>, text: &str, wanted: Wanted) -> Result<Interface> {
    let name = name(text)?;
    network.within(user, || opened(tap::open(&name, wanted)))?
}

/// The message with which opening one is refused.
fn refuse(network: &Network, user: Option<u32>, text: &str, wanted: Wanted) -> Result<String> {
    let name = name(text)?;
    network.within(user, || refused(tap::open(&name, wanted)))?
}

/// What an interface's name stands for.
fn look_up(network: &Network, text: &str) -> Result<Found> {
    let name = name(text)?;
    network.within(Some(ORDINARY_USER), || opened(tap::look_up(&name)))?
}

/// What was there before, without what only tells that somebody has it open.
fn lasting(network: &Network, name: &str) -> Result<Value> {
    let mut link = link(network, name)?;
    if let Some(fields) = link.as_object_mut() {
        fields.retain(|key, _| matches!(key.as_str(), "ifindex" | "address" | "mtu" | "master" | "txqlen"));
    }
    Ok(link)
}

#[test]
fn a_new_tap_has_the_name_given_and_stays_down() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    assert_eq!(look_up(&network, "new")?, Found::Nothing);
    let interface = open(&network, None, "new", ONE)?;
    assert_eq!(queues(&interface.queues)?, [("new".to_owned(), TAP | NO_PI | VNET_HDR)]);
    assert!(are_open_as_qemu_opens(&interface.queues)?);
    assert!(!has_flag(&link(&network, "new")?, "UP"));
    drop(interface);
    only_left(&network, &[])
}

#[test]
fn a_pattern_takes_the_first_name_that_is_free() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.ip("tuntap add dev tap0 mode tap")?;
    assert_eq!(look_up(&network, "tap%d")?, Found::Nothing);
    let interface = open(&network, None, "tap%d", TWO)?;
    assert_eq!(interface.name.as_str(), "tap1");
    let expected = ("tap1".to_owned(), TAP | NO_PI | VNET_HDR | MULTI_QUEUE);
    assert_eq!(queues(&interface.queues)?, [expected.clone(), expected]);
    drop(interface);
    only_left(&network, &["tap0"])
}

#[test]
fn the_header_of_virtio_is_there_as_wanted() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    for (vnet_hdr, expected) in [(Some(true), VNET_HDR), (Some(false), 0), (None, VNET_HDR)] {
        let interface = open(&network, None, "tap%d", Wanted { queues: 1, vnet_hdr })?;
        assert_eq!(queues(&interface.queues)?[0].1 & VNET_HDR, expected, "{vnet_hdr:?}");
    }
    Ok(())
}

#[test]
fn a_user_without_capabilities_uses_a_tap_of_its_own_and_leaves_it_as_it_was() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.bridge("br0")?;
    network.ip(&format!("tuntap add dev keep mode tap user {ORDINARY_USER}"))?;
    network.ip("link set keep address 52:54:00:00:00:07 mtu 1300 master br0 up")?;
    let before = lasting(&network, "keep")?;
    assert_eq!(look_up(&network, "keep")?, Found::Tap { multi_queue: false });
    let interface = open(&network, Some(ORDINARY_USER), "keep", ONE)?;
    assert_eq!(queues(&interface.queues)?, [("keep".to_owned(), TAP | NO_PI | VNET_HDR | PERSIST)]);
    assert!(has_flag(&link(&network, "keep")?, "LOWER_UP"));
    assert_eq!(lasting(&network, "keep")?, before);
    drop(interface);
    only_left(&network, &["br0", "keep"])?;
    assert_eq!(lasting(&network, "keep")?, before);
    assert!(has_flag(&link(&network, "keep")?, "UP"));
    Ok(())
}

#[test]
fn a_tap_that_is_down_is_opened_and_stays_down() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.ip("tuntap add dev keep mode tap")?;
    let interface = open(&network, None, "keep", ONE)?;
    assert!(!has_flag(&link(&network, "keep")?, "UP"));
    drop(interface);
    only_left(&network, &["keep"])
}

#[test]
fn a_tap_of_several_queues_is_opened_with_one_or_more() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    for (number, wanted) in [ONE, TWO, Wanted { queues: 4, vnet_hdr: None }].into_iter().enumerate() {
        let tap = format!("many{number}");
        network.ip(&format!("tuntap add dev {tap} mode tap multi_queue user {ORDINARY_USER}"))?;
        assert_eq!(look_up(&network, &tap)?, Found::Tap { multi_queue: true });
        let interface = open(&network, Some(ORDINARY_USER), &tap, wanted)?;
        let expected = (tap.clone(), TAP | NO_PI | VNET_HDR | PERSIST | MULTI_QUEUE);
        assert_eq!(queues(&interface.queues)?, vec![expected; usize::from(wanted.queues)]);
        // To the kernel that would be a further queue, and each of the two guests would get some of the frames.
        let message = refuse(&network, Some(ORDINARY_USER), &tap, ONE)?;
        assert!(message.contains(&tap) && message.contains("in use by another process"), "{message}");
    }
    Ok(())
}

#[test]
fn several_queues_need_a_tap_made_for_them() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.ip("tuntap add dev keep mode tap")?;
    let message = refuse(&network, None, "keep", TWO)?;
    let remedy = "ip tuntap add dev keep mode tap multi_queue";
    assert!(message.contains("queues=2") && message.contains(remedy), "{message}");
    only_left(&network, &["keep"])
}

#[test]
fn a_tap_in_use_is_refused() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    let interface = open(&network, None, "new", ONE)?;
    let message = refuse(&network, None, "new", ONE)?;
    assert!(message.starts_with("the interface new is in use by another process"), "{message}");
    drop(interface);
    only_left(&network, &[])
}

#[test]
fn anothers_tap_is_refused_and_its_owner_named() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.ip("tuntap add dev u mode tap user 54321")?;
    network.ip("tuntap add dev g mode tap group 54322")?;
    network.ip("tuntap add dev b mode tap user 54321 group 54322")?;
    for (tap, owner) in [("u", "user 54321,"), ("g", "group 54322,"), ("b", "user 54321 in group 54322,")] {
        let message = refuse(&network, Some(ORDINARY_USER), tap, ONE)?;
        assert!(message.contains(owner) && message.contains("not to user 12345"), "{message}");
    }
    only_left(&network, &["u", "g", "b"])
}

#[test]
fn a_user_without_capabilities_is_told_how_a_tap_is_made() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    let pattern = refuse(&network, Some(ORDINARY_USER), "tap%d", TWO)?;
    assert!(pattern.contains("ip tuntap add dev NAME mode tap user 12345 multi_queue &&"), "{pattern}");
    let message = refuse(&network, Some(ORDINARY_USER), "tap0", TWO)?;
    let command = "ip tuntap add dev tap0 mode tap user 12345 multi_queue && ip link set tap0 up";
    assert!(message.contains(command), "{message}");
    // What the message says to do serves.
    let (make, up) = command.split_once(" && ").unwrap_or_default();
    network.ip(make.trim_start_matches("ip "))?;
    network.ip(up.trim_start_matches("ip "))?;
    let interface = open(&network, Some(ORDINARY_USER), "tap0", TWO)?;
    assert_eq!(interface.queues.len(), 2);
    Ok(())
}

#[test]
fn interfaces_of_other_kinds_are_refused() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.bridge("br0")?;
    network.cable("v0", "v1")?;
    network.ip("tuntap add dev routed mode tun")?;
    network.ip("link property add dev v0 altname cable")?;
    for (text, found) in
        [("br0", "kind bridge"), ("v0", "kind veth"), ("cable", "kind veth"), ("routed", "a tun"), ("lo", "loopback")]
    {
        let message = refuse(&network, None, text, ONE)?;
        assert!(message.starts_with(text) && message.contains(found), "{message}");
    }
    only_left(&network, &["br0", "v1", "v0", "routed"])
}

#[test]
fn more_queues_than_the_kernel_has_leave_nothing_behind() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    let message = refuse(&network, None, "new", Wanted { queues: 300, vnet_hdr: None })?;
    assert!(message.contains("cannot attach queue 257 to new"), "{message}");
    only_left(&network, &[])
}

#[test]
fn without_the_device_the_message_says_what_is_missing() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.run(None, "chmod", &["0600", "/dev/net/tun"])?;
    let message = refuse(&network, Some(ORDINARY_USER), "new", ONE)?;
    assert!(message.contains("cannot open /dev/net/tun: Permission denied"), "{message}");
    network.run(None, "rm", &["/dev/net/tun"])?;
    let message = refuse(&network, None, "new", ONE)?;
    assert!(message.contains("modprobe tun"), "{message}");
    Ok(())
}
