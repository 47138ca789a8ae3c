//! How many opens a second one broker serves, to a program in the emulator's place that does nothing else: each open is
//! of the next granted file.

use std::path::Path;
use std::process::Command;

use crate::calls::{Figure, figures};
use crate::error::Result;
use crate::folder::Folder;
use crate::media::Media;
use crate::quiet;

/// Threads that open at the same time.
const THREADS: [usize; 2] = [1, 8];

/// Measures and prints.
pub(crate) fn print(broker: &Path, folder: &Folder, media: &Media) -> Result<()> {
    println!("\nopens a second: median and lowest of ten tenths of a second");
    for threads in THREADS {
        for count in media.counts() {
            let brokered = Media::broker(folder, broker, count);
            let places = [("bare", folder.command(folder.probe())), ("broker", with_probe(folder, brokered))];
            for (place, mut command) in places {
                for figure in rates(&mut command, threads, count)? {
                    let (median, lowest) = (figure.median, figure.high);
                    println!("  {threads} threads, {count:>5} grants  {place:<8} {median:9.0} {lowest:9.0}");
                }
            }
        }
    }
    Ok(())
}

fn with_probe(folder: &Folder, mut broker: Command) -> Command {
    broker.arg(folder.probe()).args(["-display", "none", "-nic", "none"]);
    broker
}

fn rates(command: &mut Command, threads: usize, count: usize) -> Result<Vec<Figure>> {
    command.envs([
        ("BENCH_PROBE", "rate".to_owned()),
        ("BENCH_THREADS", threads.to_string()),
        ("BENCH_FILES", count.to_string()),
    ]);
    quiet::wait();
    figures("rate", command)
}
