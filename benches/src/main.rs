//! What the broker costs. Every figure stands beside that of bare QEMU, or of bubblewrap with the same namespaces, from
//! the same run, taken in turns: the machine's mood cancels out of differences and ratios, not out of single times.

mod calls;
mod chains;
mod error;
mod figures;
mod folder;
mod media;
mod networks;
mod opens;
mod qmp;
mod quiet;
mod reopens;
mod requests;
mod starts;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use error::{Error, Result};
use folder::Folder;
use media::Media;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Without an argument everything is measured, with `networks` these alone.
fn run() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [word, broker, folder] = arguments.as_slice()
        && word == networks::INSIDE
    {
        return networks::measure(Path::new(broker), Path::new(folder));
    }
    let broker = build_broker()?;
    let folder = Folder::new()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average before: {}", load.trim());
    if arguments.iter().any(|word| word == "networks") {
        return networks::print(&broker, &folder);
    }
    starts::print(&broker, &folder)?;
    chains::print(&broker, &folder)?;
    opens::print(&broker, &folder)?;
    let media = Media::make(&folder)?;
    reopens::print(&broker, &folder, &media)?;
    requests::print(&broker, &folder, &media)?;
    calls::print(&broker, &folder)?;
    networks::print(&broker, &folder)
}

/// The release build of the broker, made if it is missing.
fn build_broker() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "broker", "--bins"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    error::succeeded("cargo build", built)?;
    let own = std::env::current_exe().map_err(|source| Error::Start { program: "benches".into(), source })?;
    Ok(own.with_file_name("broker"))
}
