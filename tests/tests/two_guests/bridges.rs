//! Taps that the broker makes on a bridge, where the access list allows it.

use tests::{Result, Workdir, need};

use crate::conversation::{CLIENT_CARD, Inventory, SERVER_CARD, Side, bridged, converse, our_turn};

/// The broker's options that name a list with this text.
fn list(workdir: &Workdir, text: &str) -> Result<[String; 2]> {
    let path = workdir.write("bridges.conf", text.as_bytes())?;
    Ok(["--bridge-acl".to_owned(), path.to_string_lossy().into_owned()])
}

#[test]
fn taps_on_a_bridge_that_the_list_allows() -> Result<()> {
    need!(Broker, Root, Qemu, Guest, Landlock, NetworkNamespaces, Tun);
    let _turn = our_turn();
    let (network, workdir) = (bridged()?, Workdir::new()?);
    let list = list(&workdir, "allow br0\n")?;
    let server = Side::backend("bridge,br=br0", SERVER_CARD).options(&list);
    let nic = format!("bridge,model=virtio-net-pci,mac={CLIENT_CARD}");
    converse(&network, server, Side::card(&["-nic", &nic]).options(&list), 1)
}

#[test]
fn no_guest_on_a_bridge_that_the_list_denies() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let (network, workdir) = (bridged()?, Workdir::new()?);
    let list = list(&workdir, "allow all\ndeny br0\n")?;
    let (before, files) = (Inventory::of(&network)?, workdir.listing()?);
    let side = Side::backend("bridge,br=br0", SERVER_CARD).options(&list);
    let mut emulator = side.command(&workdir, &network).args(tests::PLAIN_QEMU).start()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert!(finished.stderr.contains("br0") && finished.stderr.contains("line 2"), "{finished:?}");
    emulator.assert_nothing_left(&workdir, &files)?;
    before.assert_unchanged(&network)
}
