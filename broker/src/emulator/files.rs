//! Options that name plain files: boot files, firmware, tables, logs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::resource::Kind;
use super::value::is_help;

/// `-kernel`, `-initrd`, `-dtb`, `-shim`. A multiboot module list in `-initrd` is taken as one name.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn boot_file(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    draft.read_only(option, name)
}

/// `-bios` and `-k`: looked up as they stand, then in the data folders.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn firmware(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    draft.firmware(option, name)
}

/// `-L`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn data_folder(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    if is_help(name) {
        draft.line.informational = true;
        return Ok(());
    }
    draft.file(option, name, Kind::FirmwareDirectory, OpenedBy::Plain)
}

/// `-option-rom`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn option_rom(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    each(group, "romfile").try_for_each(|name| draft.firmware(&group.option, name))
}

/// `-boot`: its splash picture.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn boot(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    each(group, "splash").try_for_each(|name| draft.firmware(&group.option, name))
}

/// `-fw_cfg` with `file=`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn fw_cfg(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    each(group, "file").try_for_each(|name| draft.read_only(&group.option, name))
}

/// `-smbios`: `file=`, and any number of `path=` in type 11.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn smbios(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    each(group, "file").try_for_each(|name| draft.read_only(&group.option, name))?;
    for (_, name) in group.pairs.iter().filter(|(key, _)| *key == "path") {
        draft.file(&group.option, name, Kind::ReadOnlyFile, OpenedBy::QemuOpen)?;
    }
    Ok(())
}

/// `-acpitable`: `file=` or `data=`, each a list separated by colons (`acpi_table_add` in `hw/acpi/core.c`).
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn acpitable(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let lists = each(group, "file").chain(each(group, "data"));
    for name in lists.flat_map(|list| list.as_bytes().split(|b| *b == b':')) {
        draft.read_only(&group.option, OsStr::from_bytes(name))?;
    }
    Ok(())
}

/// The value of `key` that counts, if it is not empty.
fn each<'g>(group: &'g Group, key: &str) -> impl Iterator<Item = &'g OsStr> {
    group.pairs.name(key).into_iter()
}

/// `-pidfile`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn pid_file(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    draft.file(option, name, Kind::PidFile, OpenedBy::QemuOpen)
}

/// `-mem-path`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn memory(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    draft.file(option, name, Kind::MemoryFile { read_only: false }, OpenedBy::Plain)
}

/// `-dump-vmstate`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn dump(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    draft.file(option, name, Kind::OutputFile { append: false }, OpenedBy::Plain)
}

/// `-D`. QEMU writes the number of its process for one `%d`, and refuses any other `%` (`valid_filename_template` in
/// `util/log.c`).
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn log(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    let bytes = name.as_bytes();
    let numbered = bytes.windows(2).any(|pair| pair == b"%d");
    match (bytes.iter().filter(|byte| **byte == b'%').count(), numbered) {
        (0, _) => draft.file(option, name, Kind::OutputFile { append: false }, OpenedBy::Plain),
        (1, true) => draft.file(option, name, Kind::NumberedLog, OpenedBy::Plain),
        // QEMU says what is wrong, and opens nothing.
        _ => Ok(()),
    }
}

/// `-d`: what is logged.
///
/// # Errors
/// None.
pub(super) fn log_items(draft: &mut Draft<'_>, _: &str, items: &OsStr) -> Result<(), Error> {
    draft.line.informational |= is_help(items) || items == "trace:help";
    // QEMU's `all` holds `tid` too.
    draft.logs_of_threads |= items.as_bytes().split(|byte| *byte == b',').any(|item| matches!(item, b"tid" | b"all"));
    Ok(())
}

/// Checks, after the last word, that the number in the name of each log will be that of the process that is started.
///
/// # Errors
/// [`Error::NotServed`] if it will be that of a thread, or of a daemon.
pub(super) fn check_logs(draft: &Draft<'_>) -> Result<(), Error> {
    let log = draft.line.resources.iter().find(|resource| resource.kind == Kind::NumberedLog);
    match log {
        Some(log) if draft.logs_of_threads || draft.line.daemonize => {
            let whose = if draft.logs_of_threads { "a thread" } else { "the daemon" };
            let what = format!("the name {} (%d is the number of {whose})", log.name.to_string_lossy());
            Err(Error::not_served(&log.option, what, "name one file, without %"))
        }
        _ => Ok(()),
    }
}

/// `-qtest-log`: QEMU reads the file besides writing it.
///
/// # Errors
/// [`Error::NotServed`] for anything but `none` and `/dev/null`.
pub(super) fn qtest_log(_: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    if name == "none" || name == "/dev/null" {
        return Ok(());
    }
    Err(Error::not_served(option, "the log", "use -qtest-log /dev/null, or leave it out to log to standard error"))
}

/// `-trace`: events from a file, a log to a file.
///
/// # Errors
/// As [`log`].
pub(super) fn trace(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    draft.line.informational |= group.pairs.help || group.pairs.get("enable").is_some_and(is_help);
    each(group, "events").try_for_each(|name| draft.read_only(&group.option, name))?;
    each(group, "file").try_for_each(|name| log(draft, &group.option, name))
}

/// `-icount`: the record of `rr=record` and `rr=replay`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn icount(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let Some(name) = group.pairs.name("rrfile") else {
        return Ok(());
    };
    let replay = group.pairs.get("rr").is_some_and(|rr| rr == "replay");
    let kind = if replay { Kind::ReadOnlyFile } else { Kind::OutputFile { append: false } };
    draft.file(&group.option, name, kind, OpenedBy::Plain)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_harmless, assert_not_served, line, names};
    use super::*;

    const WRITTEN: Kind = Kind::OutputFile { append: false };

    #[test]
    fn every_option_with_its_kind() {
        for (words, kind) in [
            (["-kernel", "F"], Kind::ReadOnlyFile),
            (["-initrd", "F"], Kind::ReadOnlyFile),
            (["-dtb", "F"], Kind::ReadOnlyFile),
            (["-shim", "F"], Kind::ReadOnlyFile),
            (["-bios", "F"], Kind::FirmwareName),
            (["-k", "F"], Kind::FirmwareName),
            (["-L", "F"], Kind::FirmwareDirectory),
            (["-option-rom", "F"], Kind::FirmwareName),
            (["-option-rom", "romfile=F,bootindex=1"], Kind::FirmwareName),
            (["-boot", "menu=on,splash=F"], Kind::FirmwareName),
            (["-fw_cfg", "opt/x,file=F"], Kind::ReadOnlyFile),
            (["-fw_cfg", "name=opt/x,file=F"], Kind::ReadOnlyFile),
            (["-smbios", "file=F"], Kind::ReadOnlyFile),
            (["-smbios", "type=11,value=x,path=F"], Kind::ReadOnlyFile),
            (["-acpitable", "file=F"], Kind::ReadOnlyFile),
            (["-acpitable", "sig=ABCD,data=F"], Kind::ReadOnlyFile),
            (["-acpitable", "F"], Kind::ReadOnlyFile),
            (["-pidfile", "F"], Kind::PidFile),
            (["-mem-path", "F"], Kind::MemoryFile { read_only: false }),
            (["-D", "F"], WRITTEN),
            (["-D", "F%d"], Kind::NumberedLog),
            (["-dump-vmstate", "F"], WRITTEN),
            (["-trace", "events=F"], Kind::ReadOnlyFile),
            (["-trace", "enable=x,file=F"], WRITTEN),
            (["-icount", "shift=7,rr=record,rrfile=F"], WRITTEN),
            (["-icount", "rr=replay,rrfile=F"], Kind::ReadOnlyFile),
            (["-audiodev", "wav,id=a,path=F"], WRITTEN),
        ] {
            let name = if kind == Kind::NumberedLog { "F%d" } else { "F" };
            assert_eq!(names(&line(&words).unwrap()), [(name, &kind)], "{words:?}");
        }
    }

    #[test]
    fn an_absolute_firmware_name_is_a_file() {
        assert_eq!(names(&line(&["-bios", "/b"]).unwrap()), [("/b", &Kind::ReadOnlyFile)]);
    }

    #[test]
    fn lists_of_files_are_split() {
        let found = line(&["-acpitable", "file=a:b"]).unwrap();
        assert_eq!(names(&found), [("a", &Kind::ReadOnlyFile), ("b", &Kind::ReadOnlyFile)]);
        let found = line(&["-smbios", "type=11,path=a,path=b"]).unwrap();
        assert_eq!(found.resources.len(), 2);
    }

    #[test]
    fn an_initrd_is_one_name_with_all_its_commas() {
        let found = line(&["-initrd", "a,,b c,d"]).unwrap();
        assert_eq!(names(&found), [("a,,b c,d", &Kind::ReadOnlyFile)]);
    }

    #[test]
    fn text_beside_the_files_names_nothing() {
        assert_harmless(&[
            &["-append", "root=/dev/vda init=/x"],
            &["-fw_cfg", "opt/x,string=/etc/passwd"],
            &["-smbios", "type=1,serial=/x"],
            &["-boot", "order=dc,menu=on"],
            &["-trace", "enable=qcow2_*"],
            &["-pidfile", "/dev/fdset/2"],
            &["-qtest-log", "none"],
            &["-D", "/dev/null"],
            &["-D", "log-%s"],
            &["-D", "%d-%d"],
            &["-d", "tid"],
        ]);
        assert!(line(&["-L", "help"]).unwrap().informational);
        assert!(line(&["-trace", "help"]).unwrap().informational);
    }

    #[test]
    fn a_log_is_called_after_the_process() {
        let mut found = line(&["-D", "log-%d.txt", "-trace", "enable=x,file=/t%d", "-dump-vmstate", "%d"]).unwrap();
        found.number_logs(4711);
        assert_eq!(names(&found), ["log-4711.txt", "%d", "/t4711"].map(|name| (name, &WRITTEN)));
    }

    #[test]
    fn logs_of_unknown_names_and_readable_ones_are_refused() {
        assert_not_served(&[
            &["-D", "log-%d", "-d", "int,tid"],
            &["-daemonize", "-D", "log-%d"],
            &["-trace", "file=t-%d", "-d", "all"],
            &["-qtest-log", "/x"],
            &["-D", "/dev/stderr"],
            &["-kernel", "/proc/self/fd/3"],
            &["-bios", "/dev/fd/3"],
        ]);
    }
}
