//! What it takes to read the headers of a backing chain, for each image of it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Result, succeeded};
use crate::figures::{middle, range, sorted};
use crate::folder::Folder;

/// Rounds; each runs every program once on the chain and once on a raw image.
const ROUNDS: usize = 30;
/// Images of a chain.
const DEPTHS: [usize; 3] = [1, 16, 128];
/// What is compared.
const PROGRAMS: [&str; 2] = ["broker plan", "qemu-img info"];

/// Measures and prints.
pub(crate) fn print(broker: &Path, folder: &Folder) -> Result<()> {
    println!(
        "\nmilliseconds for each image of a chain: median (lowest to highest) of {ROUNDS} runs on the chain less one on \
         a raw image in the same round; `broker plan` starts the prober, reads, finds, and pins what is named",
    );
    for depth in DEPTHS {
        let top = folder.make_chain("chains", depth)?;
        let mut differences = PROGRAMS.map(|_| Vec::with_capacity(ROUNDS));
        // The first round warms the page cache.
        for round in 0..=ROUNDS {
            for (program, differences) in PROGRAMS.iter().zip(&mut differences) {
                let raw = time(&mut command(program, broker, folder, "image.raw", "raw"))?;
                let chain = time(&mut command(program, broker, folder, &top, "qcow2"))?;
                if round > 0 {
                    differences.push(milliseconds(chain) - milliseconds(raw));
                }
            }
        }
        for (program, differences) in PROGRAMS.iter().zip(differences) {
            let images = u32::try_from(depth).map_or(f64::NAN, f64::from);
            let each = sorted(differences.into_iter().map(|difference| difference / images));
            let (lowest, highest) = range(&each);
            println!("  chain of {depth:<4} {program:<14} {:6.3} ({lowest:.3} to {highest:.3})", middle(&each));
        }
    }
    Ok(())
}

fn command(program: &str, broker: &Path, folder: &Folder, image: &str, format: &str) -> Command {
    if program == "broker plan" {
        let mut command = folder.command(broker);
        command.args(["plan", "--", "qemu-system-x86_64", "-drive"]);
        command.arg(format!("file={image},if=none,format={format}"));
        return command;
    }
    let mut command = folder.command("qemu-img");
    command.args(["info", "--backing-chain", "-f", format, image]);
    command
}

fn time(command: &mut Command) -> Result<Duration> {
    let program = command.get_program().to_string_lossy().into_owned();
    let begun = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let taken = begun.elapsed();
    succeeded(&program, status)?;
    Ok(taken)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
