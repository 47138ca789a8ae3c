//! Build script: reads the profile files, checks them, and writes them down as Rust constants.

mod calls;
mod check;
mod check_mounts;
mod emit;
mod shadow;
mod source;
mod source_mounts;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

/// The profiles: name of the file, name of the constant.
const PROFILES: [(&str, &str); 7] = [
    ("qemu-system.toml", "QEMU_SYSTEM"),
    ("qemu-img.toml", "QEMU_IMG"),
    ("qemu-storage.toml", "QEMU_STORAGE"),
    ("agent.toml", "AGENT"),
    ("broker.toml", "BROKER"),
    ("prober.toml", "PROBER"),
    ("relay.toml", "RELAY"),
];

fn main() -> ExitCode {
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes `$OUT_DIR/profiles.rs`.
///
/// # Errors
/// A file that cannot be read, or the first thing in it that is wrong, with the file's name.
fn generate() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("profiles");
    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    let calls = calls::numbers(&architecture)?;
    let mut text = emit::calls(&calls);
    for (file, constant) in PROFILES {
        let profile = source::profile(&read(&folder, file)?).map_err(|error| format!("profiles/{file}: {error}"))?;
        let checked =
            check::profile(&profile, &architecture, &calls).map_err(|error| format!("profiles/{file}: {error}"))?;
        text.push_str(&emit::profile(constant, &checked));
    }
    let file = "qemu-system.mounts.toml";
    let mounts = source_mounts::mounts(&read(&folder, file)?)
        .and_then(|mounts| check_mounts::mounts(mounts, &architecture))
        .map_err(|error| format!("profiles/{file}: {error}"))?;
    text.push_str(&emit::mounts(&mounts));
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=profiles");
    Ok(fs::write(Path::new(&env::var("OUT_DIR")?).join("profiles.rs"), text)?)
}

fn read(folder: &Path, file: &str) -> Result<String, String> {
    fs::read_to_string(folder.join(file)).map_err(|error| format!("profiles/{file}: {error}"))
}
