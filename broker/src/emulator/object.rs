//! `-object`: every type that a user can create in QEMU 7.2 and 10.0 (`ObjectType` in `qapi/qom.json`).

mod connected;

use std::ffi::OsStr;

use super::draft::{Draft, Group, OpenedBy, ReadGroup};
use super::error::Error;
use super::resource::Kind;
use super::value::is_help;

/// What an object reaches for.
enum Object {
    /// Nothing: memory, threads, limits, other objects by id.
    Inside,
    /// Reads the file of this key.
    Reads(&'static str),
    /// Writes the file of this key.
    Writes(&'static str),
    /// Maps `mem-path=`.
    Memory,
    /// Reads random numbers from `filename=`.
    Random,
    /// Opens the device node of this key.
    Device(&'static str),
    /// Uses the descriptor of the first key; without it opens this device.
    Descriptor(&'static str, &'static str),
    /// Memory in a file that QEMU makes in this folder, by `shm_open`.
    SharedMemory(&'static str),
    /// What this understands.
    By(ReadGroup),
    /// Something outside.
    Later(&'static str),
}

use Object::{By, Descriptor, Device, Inside, Later, Memory, Random, Reads, SharedMemory, Writes};

const NO_ENCLAVE: &str = "leave it out: the host's confidential computing devices are not handed in";

const TYPES: &[(&str, Object)] = &[
    ("acpi-generic-initiator", Inside),
    ("acpi-generic-port", Inside),
    ("authz-list", Inside),
    ("authz-list-file", By(connected::list_of_users)),
    ("authz-pam", Later("use authz-list or authz-simple")), // the host's services of PAM
    ("authz-simple", Inside),
    ("can-bus", Inside),
    ("can-host-socketcan", Later("use can-bus alone; no CAN interface of the host is handed in")),
    ("colo-compare", Inside),
    ("cryptodev-backend", Inside),
    ("cryptodev-backend-builtin", Inside),
    ("cryptodev-backend-lkcf", Later("use cryptodev-backend-builtin")), // the kernel's keyring
    ("cryptodev-vhost-user", Inside),                                   // talks through a chardev
    ("dbus-display", Later("use -display none")),
    ("dbus-vmstate", Later("leave it out: no D-Bus is within reach")),
    ("filter-buffer", Inside),
    ("filter-dump", Writes("file")),
    ("filter-mirror", Inside),
    ("filter-redirector", Inside),
    ("filter-replay", Inside),
    ("filter-rewriter", Inside),
    ("input-barrier", By(connected::barrier)),
    ("input-linux", Device("evdev")),
    ("iommufd", Descriptor("fd", "/dev/iommu")),
    ("iothread", Inside),
    ("main-loop", Inside),
    ("memory-backend-epc", Later(NO_ENCLAVE)), // /dev/sgx_vepc
    ("memory-backend-file", Memory),
    ("memory-backend-memfd", Inside),
    ("memory-backend-ram", Inside),
    ("memory-backend-shm", SharedMemory("/dev/shm")), // since 9.1
    ("pr-manager-helper", By(connected::reservations)),
    ("qtest", Later("use -qtest")),
    ("rng-builtin", Inside),
    ("rng-egd", Inside), // talks through a chardev
    ("rng-random", Random),
    ("secret", Reads("file")),
    ("secret_keyring", Later("use secret,file=FILE")), // the kernel's keyring
    ("sev-guest", Later(NO_ENCLAVE)),
    ("sev-snp-guest", Later(NO_ENCLAVE)),
    ("tdx-guest", Later(NO_ENCLAVE)),
    ("thread-context", Inside),
    ("throttle-group", Inside),
    ("tls-cipher-suites", Inside), // built-in lists only
    ("tls-creds-anon", By(connected::anonymous)),
    ("tls-creds-psk", By(connected::psk)),
    ("tls-creds-x509", By(connected::x509)),
    ("x-remote-object", Later("leave it out: device processes are not served")),
];

/// `-object`.
///
/// # Errors
/// [`Error::NotServed`] for types that reach outside and for unknown ones.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    if pairs.help || pairs.get("qom-type").is_some_and(is_help) {
        draft.line.informational = true;
        return Ok(());
    }
    let name = pairs.text("qom-type").unwrap_or_default();
    let what = || format!("the object type {name:?}");
    match TYPES.iter().find(|(n, _)| *n == name).map(|(_, object)| object) {
        Some(Inside) => Ok(()),
        Some(Reads(key)) => match pairs.name(key) {
            Some(file) => draft.read_only(option, file),
            None => Ok(()),
        },
        Some(Writes(key)) => match pairs.name(key) {
            Some(file) => draft.file(option, file, Kind::OutputFile { append: false }, OpenedBy::Plain),
            None => Ok(()),
        },
        Some(By(read)) => read(draft, group),
        Some(Memory) => memory(draft, group),
        Some(Random) => random(draft, group),
        Some(Device(key)) => match pairs.name(key) {
            Some(device) => draft.file(option, device, Kind::Device, OpenedBy::QemuOpen),
            None => Ok(()),
        },
        Some(Descriptor(key, device)) => match pairs.name(key) {
            Some(fd) => draft.descriptor(option, fd),
            None => draft.file(option, OsStr::new(device), Kind::Device, OpenedBy::QemuOpen),
        },
        Some(SharedMemory(folder)) => {
            draft.file(option, OsStr::new(folder), Kind::MemoryFile { read_only: false }, OpenedBy::Plain)
        }
        Some(Later(instead)) => Err(Error::not_served(option, what(), *instead)),
        None => Err(Error::not_known(option, what(), "leave it out: it is not known what it opens")),
    }
}

fn memory(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let read_only = group.pairs.switch(&group.option, "readonly")?.unwrap_or(false);
    match group.pairs.name("mem-path") {
        Some(path) => draft.file(&group.option, path, Kind::MemoryFile { read_only }, OpenedBy::Plain),
        None => Ok(()),
    }
}

/// Without `filename=` it reads `/dev/urandom`, which every sandbox has.
fn random(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    match group.pairs.name("filename") {
        Some(file) => draft.file(&group.option, file, Kind::ReadOnlyFile, OpenedBy::QemuOpen),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_harmless, assert_not_served, line, names};
    use super::*;

    #[test]
    fn inner_objects_name_nothing() {
        assert_harmless(&[
            &["-object", "iothread,id=i"],
            &["-object", "memory-backend-memfd,id=m,size=1G,hugetlb=on"],
            &["-object", r#"{"qom-type":"memory-backend-ram","id":"m","size":1073741824}"#],
            &["-object", "qom-type=throttle-group,id=t,x-iops-total=5"],
            &["-object", "rng-random,id=r"],
            &["-object", "rng-random,id=r,filename=/dev/urandom"],
            &["-object", "secret,id=s,data=abc"],
        ]);
    }

    #[test]
    fn files_are_noted_with_their_use() {
        for (value, kind) in [
            ("secret,id=s,file=F", Kind::ReadOnlyFile),
            ("secret,id=s,file=x,file=F", Kind::ReadOnlyFile),
            (r#"{"qom-type":"secret","id":"s","file":"F","format":"base64"}"#, Kind::ReadOnlyFile),
            ("memory-backend-file,id=m,size=1G,mem-path=F,share=on", Kind::MemoryFile { read_only: false }),
            ("memory-backend-file,id=m,size=1G,mem-path=F,readonly=on", Kind::MemoryFile { read_only: true }),
            ("filter-dump,id=f,netdev=n,file=F", Kind::OutputFile { append: false }),
            ("rng-random,id=r,filename=F", Kind::ReadOnlyFile),
            ("input-linux,id=i,evdev=F,grab_all=on", Kind::Device),
        ] {
            let found = line(&["-object", value]).unwrap();
            assert_eq!(names(&found), [("F", &kind)], "{value}");
        }
        assert_eq!(line(&["-object", "iommufd,id=i,fd=4"]).unwrap().descriptors, [4].into());
    }

    #[test]
    fn what_has_its_place_needs_no_name() {
        let found = line(&["-object", "iommufd,id=i", "-object", "memory-backend-shm,id=m,size=1M"]).unwrap();
        let shared = Kind::MemoryFile { read_only: false };
        assert_eq!(names(&found), [("/dev/iommu", &Kind::Device), ("/dev/shm", &shared)]);
    }

    #[test]
    fn what_reaches_outside_or_is_unknown_is_refused() {
        assert_not_served(&[
            &["-object", "secret_keyring,id=s,serial=1"],
            &["-object", "can-host-socketcan,id=c,if=can0,canbus=b"],
            &["-object", "authz-list-file,id=a,filename=/x"],
            &["-object", "sev-guest,id=s"],
            &["-object", "memory-backend-epc,id=m,size=1M"],
            &["-object", "x-newer,id=n"],
            &["-object", "id=n"],
            &["-object", "secret,id=s,file=/dev/fdset/3"],
        ]);
    }

    #[test]
    fn asking_for_help_starts_nothing() {
        assert!(line(&["-object", "help"]).unwrap().informational);
        assert!(line(&["-object", "secret,help"]).unwrap().informational);
    }
}
