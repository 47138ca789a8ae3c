//! Options about the emulator's process: descriptors, daemon, migration, name, changes to other options.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group};
use super::error::Error;
use super::{descriptor, incoming, incoming_command, readconfig};

/// `-version`, `-help` and their like: QEMU prints and ends.
///
/// # Errors
/// None.
pub(super) fn prints(draft: &mut Draft<'_>, _: &str) -> Result<(), Error> {
    draft.line.informational = true;
    Ok(())
}

/// `-daemonize`.
///
/// # Errors
/// None.
pub(super) fn daemonize(draft: &mut Draft<'_>, _: &str) -> Result<(), Error> {
    draft.line.daemonize = true;
    draft.line.forks = true;
    Ok(())
}

/// `-async-teardown`: a process that shares QEMU's memory outlives it for as long as that takes to be freed.
///
/// # Errors
/// None.
pub(super) fn async_teardown(draft: &mut Draft<'_>, _: &str) -> Result<(), Error> {
    draft.line.forks = true;
    Ok(())
}

/// `-snapshot`.
///
/// # Errors
/// None.
pub(super) fn snapshot(draft: &mut Draft<'_>, _: &str) -> Result<(), Error> {
    draft.snapshot = true;
    Ok(())
}

/// `-nodefaults`.
///
/// # Errors
/// None.
pub(super) fn no_defaults(draft: &mut Draft<'_>, _: &str) -> Result<(), Error> {
    draft.no_defaults = true;
    Ok(())
}

/// `-name`; of several, the last.
///
/// # Errors
/// None.
pub(super) fn name(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    if let Some(name) = group.pairs.name("guest") {
        draft.line.guest_name = Some(name.to_string_lossy().into_owned());
    }
    Ok(())
}

/// `-add-fd`.
///
/// # Errors
/// [`Error::Malformed`] unless `fd=` is a number.
pub(super) fn add_fd(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    match group.pairs.get("fd") {
        Some(fd) => draft.descriptor(&group.option, fd),
        None => Err(Error::malformed(&group.option, "fd= is missing; add fd=N")),
    }
}

/// `-incoming`: a descriptor, a command, a socket or a file, or later over QMP.
///
/// # Errors
/// As [`incoming_command::read`] and [`incoming::read`].
pub(super) fn incoming(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    if incoming_command::read(draft, option, value)? || value == "defer" {
        return Ok(());
    }
    match value.as_bytes().strip_prefix(b"fd:") {
        Some(fd) => draft.descriptor(option, OsStr::from_bytes(fd)),
        None => incoming::read(draft, option, value),
    }
}

/// `-overcommit`.
///
/// # Errors
/// None: of a value that it does not know QEMU says so itself.
pub(super) fn overcommit(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    // `on-fault` is a third value, since 10.0.
    let locked = group.pairs.get("mem-lock");
    if let Some(value) = locked {
        draft.line.locks_memory = matches!(value.as_bytes(), b"on" | b"yes" | b"true" | b"y" | b"on-fault");
    }
    Ok(())
}

/// `-usbdevice`: all but `braille` are emulated.
///
/// # Errors
/// [`Error::NotServed`] for `braille`, which connects to brltty, and for names with parameters.
pub(super) fn usb_device(_: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    if value == "braille" || value.as_bytes().contains(&b':') {
        let what = format!("the USB device {}", value.to_string_lossy());
        return Err(Error::not_served(
            option,
            what,
            "use -device: usb-kbd, usb-tablet, usb-storage with a drive, usb-host",
        ));
    }
    Ok(())
}

/// `-set group.id.key=value`: a further pair for an option that stands before it.
/// Source: `qemu_set_option` in `system/vl.c`.
///
/// # Errors
/// [`Error::Malformed`] if no such option stands before it.
pub(super) fn set(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    let usage = || Error::malformed(option, "write it as group.id.key=value, after the option it changes");
    let bytes = value.as_bytes();
    let equals = bytes.iter().position(|b| *b == b'=').ok_or_else(usage)?;
    let (path, rest) = bytes.split_at(equals);
    let value = OsString::from(OsStr::from_bytes(rest.get(1..).unwrap_or_default()));
    let path = std::str::from_utf8(path).map_err(|_| usage())?;
    let mut parts = path.splitn(3, '.');
    let (Some(group), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(usage());
    };
    let name = readconfig::option_of(group);
    if name == "drive" && key == "file" {
        descriptor::refuse_in_set(option, id, &value)?;
    }
    let changed = draft
        .groups
        .iter_mut()
        .find(|g| g.name == name && g.pairs.get("id").is_some_and(|own| own == id))
        .ok_or_else(usage)?;
    changed.pairs.push(key, value);
    changed.option = format!("{} with {option}", changed.option);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::resource::Backing;
    use super::super::testing::{assert_harmless, assert_not_served, image, images, line, rw};

    #[test]
    fn words_that_end_qemu_at_once() {
        for word in ["-version", "-h", "-help", "--help", "-audio-help"] {
            let found = line(&[word]).unwrap();
            assert!(found.informational && found.notices.is_empty(), "{word}");
            assert_eq!(found.argv.len(), 2, "{word}");
        }
        assert!(line(&["-cpu", "help"]).unwrap().informational);
        assert!(line(&["-d", "?"]).unwrap().informational);
        assert!(!line(&["-append", "help"]).unwrap().informational);
        assert!(!line(&["-name", "help"]).unwrap().informational);
    }

    #[test]
    fn the_name_is_the_last_one() {
        let found = line(&["-name", "a", "-name", "guest=b,process=p,debug-threads=on"]).unwrap();
        assert_eq!(found.guest_name.as_deref(), Some("b"));
    }

    #[test]
    fn descriptors_that_are_handed_in() {
        let words = ["-add-fd", "fd=7,set=1,opaque=rw:/x", "-drive", "file=/dev/fdset/1", "-incoming", "fd:8"];
        let found = line(&words).unwrap();
        assert_eq!(found.descriptors, [7, 8].into());
        assert!(found.resources.is_empty());
        assert!(line(&["-add-fd", "set=1"]).is_err());
        assert!(line(&["-incoming", "fd:mig"]).is_err());
    }

    #[test]
    fn what_the_process_may_not_do_itself() {
        assert_not_served(&[&["-usbdevice", "braille"]]);
        assert_harmless(&[&["-incoming", "defer"], &["-usbdevice", "tablet"], &["-sandbox", "on,spawn=deny"]]);
        assert!(line(&["-daemonize"]).unwrap().daemonize);
        assert!(line(&["-overcommit", "mem-lock=on-fault"]).unwrap().locks_memory);
        assert!(!line(&["-overcommit", "mem-lock=on", "-overcommit", "mem-lock=off"]).unwrap().locks_memory);
    }

    #[test]
    fn set_changes_an_earlier_option() {
        let found =
            line(&["-drive", "id=d,file=a", "-set", "drive.d.file=b=c,d", "-set", "drive.d.format=raw"]).unwrap();
        assert_eq!(images(&found), [image("b=c,d", Some("raw"), rw(), Backing::Ignored)]);
        assert_not_served(&[
            &["-device", "vfio-pci-x,id=v", "-set", "device.v.x=1"],
            &["-device", "e1000,id=n", "-set", "device.n.sysfsdev=/sys/x"],
            &["-chardev", "null,id=c", "-set", "chardev.c.backend=braille"],
        ]);
        for words in [
            &["-set", "drive.d.file=x", "-drive", "id=d"][..],
            &["-set", "drive.d=x"],
            &["-set", "nothing"],
            &["-set", "kernel.a.b=c"],
        ] {
            assert!(line(words).is_err(), "{words:?}");
        }
    }
}
