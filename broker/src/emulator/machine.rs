//! The machine and its accelerator: `-machine`, `-accel`, and the boot files that are machine properties.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::resource::Kind;
use super::value::is_help;

/// The device QEMU opens for KVM unless `-accel kvm,device=` says otherwise (`accel/kvm/kvm-all.c`).
const KVM: &str = "/dev/kvm";

/// `-machine`.
///
/// # Errors
/// [`Error::NotServed`] for properties and accelerators that reach outside.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let option = &group.option;
    if group.pairs.help || group.pairs.get("type").is_some_and(is_help) {
        draft.line.informational = true;
        return Ok(());
    }
    for (key, value) in group.pairs.iter() {
        match key {
            "type" if value.as_bytes().starts_with(b"xen") => return Err(refused_xen(option)),
            "accel" => accelerators(draft, option, value)?,
            "kernel" | "initrd" | "dtb" | "shim" => draft.read_only(option, value)?,
            "firmware" | "boot.splash" => draft.firmware(option, value)?,
            // Written beside the name and renamed over it, so a folder would have to be writable.
            "dumpdtb" => {
                return Err(Error::not_served(option, "dumpdtb", "run QEMU without the broker for it"));
            }
            "append" | "dt-compatible" | "x-oem-id" | "x-oem-table-id" => {}
            _ => inner_name(option, key, value)?,
        }
    }
    Ok(())
}

/// `-accel`.
///
/// # Errors
/// As [`read`].
pub(super) fn read_accel(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let Some(name) = pairs.get("accel") else {
        return Ok(());
    };
    if pairs.help || is_help(name) {
        draft.line.informational = true;
        return Ok(());
    }
    for (key, value) in pairs.iter().filter(|(key, _)| *key != "accel") {
        match key {
            "device" => {}
            "rapl" | "rapl-helper-socket" => {
                return Err(Error::not_served(option, key, "leave it out: the helper's socket is not handed in"));
            }
            _ => inner_name(option, key, value)?,
        }
    }
    match pairs.name("device") {
        Some(device) if name == "kvm" => {
            draft.accelerator = true;
            draft.file(option, device, Kind::Device, OpenedBy::QemuOpen)
        }
        _ => accelerators(draft, option, name),
    }
}

/// `-enable-kvm`.
///
/// # Errors
/// None.
pub(super) fn enable_kvm(draft: &mut Draft<'_>, option: &str) -> Result<(), Error> {
    accelerators(draft, option, OsStr::new("kvm"))
}

/// QEMU chooses KVM by itself if it is started under a name that ends in `kvm`
/// (`configure_accelerators` in `system/vl.c`).
///
/// # Errors
/// None.
pub(super) fn default_accelerator(draft: &mut Draft<'_>, emulator: &OsStr) -> Result<(), Error> {
    if draft.accelerator || !emulator.as_bytes().ends_with(b"kvm") {
        return Ok(());
    }
    enable_kvm(draft, &emulator.to_string_lossy())
}

/// A list of accelerators, separated by colons; QEMU takes the first that works.
fn accelerators(draft: &mut Draft<'_>, option: &str, list: &OsStr) -> Result<(), Error> {
    draft.accelerator = true;
    for name in list.as_bytes().split(|b| *b == b':') {
        match name {
            b"kvm" => draft.file(option, OsStr::new(KVM), Kind::Device, OpenedBy::QemuOpen)?,
            b"xen" => return Err(refused_xen(option)),
            _ => {}
        }
    }
    Ok(())
}

fn refused_xen(option: &str) -> Error {
    Error::not_served(option, "Xen", "use -accel kvm or -accel tcg")
}

/// The other properties are numbers, switches, and ids of QEMU's own objects.
fn inner_name(option: &str, key: &str, value: &OsStr) -> Result<(), Error> {
    let bytes = value.as_bytes();
    let inner = bytes.starts_with(b"/objects/") || bytes.starts_with(b"/machine/");
    if bytes.contains(&b'/') && !inner {
        return Err(Error::not_served(
            option,
            format!("{key}={}", value.to_string_lossy()),
            "leave it out: it is not known what QEMU would open for it",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_harmless, assert_not_served, line, line_with, names};
    use super::*;

    #[test]
    fn machines_and_inner_properties_name_nothing() {
        assert_harmless(&[
            &["-machine", "q35,smm=on,memory-backend=/objects/ram,pflash0=node"],
            &["-M", "none"],
            &["-machine", "pc,accel=tcg,append=root=/dev/vda"],
            &["-accel", "tcg,thread=multi"],
            &["-machine", "q35,sgx-epc.0.memdev=m,smp.cpus=2"],
        ]);
    }

    #[test]
    fn kvm_is_a_device_however_it_is_asked_for() {
        for words in [
            &["-accel", "kvm"][..],
            &["-accel", "kvm,dirty-ring-size=4096", "-accel", "tcg"],
            &["-enable-kvm"],
            &["--enable-kvm"],
            &["-machine", "q35,accel=kvm:tcg"],
            &["-machine", "accel=tcg:kvm"],
        ] {
            assert_eq!(names(&line(words).unwrap()), [("/dev/kvm", &Kind::Device)], "{words:?}");
        }
        let other = line(&["-accel", "kvm,device=/dev/kvm2"]).unwrap();
        assert_eq!(names(&other), [("/dev/kvm2", &Kind::Device)]);
        assert_harmless(&[&["-accel", "kvm,device=/dev/fdset/3"]]);
    }

    #[test]
    fn an_emulator_called_kvm_uses_it_unless_told_otherwise() {
        let no_files = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let argv = ["/usr/bin/kvm".into(), "-nodefaults".into()];
        let found = super::super::parse(&argv, &no_files).unwrap();
        assert_eq!(names(&found), [("/dev/kvm", &Kind::Device)]);
        let argv = ["kvm".into(), "-accel".into(), "tcg".into()];
        assert!(super::super::parse(&argv, &no_files).unwrap().resources.is_empty());
    }

    #[test]
    fn boot_files_as_machine_properties() {
        let found = line(&["-machine", "pc,kernel=/k,initrd=i,dtb=d,firmware=b.bin,boot.splash=s.bmp"]).unwrap();
        assert_eq!(
            names(&found),
            [
                ("/k", &Kind::ReadOnlyFile),
                ("i", &Kind::ReadOnlyFile),
                ("d", &Kind::ReadOnlyFile),
                ("b.bin", &Kind::FirmwareName),
                ("s.bmp", &Kind::FirmwareName),
            ]
        );
    }

    #[test]
    fn what_reaches_elsewhere_is_refused() {
        assert_not_served(&[
            &["-machine", "q35,dumpdtb=x"],
            &["-machine", "q35,unheard-of=/etc/shadow"],
            &["-machine", "q35,accel=xen"],
            &["-machine", "xenfv"],
            &["-accel", "kvm,rapl=on"],
            &["-accel", "kvm,rapl-helper-socket=/x"],
            &["-accel", "kvm,newer=/x"],
            &["-accel", "xen"],
        ]);
    }

    #[test]
    fn asking_for_help_starts_nothing() {
        for words in [["-machine", "help"], ["-M", "?"], ["-accel", "help"], ["-machine", "q35,help"]] {
            assert!(line(&words).unwrap().informational, "{words:?}");
        }
    }

    #[test]
    fn a_machine_of_a_configuration_file() {
        let config = |_: &std::path::Path| Ok(b"[machine]\n  type = \"q35\"\n  kernel = \"/k\"\n".to_vec());
        let found = line_with(&["-readconfig", "f"], &config).unwrap();
        assert_eq!(names(&found), [("f", &Kind::ReadOnlyFile), ("/k", &Kind::ReadOnlyFile)]);
    }
}
