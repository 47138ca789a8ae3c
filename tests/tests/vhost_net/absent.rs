//! A host whose kernel has vhost-net as a module that is not loaded.

use std::path::Path;

use tests::{BrokerCommand, Network, PATIENCE, PLAIN_QEMU, Result, Workdir, need, until};

use super::{Held, TAP, assert_held, network_with_bridge, take_turn};

/// The module, unloaded for as long as this lives. Takes a test's turn.
struct Unloaded(Network);

impl Unloaded {
    fn from(network: Network) -> Result<Self> {
        // What the last guest held of it may be closed a moment after its end.
        let unload = || Ok(network.run(None, "rmmod", &["vhost_net"]).ok());
        until(PATIENCE, "vhost-net to be unloaded", unload)?;
        Ok(Self(network))
    }
}

impl Drop for Unloaded {
    fn drop(&mut self) {
        // The next test that needs it says so if it is not back. A node that a test made stands in the kernel's way.
        let back = "rm -f /dev/vhost-net; rmmod vhost_net; modprobe vhost_net";
        let _ = self.0.run(None, "sh", &["-c", back]);
    }
}

fn start<'a>(workdir: &'a Workdir, network: &'a Network, vhost: &str) -> BrokerCommand<'a> {
    BrokerCommand::new(workdir)
        .inside(network)
        .args(PLAIN_QEMU)
        .args(["-S", "-accel", "tcg", "-device", "virtio-net-pci,netdev=n"])
        .args(["-netdev", &format!("tap,id=n,ifname={TAP},script=no,downscript=no,vhost={vhost}")])
}

/// A start that ends well, whose emulator held this much meanwhile. Returns what was said.
fn runs(command: BrokerCommand<'_>, expected: &Held) -> Result<String> {
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    assert_held(&emulator, expected)?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    Ok(finished.stderr)
}

#[test]
fn what_was_demanded_is_missed_before_the_start() -> Result<()> {
    need!(VhostNet, NetworkNamespaces, Tun, Root, Qemu, Broker);
    let _turn = take_turn();
    let (workdir, unloaded) = (Workdir::new()?, Unloaded::from(network_with_bridge()?)?);
    let network = &unloaded.0;
    let (interfaces, files) = (network.interfaces()?, workdir.listing()?);

    let finished = start(&workdir, network, "on").run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    assert!(finished.stderr.contains("modprobe vhost_net"), "{finished:?}");
    assert_eq!(network.interfaces()?, interfaces);
    assert_eq!(workdir.listing()?, files);
    until(PATIENCE, "every process to end", || Ok(network.processes()?.is_empty().then_some(())))?;

    let without = Held { taps: vec![TAP.to_owned()], ..Held::default() };
    let said = runs(start(&workdir, network, "try"), &without)?;
    assert!(said.lines().any(|line| line.contains("vhost")), "{said:?}");
    Ok(())
}

/// The node that every Debian system has from its first moment on (kmod-static-nodes.service): the first open of it
/// loads the module.
#[test]
fn a_node_without_its_module_loads_it() -> Result<()> {
    need!(VhostNet, NetworkNamespaces, Tun, Root, Qemu);
    let _turn = take_turn();
    let (workdir, unloaded) = (Workdir::new()?, Unloaded::from(network_with_bridge()?)?);
    assert!(!Path::new("/sys/module/vhost_net").exists());
    unloaded.0.run(None, "mknod", &["/dev/vhost-net", "c", "10", "238"])?;
    runs(start(&workdir, &unloaded.0, "on"), &Held::taps(1, TAP)).map(drop)
}
