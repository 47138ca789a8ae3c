//! `-tpmdev`: a TPM of the host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::resource::Kind;
use super::value::is_help;

/// The device that QEMU takes where none is named (`TPM_PASSTHROUGH_DEFAULT_DEVICE`, its `backends/tpm/tpm_passthrough.c`).
const DEFAULT: &str = "/dev/tpm0";

/// Where the kernel has the file that breaks a command off (`tpm_passthrough_open_sysfs_cancel`, the same file), before
/// and behind the device's name.
const CANCEL: [(&str, &str); 2] = [("/sys/class/tpm/", "/device/cancel"), ("/sys/class/misc/", "/device/cancel")];

/// `-tpmdev`. What is missing is for QEMU to complain of.
///
/// # Errors
/// [`Error::NotServed`] for every other kind; as [`Draft::file`].
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let kind = pairs.get("type").unwrap_or_default();
    if pairs.help || is_help(kind) {
        draft.line.informational = true;
        return Ok(());
    }
    match kind.as_bytes() {
        // Talks through a chardev.
        b"emulator" => Ok(()),
        b"passthrough" => {
            let device = pairs.name("path").unwrap_or(OsStr::new(DEFAULT));
            draft.file(option, device, Kind::Device, OpenedBy::QemuOpen)?;
            match pairs.name("cancel-path") {
                Some(path) => draft.file(option, path, Kind::Device, OpenedBy::QemuOpen),
                None => cancel_paths(device)
                    .try_for_each(|path| draft.file(option, &path, Kind::Device, OpenedBy::QemuOpen)),
            }
        }
        _ => {
            let what = format!("the TPM {}", kind.to_string_lossy());
            Err(Error::not_known(option, what, "use emulator with swtpm behind a chardev, or passthrough"))
        }
    }
}

/// The names that QEMU tries for `device`, made of what follows its last slash.
fn cancel_paths(device: &OsStr) -> impl Iterator<Item = OsString> {
    let name = device.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = OsStr::from_bytes(name);
    CANCEL.into_iter().map(move |(before, behind)| [before.as_ref(), name, behind.as_ref()].into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_not_served, assert_sockets, line, names};
    use super::*;

    #[test]
    fn the_device_and_what_breaks_a_command_off_are_noted() {
        let device = &Kind::Device;
        let found = line(&["-tpmdev", "passthrough,id=t,path=/dev/tpm1,cancel-path=/c"]).unwrap();
        assert_eq!(names(&found), [("/dev/tpm1", device), ("/c", device)]);
        let found = line(&["-tpmdev", "passthrough,id=t"]).unwrap();
        let cancel = ["/sys/class/tpm/tpm0/device/cancel", "/sys/class/misc/tpm0/device/cancel"];
        assert_eq!(names(&found), [("/dev/tpm0", device), (cancel[0], device), (cancel[1], device)]);
    }

    #[test]
    fn an_emulated_one_is_behind_a_character_device() {
        let words = ["-chardev", "socket,id=c,path=/run/swtpm", "-tpmdev", "emulator,id=t,chardev=c"];
        assert_sockets(&[(&words, "connect /run/swtpm")]);
        assert_not_served(&[&["-tpmdev", "newer,id=t,path=/x"]]);
        assert!(line(&["-tpmdev", "help"]).unwrap().informational);
    }
}
