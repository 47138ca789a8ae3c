//! Disk images, made by `qemu-img`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::boot_sector::boot_disk;
use crate::error::{During, Error, Result};
use crate::workdir::Workdir;

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// Runs a program that prepares a test, in `folder`.
///
/// # Errors
/// When it cannot be started or fails; its own message is in the error.
pub fn run_tool(folder: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).current_dir(folder).output().during(format!("start {program}"))?;
    if !output.status.success() {
        return Err(Error::Tool {
            program: format!("{program} {}", arguments.join(" ")),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A raw disk that boots the guest of [`boot_disk`].
///
/// # Errors
/// When it cannot be written.
pub fn raw_boot_disk(workdir: &Workdir, name: &str) -> Result<PathBuf> {
    workdir.write(name, &boot_disk())
}

/// A qcow2 image whose header names `backing` (as given: a relative name stays relative) of format `format`.
///
/// # Errors
/// When `qemu-img` fails.
pub fn qcow2_over(workdir: &Workdir, name: &str, backing: &str, format: &str) -> Result<PathBuf> {
    run_tool(&workdir.files(), "qemu-img", &["create", "-q", "-f", "qcow2", "-F", format, "-b", backing, name])?;
    Ok(workdir.path(name))
}

/// `top.qcow2` over `mid.qcow2` over `base.raw`, with relative backing names; the base boots the boot
/// sector. The path returned is the top's.
///
/// # Errors
/// When an image cannot be made.
pub fn two_level_chain(workdir: &Workdir) -> Result<PathBuf> {
    raw_boot_disk(workdir, "base.raw")?;
    qcow2_over(workdir, "mid.qcow2", "base.raw", "raw")?;
    qcow2_over(workdir, "top.qcow2", "mid.qcow2", "qcow2")
}

/// The backing file that an image's header names, as it stands there.
///
/// # Errors
/// When `qemu-img` cannot read the image, or it has none.
pub fn backing_file(workdir: &Workdir, name: &str) -> Result<String> {
    let text = run_tool(&workdir.files(), "qemu-img", &["info", "-U", "--output=json", name])?;
    let info: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::Unexpected(format!("qemu-img info: {error}")))?;
    match info.get("backing-filename").and_then(|name| name.as_str()) {
        Some(backing) => Ok(backing.to_owned()),
        None => Err(Error::Unexpected(format!("{name} has no backing file"))),
    }
}

/// How many writes the boot sector has left on the disk that an image stands for: the number in its second
/// sector, found by way of the whole chain.
///
/// # Errors
/// When `qemu-img` cannot read the image.
pub fn writes_in(workdir: &Workdir, name: &str, format: &str) -> Result<u16> {
    let copy = workdir.aside().join("disk.raw");
    let copy_name = copy.to_string_lossy();
    run_tool(&workdir.files(), "qemu-img", &["convert", "-U", "-f", format, "-O", "raw", name, &copy_name])?;
    let file = File::open(&copy).during(format!("open {copy_name}"))?;
    let mut number = [0; 2];
    file.read_exact_at(&mut number, SECTOR).during(format!("read {copy_name}"))?;
    Ok(u16::from_le_bytes(number))
}
