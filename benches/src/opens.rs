//! Latency of one open, as the emulator sees it.

use std::path::Path;

use crate::calls::{Place, probe};
use crate::error::Result;
use crate::folder::Folder;

/// A file that the sandbox's own tree answers: the agent only lets the look-up run.
const NATIVE: &str = "/usr/share/qemu/keymaps/de";

/// Measures and prints.
pub(crate) fn print(broker: &Path, folder: &Folder) -> Result<()> {
    println!("\none open: microseconds, median and 99th percentile");
    let cases = [
        ("bare, an image", "image.raw", Place::Bare),
        ("bare, a file of QEMU's", NATIVE, Place::Bare),
        ("let run by the agent", NATIVE, Place::Broker),
        ("answered by the broker", "image.raw", Place::Broker),
    ];
    for (name, file, place) in cases {
        for figure in probe(broker, folder, place, &[("BENCH_PROBE", "opens"), ("BENCH_NAME", file)])? {
            println!("  {name:<24} {:8.1} {:8.1}", figure.median / 1000.0, figure.high / 1000.0);
        }
    }
    Ok(())
}
