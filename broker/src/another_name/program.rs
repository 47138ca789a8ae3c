//! The real program behind a name that `broker` has taken.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// Where it is looked for behind `PATH`: where distributions put programs, and what they move out of the way.
pub const FOLDERS: [&str; 3] = ["/usr/bin", "/usr/libexec", "/usr/libexec/broker"];

/// This program, as the kernel has it open.
const OWN: &str = "/proc/self/exe";

/// The first program called `name`, in `path` and in [`FOLDERS`], that is not `broker`. `kvm` and `qemu-kvm` are names that
/// distributions give to the emulator of the host's own machine, which is looked for behind them.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Own`].
pub fn find(name: &str, path: Option<OsString>) -> Result<PathBuf, Error> {
    let path = path.unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from)).collect();
    let of_the_host = format!("qemu-system-{}", std::env::consts::ARCH);
    let stands_in = matches!(name, "kvm" | "qemu-kvm").then_some(of_the_host.as_str());
    for name in std::iter::once(name).chain(stands_in) {
        // A part of PATH that is empty means the current folder, which no manager of guests means.
        for candidate in folders.iter().filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)) {
            if is_program(&candidate) && !is_broker(&candidate)? {
                return Ok(candidate);
            }
        }
    }
    Err(Error::NotFound { name: name.to_owned() })
}

/// Whether it may be executed, and is no script: one around an emulator would start another one.
fn is_program(path: &Path) -> bool {
    let executable = path.metadata().is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0);
    let mut magic = [0; 4];
    let read = executable.then(|| File::open(path).and_then(|mut file| file.read_exact(&mut magic)));
    matches!(read, Some(Ok(()))) && magic == elf::abi::ELFMAGIC
}

/// Whether the program at `path` is this one: the same file, or a copy of it.
///
/// # Errors
/// [`Error::Own`]; a program that cannot be read is another one.
pub fn is_broker(path: &Path) -> Result<bool, Error> {
    let own = File::open(OWN).map_err(Error::Own)?;
    let own_status = own.metadata().map_err(Error::Own)?;
    let Ok(other) = File::open(path) else { return Ok(false) };
    let Ok(status) = other.metadata() else { return Ok(false) };
    Ok(same_file(&own_status, &status) || (own_status.len() == status.len() && same_bytes(own, other).unwrap_or(false)))
}

fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn same_bytes(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    one.read_to_end(&mut first)?;
    other.read_to_end(&mut second)?;
    Ok(first == second)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_to_and_copies_of_this_program_are_passed_over() {
        let top = std::env::temp_dir().join(format!("another-name-test-{}", std::process::id()));
        let folders = ["link", "copy", "script", "real"].map(|name| top.join(name));
        folders.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
        let [link, copy, script, real] = folders.each_ref().map(|folder| folder.join("qemu-system-unheard-of"));
        symlink(std::env::current_exe().unwrap(), &link).unwrap();
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy("/bin/true", &real).unwrap();
        let path = std::env::join_paths(&folders).unwrap();
        let found = find("qemu-system-unheard-of", Some(path));
        let without = find("qemu-system-unheard-of", Some(top.join("link").into()));
        fs::remove_dir_all(&top).unwrap();
        assert_eq!(found.unwrap(), real);
        assert!(matches!(without, Err(Error::NotFound { .. })));
    }
}
