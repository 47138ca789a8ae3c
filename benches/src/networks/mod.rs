//! What a guest's network costs, in a network namespace of the benchmark's own.

mod bridge;
mod cards;
mod traffic;

use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result, succeeded};
use crate::folder::Folder;

/// The benchmark's argument by which it measures in the namespaces that it has been put into.
pub(crate) const INSIDE: &str = "networks-inside";

/// The stock helper, as Debian installs it.
const STOCK_HELPER: &str = "/usr/lib/qemu/qemu-bridge-helper";

/// Starts this program again in a network and a mount namespace of its own; as an ordinary user says only that it takes
/// root to make them.
pub(crate) fn print(broker: &Path, folder: &Folder) -> Result<()> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--"]);
        command
    };
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        println!("\nnetworks: not measured; run as root");
        return Ok(());
    }
    let own = std::env::current_exe().map_err(|source| Error::Start { program: "benches".into(), source })?;
    // Mounted over inside, and nothing lies in it outside unless there was something before.
    let made = std::fs::create_dir(bridge::STOCK_FOLDER).is_ok();
    let status = unshare().arg(own).arg(INSIDE).arg(broker).arg(folder.path()).status();
    if made {
        // Whoever put something there meanwhile keeps it.
        let _ = std::fs::remove_dir(bridge::STOCK_FOLDER);
    }
    succeeded("benches", status)
}

/// Measures in the namespaces that this process is in.
pub(crate) fn measure(broker: &Path, folder: &Path) -> Result<()> {
    let bridge = bridge::Bridge::make(folder)?;
    cards::print(broker, folder, &bridge)?;
    traffic::print(broker, folder)
}
