//! What the filter costs a system call that it allows.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result, printed};
use crate::folder::Folder;

/// Where the probe runs.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// By itself.
    Bare,
    /// In the emulator's place.
    Broker,
    /// There, and with a terminal inherited: ioctls are then looked at.
    BrokerOnATerminal,
}

/// A line that the probe prints: nanoseconds, or opens a second.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) median: f64,
    /// The other figure: 99th percentile, or lowest.
    pub(crate) high: f64,
}

/// Measures and prints.
pub(crate) fn print(broker: &Path, folder: &Folder) -> Result<()> {
    println!("\none allowed call: nanoseconds, median and 99th percentile of batches");
    let places =
        [("bare", Place::Bare), ("filtered", Place::Broker), ("filtered, on a terminal", Place::BrokerOnATerminal)];
    for (place_name, place) in places {
        for figure in probe(broker, folder, place, &[("BENCH_PROBE", "calls")])? {
            println!("  {:<8} {place_name:<24} {:8.1} {:8.1}", figure.name, figure.median, figure.high);
        }
    }
    Ok(())
}

/// Runs the probe, with `variables` in its environment.
pub(crate) fn probe(broker: &Path, folder: &Folder, place: Place, variables: &[(&str, &str)]) -> Result<Vec<Figure>> {
    let probe = folder.probe().display().to_string();
    let brokered =
        format!("{} -- {probe} -display none -nic none -drive file=image.raw,format=raw,if=none", broker.display());
    let line = match place {
        Place::Bare => probe.clone(),
        Place::Broker => brokered,
        // script(1) gives the command a terminal.
        Place::BrokerOnATerminal => format!("script --quiet --return --command '{brokered}' /dev/null"),
    };
    let mut command = folder.command("sh");
    command.args(["-c", &line]).envs(variables.iter().copied());
    figures(&line, &mut command)
}

/// Runs `command`, which runs the probe, and reads what that prints.
pub(crate) fn figures(name: &str, command: &mut Command) -> Result<Vec<Figure>> {
    let text = printed(name, command.stdin(Stdio::null()).output())?;
    let figures: Option<Vec<Figure>> = text.lines().map(|line| figure(line.trim_end())).collect();
    figures.filter(|figures| !figures.is_empty()).ok_or_else(|| Error::Figures { program: name.to_owned(), text })
}

fn figure(line: &str) -> Option<Figure> {
    let mut words = line.split_whitespace();
    let (name, median, high) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Figure { name: name.to_owned(), median, high })
}
