//! Wall time from exec until the guest has a network card, and the bridge a port with a carrier for it.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::STOCK_HELPER;
use super::bridge::{Bridge, NAME, TAP, access_list};
use crate::error::{Result, succeeded};
use crate::figures::{middle, sorted};
use crate::qmp::Emulator;
use crate::quiet;

/// Rounds; each starts every variant once, in turn.
const ROUNDS: usize = 40;

/// How a card is come by.
struct Variant {
    name: &'static str,
    brokered: bool,
    backend: String,
}

/// The first is what the others are compared with.
fn variants(broker: &Path) -> Vec<Variant> {
    let there = format!("tap,id=n,ifname={TAP},script=no,downscript=no");
    let bridge = format!("bridge,id=n,br={NAME}");
    let ours = broker.with_file_name("broker-bridge-helper");
    let variant = |name, brokered, backend: String| Variant { name, brokered, backend };
    vec![
        variant("bare, a tap that is there", false, there.clone()),
        variant("bare, qemu-bridge-helper", false, format!("{bridge},helper={STOCK_HELPER}")),
        variant("bare, broker-bridge-helper", false, format!("{bridge},helper={}", ours.display())),
        variant("broker, a tap that is there", true, there),
        variant("broker, a new tap on a bridge", true, bridge),
    ]
}

/// Measures and prints.
pub(super) fn print(broker: &Path, folder: &Path, bridge: &Bridge) -> Result<()> {
    let variants = variants(broker);
    let mut rounds: Vec<Vec<f64>> = Vec::with_capacity(ROUNDS);
    for round in 0..=ROUNDS {
        let mut times = vec![f64::NAN; variants.len()];
        for turn in 0..variants.len() {
            // Another one is first in each round, so that none always follows the same.
            let index = (turn + round) % variants.len();
            let (Some(variant), Some(time)) = (variants.get(index), times.get_mut(index)) else { continue };
            *time = start(variant, broker, folder, bridge)?;
        }
        // The first round warms the page cache.
        if round > 0 {
            rounds.push(times);
        }
    }
    println!(
        "\na network card with a carrier: milliseconds from exec, median of {ROUNDS} (quickest), and median of the \
         differences from the first in the same round"
    );
    for (index, variant) in variants.iter().enumerate() {
        let own = sorted(rounds.iter().filter_map(|times| times.get(index).copied()));
        let pairs = rounds.iter().filter_map(|times| Some(times.get(index)? - times.first()?));
        let (median, quickest) = (middle(&own), own.first().copied().unwrap_or(f64::NAN));
        println!("  {:<30} {median:6.1} ({quickest:5.1}) {:+5.1}", variant.name, middle(&sorted(pairs)));
    }
    Ok(())
}

/// One start, in milliseconds: the machine is complete when the monitor takes commands.
fn start(variant: &Variant, broker: &Path, folder: &Path, bridge: &Bridge) -> Result<f64> {
    bridge.wait(false)?;
    let mut command = emulator(broker, folder, variant.brokered);
    command.args(["-machine", "q35", "-nodefaults", "-display", "none", "-qmp", "stdio"]);
    command.args(["-netdev", &variant.backend, "-device", "virtio-net-pci,netdev=n"]);
    quiet::wait();
    let started = Instant::now();
    let emulator = Emulator::start(command)?;
    bridge.wait(true)?;
    let time = started.elapsed();
    emulator.quit()?;
    Ok(time.as_secs_f64() * 1000.0)
}

/// An emulator's command, up to its own arguments.
pub(super) fn emulator(broker: &Path, folder: &Path, brokered: bool) -> Command {
    let mut command;
    if brokered {
        command = Command::new(broker);
        command.arg("--bridge-acl").arg(access_list(folder)).args(["--", "qemu-system-x86_64"]);
    } else {
        command = Command::new("qemu-system-x86_64");
    }
    command.current_dir(folder);
    command
}

/// Ends well only if a program does.
pub(super) fn finish(mut child: std::process::Child) -> Result<()> {
    succeeded("qemu-system-x86_64", child.wait())
}
