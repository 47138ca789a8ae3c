//! `broker ctl NAME tap`: a network interface for a guest that runs. It is opened here, with the rights and in the network
//! namespace of whoever runs this, and handed to the emulator on a monitor that the operator names, where `netdev_add` then
//! finds it. The guest's broker only writes it down.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use protocol::Name;
use serde_json::{Value, json};

use super::message::Handed;
use super::qmp::{self, Monitor};
use crate::emulator::Vhost;
use crate::open::net::address::MacAddress;
use crate::open::net::tap::{self, Found};
use crate::open::net::way::{self, Way};
use crate::open::net::{self, Interface, Wanted, vhost};

/// What the operator wants.
#[derive(Debug)]
pub struct Wish {
    /// The monitor's socket.
    pub monitor: PathBuf,
    /// A tap or macvtap that is there, or the name of a new tap.
    pub interface: Option<String>,
    /// The bridge that a new tap joins; not with an interface.
    pub bridge: Option<String>,
    /// The access list for it, if not the host's.
    pub bridge_acl: Option<PathBuf>,
    /// Queues, from 1 to 256.
    pub queues: u16,
    /// Whether vhost-net goes with it.
    pub vhost: Vhost,
    /// The network's name in QEMU; else that of the interface.
    pub id: Option<String>,
    /// Whether `netdev_add` is done as well.
    pub add: bool,
}

/// Opens an interface and hands it over; then prints what is left to be said on the monitor. `tell` tells the guest's broker.
///
/// # Errors
/// [`Error`]; then what had been handed over was taken back, and a new interface is gone, unless a line says that the
/// emulator has kept it.
pub fn hand_over<E>(wish: &Wish, tell: impl FnOnce(Handed) -> Result<(), E>) -> Result<(), Failure<E>> {
    // Before anything is made.
    let way = find(wish).map_err(Failure::Own)?;
    let mut monitor = Monitor::connect(&wish.monitor).map_err(|error| Failure::Own(error.into()))?;
    let network = Network::open(wish, &way).map_err(Failure::Own)?;
    // Before the emulator can have anything: what it says afterwards need not be true.
    tell(network.handed().map_err(Failure::Own)?).map_err(Failure::Told)?;
    if let Err(error) = network.carry_out(&mut monitor, wish.add) {
        drop(monitor);
        network.give_up(&way);
        return Err(Failure::Own(error));
    }
    network.explain(&way, wish.add).map_err(|error| Failure::Own(Error::Output(error)))
}

/// How the interface will be opened.
fn find(wish: &Wish) -> Result<Way, Error> {
    if let Some(id) = wish.id.as_deref().filter(|id| !is_id(id)) {
        return Err(Error::Id(id.to_owned()));
    }
    Ok(match &wish.bridge {
        Some(bridge) => {
            let list = wish.bridge_acl.as_deref().map(absolute).transpose()?;
            Way::to_bridge(bridge, None, list.as_deref())?
        }
        None => Way::to_tap(wish.interface.as_deref(), wish.queues)?,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::WorkingDirectory)
}

/// Whether QEMU takes it for an id (`id_wellformed` in its `util/id.c`).
fn is_id(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.chars().all(plain)
}

/// What is handed over.
struct Network {
    id: String,
    interface: Interface,
    vhosts: Vec<OwnedFd>,
    /// The address that the guest's card must have, where the interface passes frames for its own only.
    address: Option<MacAddress>,
}

impl Network {
    fn open(wish: &Wish, way: &Way) -> Result<Self, Error> {
        let vhosts = match wish.vhost {
            Vhost::Off => Vec::new(),
            Vhost::On => vhost::open(wish.queues)?,
            Vhost::Try => vhost::open(wish.queues).unwrap_or_else(|error| {
                eprintln!("broker: vhost-net is not used: {error}");
                Vec::new()
            }),
        };
        let interface = way.open(Wanted { queues: wish.queues, vnet_hdr: None })?;
        let id = wish.id.clone().unwrap_or_else(|| interface.name.as_str().to_owned());
        if !is_id(&id) {
            return Err(Error::Id(id));
        }
        let address = match way {
            Way::Macvtap { address, .. } => Some(MacAddress(*address)),
            _ => None,
        };
        Ok(Self { id, interface, vhosts, address })
    }

    /// Hands everything over, and does `netdev_add` if that is wanted; what fails is taken back.
    fn carry_out(&self, monitor: &mut Monitor, add: bool) -> Result<(), Error> {
        let mut names = Vec::new();
        let mut done = self.give(monitor, &mut names);
        if add && done.is_ok() {
            done = monitor.execute("netdev_add", &self.arguments(), None).map_err(Error::from);
        }
        if done.is_err() {
            take_back(monitor, &names);
        }
        done
    }

    /// Lets go of everything, and looks whether the emulator does: what it was sent is its own, whatever it says.
    fn give_up(self, way: &Way) {
        let Interface { name, queues } = self.interface;
        drop((queues, self.vhosts));
        match way {
            Way::Tap(_) | Way::Macvtap { .. } => eprintln!("broker: the emulator may have kept a queue of {name}"),
            Way::Make(_) | Way::Join { .. } | Way::Help { .. } => {
                if matches!(tap::look_up(&name), Ok(Found::Tap { .. })) {
                    eprintln!("broker: the emulator has kept {name}; as root: ip link delete {name}, or end the guest");
                }
            }
        }
    }

    /// Hands each descriptor over; `names` are those that QEMU has, or may have.
    fn give(&self, monitor: &mut Monitor, names: &mut Vec<String>) -> Result<(), Error> {
        for (descriptors, kind) in [(&self.interface.queues, "fd"), (&self.vhosts, "vhost")] {
            for (descriptor, name) in descriptors.iter().zip(self.names(descriptors.len(), kind)) {
                names.push(name.clone());
                let given = monitor.execute("getfd", &json!({ "fdname": name }), Some(descriptor.as_fd()));
                if let Err(qmp::Error::Refused { .. }) = given {
                    names.pop();
                }
                given?;
            }
        }
        Ok(())
    }

    /// The names that descriptors of a kind have in QEMU.
    fn names(&self, count: usize, kind: &str) -> Vec<String> {
        (0..count).map(|number| format!("{}-{kind}{number}", self.id)).collect()
    }

    /// Those of `netdev_add`.
    fn arguments(&self) -> Value {
        let mut arguments = json!({ "type": "tap", "id": self.id });
        if let Value::Object(map) = &mut arguments {
            let mut list = |key: &str, count, kind| {
                let key = if count == 1 { key.to_owned() } else { format!("{key}s") };
                map.insert(key, self.names(count, kind).join(":").into());
            };
            list("fd", self.interface.queues.len(), "fd");
            if !self.vhosts.is_empty() {
                list("vhostfd", self.vhosts.len(), "vhost");
                map.insert("vhost".to_owned(), true.into());
            }
        }
        arguments
    }

    /// Those of a `device_add` that fits.
    fn card(&self) -> Value {
        let mut arguments = json!({ "driver": "virtio-net-pci", "netdev": self.id, "id": format!("{}-card", self.id) });
        if let Value::Object(map) = &mut arguments {
            let queues = self.interface.queues.len();
            if queues > 1 {
                // Two a queue, one for the control queue and one for changes of its configuration.
                map.extend([("mq".to_owned(), true.into()), ("vectors".to_owned(), (2 * queues + 2).into())]);
            }
            if let Some(address) = self.address {
                map.insert("mac".to_owned(), address.to_string().into());
            }
        }
        arguments
    }

    fn handed(&self) -> Result<Handed, Error> {
        let name = |text: &str| Name::new(text.as_bytes()).map_err(|_| Error::Id(text.to_owned()));
        let queues = u16::try_from(self.interface.queues.len()).unwrap_or(u16::MAX);
        let interface = name(self.interface.name.as_str())?;
        Ok(Handed { interface, id: name(&self.id)?, queues, vhost: !self.vhosts.is_empty() })
    }

    /// Says what was done and what is to be said now, on the same monitor: names of descriptors are each monitor's own.
    fn explain(&self, way: &Way, added: bool) -> io::Result<()> {
        let name = &self.interface.name;
        eprintln!("broker: interface {name} is handed over");
        if matches!(way, Way::Make(_)) {
            eprintln!("broker: it is down and on no bridge: ip link set {name} up master BRIDGE");
        }
        let mut out = io::stdout().lock();
        if !added {
            writeln!(out, "{}", json!({ "execute": "netdev_add", "arguments": self.arguments() }))?;
        }
        writeln!(out, "{}", json!({ "execute": "device_add", "arguments": self.card() }))
    }
}

/// Takes back what was handed over. A refusal means that QEMU has it no longer; after any other error nothing more can be
/// said to this monitor.
fn take_back(monitor: &mut Monitor, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        match monitor.execute("closefd", &json!({ "fdname": name }), None) {
            Ok(()) | Err(qmp::Error::Refused { .. }) => {}
            Err(_) => {
                let left = names.get(index..).unwrap_or_default().join(", ");
                eprintln!("broker: the emulator may still have {left}; say closefd on that monitor, or end the guest");
                return;
            }
        }
    }
}

/// Why nothing was handed over: by a step of this module, or because the broker could not be told.
#[derive(Debug)]
pub enum Failure<E> {
    /// See there.
    Own(Error),
    /// What `tell` said.
    Told(E),
}

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No id.
    #[error("{0:?} is no id of QEMU's: letters, digits, -, . and _, a letter first; give one with --id")]
    Id(String),
    /// The current folder is gone.
    #[error("cannot find the current folder: {0}; change to one that exists")]
    WorkingDirectory(io::Error),
    /// The interface, or the bridge.
    #[error(transparent)]
    Way(#[from] way::Error),
    /// vhost-net.
    #[error(transparent)]
    Vhost(#[from] net::Error),
    /// The monitor.
    #[error(transparent)]
    Monitor(#[from] qmp::Error),
    /// Standard output is closed.
    #[error("the interface is handed over, but what to say now cannot be written to standard output: {0}")]
    Output(io::Error),
}
