//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::error::{During, Error, Result};
use crate::images::run_tool;
use crate::workdir::Workdir;

/// The `broker` binary of the same build as this test: `BROKER_TESTS_BINARY` when set, else built once by
/// cargo in this test's own target folder and profile (cargo tells only a package's own tests where its
/// binaries are).
///
/// # Errors
/// When cargo fails, with cargo's message.
pub fn broker_binary() -> Result<&'static Path> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(|| find_or_build().map_err(|error| error.to_string())) {
        Ok(path) => Ok(path),
        Err(message) => Err(Error::Unexpected(message.clone())),
    }
}

/// The bridge helper, which is built beside the `broker` binary.
///
/// # Errors
/// As [`broker_binary`].
pub fn helper_binary() -> Result<PathBuf> {
    Ok(broker_binary()?.with_file_name("broker-bridge-helper"))
}

/// A copy of the bridge helper of the same build that is root's and setuid, in the folder where an ordinary user's start of
/// the broker is too.
///
/// # Errors
/// As [`broker_binary`], and when this process may not make such a file.
pub fn setuid_bridge_helper(workdir: &Workdir) -> Result<PathBuf> {
    let built = helper_binary()?;
    let copy = workdir.aside().join("broker-bridge-helper");
    let (from, to) = (built.to_string_lossy(), copy.to_string_lossy());
    run_tool(&workdir.aside(), "install", &["-m", "4755", "-o", "0", "-g", "0", &from, &to])?;
    Ok(copy)
}

/// The work of [`broker_binary`], done once.
fn find_or_build() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BROKER_TESTS_BINARY") {
        return Ok(path.into());
    }
    let test = std::env::current_exe().during("find this test's own path")?;
    // TARGET/PROFILE/deps/TEST-HASH
    let (Some(profile), Some(target)) = (test.ancestors().nth(2), test.ancestors().nth(3)) else {
        return Err(Error::Unexpected(format!("{} is not in cargo's target folder", test.display())));
    };
    build(target, profile)?;
    Ok(profile.join("broker"))
}

/// Lets cargo bring the programs of the package `broker` up to date; nothing is done when they are.
fn build(target: &Path, profile: &Path) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", "broker", "--bins"])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().during("start cargo to build the broker")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Tool {
        program: "cargo build --package broker --bins".to_owned(),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
