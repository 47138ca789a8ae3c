//! `/dev/vhost-net`, of which what opening takes can be seen without the module.

use broker::open::net::vhost;
use tests::{Network, ORDINARY_USER, Result, need};

use crate::{are_open_as_qemu_opens, opened, refused};

#[test]
fn what_is_missing_is_said_and_what_is_there_is_opened_once_a_queue() -> Result<()> {
    need!(Root, NetworkNamespaces);
    let network = Network::new()?;
    network.run(None, "mount", &["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/dev"])?;
    let message = network.within(None, || refused(vhost::open(1)))??;
    assert!(message.contains("modprobe vhost_net"), "{message}");
    // A device of the right name: /dev/null.
    network.run(None, "mknod", &["-m", "0660", "/dev/vhost-net", "c", "1", "3"])?;
    let message = network.within(Some(ORDINARY_USER), || refused(vhost::open(1)))??;
    assert!(message.contains("chgrp kvm /dev/vhost-net && chmod 0660 /dev/vhost-net"), "{message}");
    network.run(None, "chgrp", &["108", "/dev/vhost-net"])?;
    let message = network.within(Some(ORDINARY_USER), || refused(vhost::open(1)))??;
    assert!(message.contains("put user 12345 into group 108"), "{message}");
    let devices = network.within(None, || opened(vhost::open(3)))??;
    assert_eq!(devices.len(), 3);
    assert!(are_open_as_qemu_opens(&devices)?);
    Ok(())
}
