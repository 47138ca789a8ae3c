//! Other users and other processes at a tap, where everybody may open `/dev/net/tun`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use broker::open::net::{Interface, bridge, tap};
use broker::sys::tun;
use rustix::io::Errno;
use serde_json::Value;
use tests::{During, Error, Network, ORDINARY_USER, PATIENCE, Result, need, until};

use crate::{MULTI_QUEUE, NO_PI, ONE, TAP, TWO, VNET_HDR, link, name, only_left, opened, refused};

/// What attaches to the tap `$ARGV[0]`, made for several queues, and detaches that queue again, which can come back at any
/// time (`TUNSETIFF` with `IFF_TAP`, `IFF_NO_PI`, `IFF_VNET_HDR` and `IFF_MULTI_QUEUE`, and `TUNSETQUEUE` with
/// `IFF_DETACH_QUEUE`, of linux/if_tun.h). It says so, and keeps the queue until its standard input ends.
const DETACH: &str = r#"
open(my $tap, "+<", "/dev/net/tun") or die "open: $!";
ioctl($tap, 0x400454ca, pack("a16 S x22", $ARGV[0], 0x5102)) or die "TUNSETIFF: $!";
ioctl($tap, 0x400454d9, pack("a16 S x22", $ARGV[0], 0x0400)) or die "TUNSETQUEUE: $!";
$| = 1;
print "ready\n";
<STDIN>;
"#;

/// How the kernel answers this user, who has no capability, when it attaches to a tap made for several queues.
fn attach_as(network: &Network, user: u32, name: &str) -> Result<std::result::Result<(), Option<i32>>> {
    network.within(Some(user), || {
        let device = File::options().read(true).write(true).open("/dev/net/tun").during("open /dev/net/tun")?;
        let attached = tun::set_interface(device.as_fd(), name, TAP | NO_PI | VNET_HDR | MULTI_QUEUE);
        Ok(attached.map(|_| ()).map_err(|error| error.raw_os_error()))
    })?
}

/// Has another process hold a detached queue of a tap.
fn detached(network: &Network, name: &str) -> Result<Child> {
    let words = network.words(None);
    let (first, rest) = words.split_first().ok_or_else(|| Error::Unexpected("no words".to_owned()))?;
    let mut command = Command::new(first);
    command.args(rest).args(["perl", "-e", DETACH, name]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().during("start perl")?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).during("hear of the queue")?;
    }
    if line == "ready\n" { Ok(child) } else { Err(Error::Unexpected(format!("no queue was detached: {line:?}"))) }
}

/// The numbers of queues that are attached and detached.
fn counts(network: &Network, name: &str) -> Result<[Value; 2]> {
    let link = link(network, name)?;
    Ok(["numqueues", "numdisabled"]
        .map(|key| link.pointer(&format!("/linkinfo/info_data/{key}")).cloned().unwrap_or_default()))
}

#[test]
fn nobody_else_attaches_to_a_new_tap() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.bridge("br0")?;
    let (own, bridge) = (name("own")?, name("br0")?);
    let join = || opened(bridge::look_up(&bridge).and_then(|found| bridge::join(&found, TWO)));
    let interfaces: [Interface; 2] =
        [network.within(None, || opened(tap::open(&own, TWO)))??, network.within(None, join)??];
    for interface in &interfaces {
        let name = interface.name.as_str();
        assert_eq!(attach_as(&network, ORDINARY_USER, name)?, Err(Some(Errno::PERM.raw_os_error())), "{name}");
        assert_eq!(link(&network, name)?["linkinfo"]["info_data"]["user"], "root", "{name}");
        assert_eq!(counts(&network, name)?[0], 2, "{name}");
    }
    // One without an owner is everybody's.
    network.ip("tuntap add dev open mode tap multi_queue")?;
    assert_eq!(attach_as(&network, ORDINARY_USER, "open")?, Ok(()));
    drop(interfaces);
    only_left(&network, &["br0", "open"])
}

#[test]
fn a_tap_with_a_detached_queue_is_in_use() -> Result<()> {
    need!(Root, NetworkNamespaces, Tun);
    let network = Network::new()?;
    network.ip("tuntap add dev keep mode tap multi_queue")?;
    let keep = name("keep")?;
    let mut holder = detached(&network, "keep")?;
    assert_eq!(counts(&network, "keep")?, [Value::from(0), Value::from(1)]);
    for wanted in [ONE, TWO] {
        let message = network.within(None, || refused(tap::open(&keep, wanted)))??;
        assert!(message.contains("keep is in use by another process"), "{message}");
    }
    drop(holder.stdin.take());
    holder.wait().during("wait for perl")?;
    let free = || network.within(None, || tap::open(&keep, TWO).ok());
    assert_eq!(until(PATIENCE, "the tap to be free", free)?.queues.len(), 2);
    Ok(())
}
