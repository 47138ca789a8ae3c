//! How fast two guests on one bridge move data by TCP.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::STOCK_HELPER;
use super::bridge::NAME;
use super::cards::{emulator, finish};
use crate::error::{Error, Result, printed};
use crate::figures::{middle, range, sorted};

/// Rounds; each boots a pair of guests without the broker and a pair with it.
const ROUNDS: usize = 7;

/// What is moved, and the memory of each guest, which holds it, in MiB.
const DATA: u32 = 128;
const MEMORY: &str = "512";

/// What the client's last line starts with, and what in it tells the time (`tests/setup/guest-network-init`).
const PROOF: &str = "NETWORK-PROOF: ";
const SECONDS: &str = "seconds=";

/// The kernel's command line for both, see `tests/src/network_guest.rs`.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check";

/// Addresses from those that are for documentation (RFC 5737).
const SERVER: &str = "192.0.2.1";
const CLIENT: &str = "192.0.2.2";

/// Measures and prints.
pub(super) fn print(broker: &Path, folder: &Path) -> Result<()> {
    let guest = guest_folder();
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for turn in 0..rates.len() {
            let index = (turn + round) % rates.len();
            let rate = converse(broker, folder, &guest, index == 1)?;
            if let Some(rates) = rates.get_mut(index) {
                rates.push(rate);
            }
        }
    }
    let [bare, brokered] = &rates;
    let ratios = sorted(bare.iter().zip(brokered).map(|(bare, brokered)| brokered / bare));
    println!("\nTCP from guest to guest, {DATA} MiB: MiB a second, median of {ROUNDS} (lowest to highest)");
    for (name, rates) in [("bare", bare), ("broker", brokered)] {
        let rates = sorted(rates.iter().copied());
        let (low, high) = range(&rates);
        println!("  {name:<8} {:6.1} ({low:.1} to {high:.1})", middle(&rates));
    }
    let (low, high) = range(&ratios);
    println!("  ratio of a round: {:.2} ({low:.2} to {high:.2})", middle(&ratios));
    Ok(())
}

/// Where `make guest` puts the guest.
fn guest_folder() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guest");
    std::env::var_os("BROKER_TESTS_GUEST").map_or_else(|| built.into(), PathBuf::from)
}

/// Boots a pair, and returns MiB a second.
fn converse(broker: &Path, folder: &Path, guest: &Path, brokered: bool) -> Result<f64> {
    let mut server = start(broker, folder, guest, brokered, ("01", &format!("server net.address={SERVER}/24")))?;
    let role = format!("client net.address={CLIENT}/24 net.peer={SERVER}");
    let client = start(broker, folder, guest, brokered, ("02", &role))?;
    let output = match printed("qemu-system-x86_64", client.wait_with_output()) {
        Ok(output) => output,
        Err(error) => {
            // It would wait for its client for ever.
            let _ = server.kill();
            let _ = server.wait();
            return Err(error);
        }
    };
    let proof = output.lines().find_map(|line| line.split_once(PROOF)).map(|(_, proof)| proof);
    let whole = proof.filter(|proof| proof.contains("sha256=ok"));
    let seconds = whole.and_then(|proof| proof.split_once(SECONDS)?.1.trim().parse::<f64>().ok());
    if seconds.is_none() {
        // Nobody told it to end.
        let _ = server.kill();
    }
    let seconds = seconds.ok_or(Error::Figures { program: "the client".into(), text: output })?;
    finish(server)?;
    Ok(f64::from(DATA) / seconds)
}

fn start(broker: &Path, folder: &Path, guest: &Path, brokered: bool, (card, role): (&str, &str)) -> Result<Child> {
    let helper = if brokered { String::new() } else { format!(",helper={STOCK_HELPER}") };
    let mut command: Command = emulator(broker, folder, brokered);
    command
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-accel", "tcg", "-m", MEMORY, "-no-reboot"])
        .args(["-netdev", &format!("bridge,id=n,br={NAME}{helper}")])
        .args(["-device", &format!("virtio-net-pci,netdev=n,romfile=,mac=52:54:00:00:02:{card}")])
        .arg("-kernel")
        .arg(guest.join("vmlinuz"))
        .arg("-initrd")
        .arg(guest.join("network-initrd"))
        .args(["-append", &format!("{KERNEL} net.mib={DATA} net.role={role}")]);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    spawned.map_err(|source| Error::Start { program: "qemu-system-x86_64".into(), source })
}
