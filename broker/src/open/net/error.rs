//! Why an interface cannot be used, and what to do.

use std::io;

use super::link::Owner;
use super::name::InterfaceName;

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or none that makes sense.
    #[error("cannot ask the kernel about the interface {name}: {source}; is NETLINK_ROUTE allowed here?")]
    Ask {
        /// The interface.
        name: InterfaceName,
        /// What the kernel said.
        source: io::Error,
    },
    /// No such bridge.
    #[error("there is no bridge {name}; make it: ip link add {name} type bridge && ip link set {name} up")]
    NoBridge {
        /// The name.
        name: InterfaceName,
    },
    /// An interface of another kind.
    #[error("{name} is {found} and no bridge; name a bridge with br= (`ip link show type bridge` lists them)")]
    NotABridge {
        /// The name.
        name: InterfaceName,
        /// What it is.
        found: String,
    },
    /// An interface of another kind.
    #[error("{name} is {found}, and only a tap or a macvtap can be a guest's interface; name another one with ifname=")]
    NotATap {
        /// The name.
        name: InterfaceName,
        /// What it is.
        found: String,
    },
    /// No descriptor is left.
    #[error("cannot open {device}: {source}; raise the limit on open files (ulimit -n), or ask for fewer queues")]
    Descriptors {
        /// What was to be opened.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// `/dev/net/tun` is missing.
    #[error("cannot open /dev/net/tun: {source}; load the module: modprobe tun")]
    NoDevice {
        /// What the kernel said.
        source: io::Error,
    },
    /// `/dev/net/tun` may not be opened, or the system will not have it open.
    #[error(
        "cannot open /dev/net/tun: {source}; whoever starts broker needs to read and write it (chmod 0666 is usual)"
    )]
    Device {
        /// What the kernel said.
        source: io::Error,
    },
    /// `vnet_hdr=on`, which this kernel lacks.
    #[error("the kernel has no IFF_VNET_HDR for {name}; leave vnet_hdr= out")]
    NoVnetHeader {
        /// The interface.
        name: InterfaceName,
    },
    /// A new interface takes a capability.
    #[error(
        "making the tap {name} takes CAP_NET_ADMIN; as root: ip tuntap add dev {} mode tap user {} {}&& ip link set {0} up, \
         and name it with ifname=",
        concrete(name), rustix::process::geteuid().as_raw(), if *multi_queue { "multi_queue " } else { "" }
    )]
    MayNotMake {
        /// The name wanted.
        name: InterfaceName,
        /// Whether it needs several queues.
        multi_queue: bool,
    },
    /// Another user's tap.
    #[error(
        "the tap {name} belongs to {owner}, not to user {}; start broker as that user, or make the tap anew with user {0}",
        rustix::process::geteuid().as_raw()
    )]
    Owner {
        /// The tap.
        name: InterfaceName,
        /// Whose it is.
        owner: Owner,
    },
    /// A tap in use.
    #[error(
        "the interface {name} is in use by another process, perhaps another guest's; end that, or name another one"
    )]
    Busy {
        /// The tap.
        name: InterfaceName,
    },
    /// A stranger's queue on a new tap.
    #[error(
        "another process attached to the new tap {name} while it was being made, and it was given up; look who may open \
         /dev/net/tun, and start again"
    )]
    Intruder {
        /// The tap.
        name: InterfaceName,
    },
    /// Several queues on a tap that has one.
    #[error(
        "the tap {name} has one queue and queues={queues} is wanted; make it anew: ip tuntap del dev {name} mode tap && \
         ip tuntap add dev {name} mode tap multi_queue user USER"
    )]
    SingleQueue {
        /// The tap.
        name: InterfaceName,
        /// Queues wanted.
        queues: u16,
    },
    /// More queues than a tap can have.
    #[error(
        "cannot attach queue {number} to {name}: {source}; queues= takes at most 256, or what the interface was made with"
    )]
    Queue {
        /// The interface.
        name: InterfaceName,
        /// The queue, from 1.
        number: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The name was given to something else in the meantime.
    #[error("{name} was replaced or renamed while it was being opened ({found} has its place); start again")]
    Replaced {
        /// The name.
        name: InterfaceName,
        /// What was found.
        found: String,
    },
    /// The kernel would not.
    #[error("cannot open the tap {name}: {source}; look at: ip -details link show {name}")]
    Attach {
        /// The name wanted.
        name: InterfaceName,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step of joining a bridge failed.
    #[error(
        "cannot {step} the new tap {tap} for the bridge {bridge}: {source}; look at: ip -details link show {bridge}"
    )]
    Join {
        /// The step.
        step: &'static str,
        /// The tap.
        tap: InterfaceName,
        /// The bridge.
        bridge: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The bridge did not keep the tap.
    #[error(
        "the new tap {tap} is no port of the bridge {bridge}; does the helper join another one, or does something on this \
         host take new taps off bridges?"
    )]
    NoPort {
        /// The tap.
        tap: InterfaceName,
        /// The bridge.
        bridge: String,
    },
    /// The device number of a macvtap could not be found out.
    #[error(
        "cannot find the device of {name} in /sys: {source}; /sys has to show this network namespace: mount -t sysfs sysfs /sys"
    )]
    Unshown {
        /// The macvtap.
        name: InterfaceName,
        /// What the kernel said, or what /sys shows instead.
        source: io::Error,
    },
    /// A macvtap's node is not there, or another's.
    #[error(
        "cannot use {node} for {name}, which is device {major}:{minor}: {source}; as root: rm -f {node} && \
         mknod {node} c {major} {minor} && chown {} {node}",
        rustix::process::geteuid().as_raw()
    )]
    NoNode {
        /// The macvtap.
        name: InterfaceName,
        /// Where the node must be.
        node: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A macvtap's node may not be opened.
    #[error(
        "cannot open {node} of {name}: {source}; whoever starts broker needs to read and write it: chown {} {node}",
        rustix::process::geteuid().as_raw()
    )]
    Node {
        /// The macvtap.
        name: InterfaceName,
        /// Where the node is.
        node: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A macvtap's flags could not be set.
    #[error("cannot set up the macvtap {name}: {source}; look at: ip -details link show {name}")]
    Macvtap {
        /// The macvtap.
        name: InterfaceName,
        /// What the kernel said.
        source: io::Error,
    },
    /// No vhost-net.
    #[error("cannot open /dev/vhost-net: {source}; load the module: modprobe vhost_net, or do without vhost-net")]
    NoVhost {
        /// What the kernel said.
        source: io::Error,
    },
    /// vhost-net may not be opened.
    #[error("cannot open /dev/vhost-net: {source}; {remedy}, or do without vhost-net")]
    Vhost {
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: String,
    },
}

/// A name that can be typed, of a pattern one to be chosen.
fn concrete(name: &InterfaceName) -> &str {
    if name.as_str().contains('%') { "NAME" } else { name.as_str() }
}
