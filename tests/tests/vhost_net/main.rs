//! vhost-net: the kernel moves the frames, through descriptors that the emulator was given. Few kernels of build machines
//! have it; the test machines' do (see `tests/vm`).

mod absent;
mod frames;
mod handed;
mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tests::{During, Emulator, Error, Network, Process, Result, Workdir, descendants_of};

/// Guests take turns: one of them has the module unloaded, and two at once take longer than one after the other where
/// processors are emulated.
static TURN: Mutex<()> = Mutex::new(());

/// The process that all of the kernel's threads are children of (`kthreadd`).
const KERNEL_THREADS: Process = Process(2);

/// The bridge of every test, and its address.
const BRIDGE: &str = "br7";
const BRIDGE_ADDRESS: &str = "10.77.0.1";

/// The interface that the guests have, where they may choose.
const TAP: &str = "guest7";

/// Waits until no other test of this program runs a guest.
fn take_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A network with a bridge in it.
fn network_with_bridge() -> Result<Network> {
    let network = Network::new()?;
    network.bridge(BRIDGE)?;
    network.ip(&format!("address add {BRIDGE_ADDRESS}/24 dev {BRIDGE}"))?;
    Ok(network)
}

/// A script for `script=` that adds the interface to the bridge.
fn joining_script(workdir: &Workdir) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = workdir.aside().join("join");
    let text = format!("#!/bin/sh\nexec ip link set \"$1\" master {BRIDGE} up\n");
    std::fs::write(&path, text).during(format!("write {}", path.display()))?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).during(format!("chmod {}", path.display()))?;
    Ok(path)
}

/// What a process holds of networks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    /// The interfaces of its descriptors of `/dev/net/tun`, one for each.
    taps: Vec<String>,
    /// How many descriptors of macvtaps it has.
    macvtaps: usize,
    /// How many of `/dev/vhost-net`.
    vhosts: usize,
}

impl Held {
    fn by(process: Process) -> Result<Self> {
        let mut held = Self::default();
        for (number, target) in process.descriptors()? {
            let target = target.to_string_lossy();
            let macvtap = target.strip_prefix("/dev/tap").and_then(|index| index.parse::<u32>().ok());
            held.macvtaps += usize::from(macvtap.is_some());
            held.vhosts += usize::from(target == "/dev/vhost-net");
            if target == "/dev/net/tun" {
                let interface = process.descriptor_field(number, "iff");
                held.taps.push(interface.unwrap_or_else(|| "none".to_owned()));
            }
        }
        Ok(held)
    }

    fn taps(count: usize, name: &str) -> Self {
        Self { taps: vec![name.to_owned(); count], vhosts: count, ..Self::default() }
    }
}

/// The emulator holds exactly this, and no process beside it anything of the kind.
fn assert_held(emulator: &Emulator, expected: &Held) -> Result<()> {
    assert_eq!(&Held::by(emulator.process())?, expected, "of the emulator");
    for helper in emulator.helpers()? {
        assert_eq!(Held::by(helper)?, Held::default(), "of {:?}", helper.status());
    }
    Ok(())
}

/// How often each of the kernel's threads that move frames for the emulator has slept, by its number: `vhost-PID`, one
/// for each descriptor. Until Linux 6.3 they are the kernel's, since then the emulator's (`drivers/vhost/vhost.c`).
fn workers(emulator: &Emulator) -> Result<BTreeMap<u32, u64>> {
    let name = format!("vhost-{}", emulator.process().0);
    let mut threads = emulator.process().threads()?;
    threads.extend(descendants_of(KERNEL_THREADS)?.into_iter().filter_map(Process::status));
    let number = |text: &str| text.parse().map_err(|error| Error::Unexpected(format!("{text:?}: {error}")));
    let mut found = BTreeMap::new();
    for thread in threads.iter().filter(|thread| thread.field("Name") == name) {
        let id = u32::try_from(number(thread.field("Pid"))?);
        let id = id.map_err(|error| Error::Unexpected(format!("a thread's number: {error}")))?;
        found.insert(id, number(thread.field("voluntary_ctxt_switches"))?);
    }
    Ok(found)
}
