//! Every option of QEMU 7.2 and 10.0, and what it means for the sandbox.
//!
//! Source: `qemu-options.hx` of both versions. One line an option: its name, whether it takes an argument
//! (`flag` and `prints` take none), and what it names. An option that is not here stops the start.

use std::ffi::OsStr;

use super::draft::{Draft, ReadGroup};
use super::error::Error;
use super::{
    blockdev, chardev, device, display, drive, files, host_tpm, machine, network, object, process, readconfig, run_as,
    shared_folder,
};

/// One option.
pub(super) struct Row {
    /// Without its dash.
    pub(super) name: &'static str,
    pub(super) takes_argument: bool,
    pub(super) meaning: Meaning,
}

/// What an option means for the sandbox.
pub(super) enum Meaning {
    /// It names nothing outside.
    Harmless,
    /// A switch with an effect.
    Switch(fn(&mut Draft<'_>, &str) -> Result<(), Error>),
    /// An argument that is taken as it stands.
    Text(fn(&mut Draft<'_>, &str, &OsStr) -> Result<(), Error>),
    /// `key=value` pairs or JSON; the key of a first value without one, and how the pairs are understood.
    Keyed(Option<&'static str>, ReadGroup),
    /// It reaches outside, and is not handed in; what to do instead.
    Later(&'static str),
}

use Meaning::{Harmless, Keyed, Later, Switch, Text};

/// The option of this name, without dashes.
pub(super) fn row(name: &str) -> Option<&'static Row> {
    OPTIONS.iter().find(|row| row.name == name)
}

/// The name in `option`, which has one dash, two, or none.
pub(super) fn name(option: &str) -> &str {
    let name = option.strip_prefix('-').unwrap_or(option);
    name.strip_prefix('-').unwrap_or(name)
}

const fn flag(name: &'static str) -> Row {
    with(name, false, Harmless)
}

const fn prints(name: &'static str) -> Row {
    with(name, false, Switch(process::prints))
}

const fn value(name: &'static str, meaning: Meaning) -> Row {
    with(name, true, meaning)
}

const fn with(name: &'static str, takes_argument: bool, meaning: Meaning) -> Row {
    Row { name, takes_argument, meaning }
}

const NO_XEN: &str = "use -accel kvm or -accel tcg; Xen is not served";
const NO_CODE: &str = "leave it out: it would run or write outside the sandbox";

/// All options, those that exist in one version only included.
#[rustfmt::skip] // one line an option
pub(super) static OPTIONS: &[Row] = &[
    // It prints something and ends.
    prints("h"),
    prints("help"),
    prints("version"),
    prints("audio-help"), // until 8.1

    // The machine.
    value("machine", Keyed(Some("type"), machine::read)),
    value("M", Keyed(Some("type"), machine::read)),
    value("cpu", Harmless),
    value("accel", Keyed(Some("accel"), machine::read_accel)),
    with("enable-kvm", false, Switch(machine::enable_kvm)),
    value("smp", Harmless),
    value("numa", Harmless), // memory by id
    value("m", Harmless),
    value("mem-path", Text(files::memory)),
    flag("mem-prealloc"),
    value("boot", Keyed(Some("order"), files::boot)),
    value("k", Text(files::firmware)), // a keymap of the data folders
    value("audio", Keyed(Some("driver"), display::audio)),
    value("audiodev", Keyed(Some("driver"), display::audio)),
    value("device", Keyed(Some("driver"), device::read)),
    value("global", Text(device::global)),
    value("set", Text(process::set)),
    value("name", Keyed(Some("guest"), process::name)),
    value("uuid", Harmless),
    value("add-fd", Keyed(None, process::add_fd)),

    // Disks.
    value("fda", Text(drive::disk)),
    value("fdb", Text(drive::disk)),
    value("hda", Text(drive::disk)),
    value("hdb", Text(drive::disk)),
    value("hdc", Text(drive::disk)),
    value("hdd", Text(drive::disk)),
    value("cdrom", Text(drive::cdrom)),
    value("mtdblock", Text(drive::disk)),
    value("sd", Text(drive::disk)),
    value("pflash", Text(drive::disk)),
    value("drive", Keyed(None, drive::read)),
    value("blockdev", Keyed(Some("driver"), blockdev::read)),
    with("snapshot", false, Switch(process::snapshot)),
    value("fsdev", Keyed(Some("fsdriver"), shared_folder::read)),
    value("virtfs", Keyed(Some("fsdriver"), shared_folder::read)),
    value("iscsi", Harmless), // the defaults of connections by a driver that is refused

    // USB.
    flag("usb"),
    value("usbdevice", Text(process::usb_device)),

    // Displays.
    value("display", Text(display::display)),
    with("nographic", false, Switch(display::nographic)),
    value("spice", Keyed(None, display::spice::read)),
    value("vnc", Keyed(Some("vnc"), display::vnc::read)),
    flag("portrait"), // until 9.1, PXA only
    value("rotate", Harmless), // until 9.1, PXA only
    value("vga", Harmless),
    flag("full-screen"),
    value("g", Harmless), // width and height; not on x86

    // PC only.
    flag("win2k-hack"),
    flag("no-fd-bootchk"),
    flag("no-acpi"), // until 8.2
    flag("no-hpet"), // until 8.2
    value("acpitable", Keyed(Some("data"), files::acpitable)),
    value("smbios", Keyed(None, files::smbios)),

    // Networks.
    value("netdev", Keyed(Some("type"), network::read)),
    value("nic", Keyed(Some("type"), network::read)),
    value("net", Keyed(Some("type"), network::read)),

    // Character devices.
    value("chardev", Keyed(Some("backend"), chardev::read)),
    value("serial", Text(chardev::short)),
    value("parallel", Text(chardev::short)),
    value("monitor", Text(chardev::monitor)),
    value("qmp", Text(chardev::short)),
    value("qmp-pretty", Text(chardev::short)),
    value("mon", Harmless), // a chardev, by id
    value("debugcon", Text(chardev::short)),
    value("gdb", Text(chardev::gdb)),
    with("s", false, Switch(chardev::default_gdb)),
    value("echr", Harmless),
    value("qtest", Text(chardev::short)),
    value("qtest-log", Text(files::qtest_log)),
    value("tpmdev", Keyed(Some("type"), host_tpm::read)),

    // Boot files.
    value("bios", Text(files::firmware)),
    value("kernel", Text(files::boot_file)),
    value("shim", Text(files::boot_file)), // since 10.0
    value("initrd", Text(files::boot_file)),
    value("dtb", Text(files::boot_file)),
    value("append", Harmless),
    value("L", Text(files::data_folder)),
    value("option-rom", Keyed(Some("romfile"), files::option_rom)),
    value("fw_cfg", Keyed(Some("name"), files::fw_cfg)),
    value("prom-env", Harmless), // SPARC and PowerPC only

    // The process.
    value("pidfile", Text(files::pid_file)),
    with("daemonize", false, Switch(process::daemonize)),
    value("runas", Text(run_as::run_as)), // until 9.2
    value("chroot", Text(run_as::chroot)), // until 8.2
    value("run-with", Keyed(None, run_as::run_with)), // since 8.1
    with("async-teardown", false, Switch(process::async_teardown)), // until 8.2
    value("sandbox", Harmless),         // QEMU's own filter, below ours
    value("readconfig", Text(readconfig::read)),
    flag("no-user-config"),
    with("nodefaults", false, Switch(process::no_defaults)),
    flag("preconfig"),
    flag("S"),
    value("overcommit", Keyed(None, process::overcommit)),
    value("compat", Harmless),
    value("action", Harmless),
    flag("no-reboot"),
    flag("no-shutdown"),
    value("watchdog-action", Harmless),
    value("msg", Harmless),
    value("object", Keyed(Some("qom-type"), object::read)),

    // State and time.
    value("loadvm", Harmless), // a snapshot inside the images
    value("incoming", Text(process::incoming)),
    flag("only-migratable"),
    value("rtc", Harmless),
    value("icount", Keyed(Some("shift"), files::icount)),
    value("seed", Harmless),

    // Finding errors.
    value("d", Text(files::log_items)),
    value("D", Text(files::log)),
    value("dfilter", Harmless),
    value("trace", Keyed(Some("enable"), files::trace)),
    value("dump-vmstate", Text(files::dump)),
    flag("singlestep"), // until 8.2
    flag("enable-sync-profile"),
    with("perfmap", false, Later(NO_CODE)), // since 8.0: /tmp/perf-PID.map
    with("jitdump", false, Later(NO_CODE)), // since 8.0: jit-PID.dump
    value("plugin", Later(NO_CODE)),        // a shared library
    flag("semihosting"), // ARM and others only
    value("semihosting-config", Later(NO_CODE)), // the guest opens files of the host
    flag("old-param"), // ARM only

    // Xen.
    value("xen-domid", Later(NO_XEN)),
    with("xen-attach", false, Later(NO_XEN)),
    with("xen-domid-restrict", false, Later(NO_XEN)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_stands_twice() {
        let mut names: Vec<&str> = OPTIONS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OPTIONS.len());
    }

    #[test]
    fn options_are_known_with_one_dash_and_with_two() {
        for option in ["-drive", "--drive", "drive", "-h", "--version", "-M", "-shim", "-runas"] {
            assert!(row(name(option)).is_some(), "{option}");
        }
        for option in ["", "-", "--", "---drive", "-Drive", "-drive=x", "-balloon"] {
            assert!(row(name(option)).is_none(), "{option}");
        }
    }

    #[test]
    fn the_manual_names_every_option() {
        let manual = include_str!("../../../docs/command-line.md");
        for row in OPTIONS {
            let named = manual.contains(&format!("`-{}`", row.name));
            assert!(named, "docs/command-line.md does not mention -{}", row.name);
        }
    }
}
