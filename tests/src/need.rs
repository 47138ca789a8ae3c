//! What a test needs of the host, decided in one place, so that a skipped test cannot pass for a success.

use std::fmt;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr, RulesetError,
};

use crate::command::{ORDINARY_USER, is_bare};
use crate::guest::Guest;
use crate::huge_pages::HugePages;
use crate::network::Network;

/// Something that not every host offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The emulator is started under the broker, not bare.
    Broker,
    /// `BROKER_TESTS_MACHINE` says that this is the test machine with the devices of `tests/vm/devices`.
    DeviceMachine,
    /// Device-mapper, and `dmsetup`.
    DeviceMapper,
    /// File systems in user space (FUSE), mounted by the tests.
    Fuse,
    /// The Linux guest of `tests/setup/guest.sh`.
    Guest,
    /// The kernel has 64 MiB of huge pages to give.
    HugePages,
    /// A usable `/dev/kvm`.
    Kvm,
    /// Landlock, of any version.
    Landlock,
    /// libvirt's daemons and `virsh`, and `dbus-daemon`.
    Libvirt,
    /// Loop devices that the tests may set up, and partitions on them.
    LoopDevices,
    /// Macvtaps in network namespaces of the tests' own.
    Macvtap,
    /// Network namespaces that the tests may make, and bridges and cables in them.
    NetworkNamespaces,
    /// A Landlock older than version 3, which cannot rule truncation (Linux before 6.2).
    OldLandlock,
    /// `qemu-system-x86_64` and `qemu-img`.
    Qemu,
    /// QEMU's own bridge helper, where Debian has it.
    QemuBridgeHelper,
    /// `BROKER_TESTS_SQUASHED` names an empty folder of user 1000 alone, on an export that takes root for nobody.
    SquashedExport,
    /// A graphics device that draws, in `/dev/dri`, and QEMU's modules for it.
    RenderNode,
    /// The tests run as root.
    Root,
    /// `strace`.
    Strace,
    /// `swtpm`, an emulated TPM.
    Swtpm,
    /// GnuTLS's `certtool`, `psktool` and `gnutls-cli`.
    TlsTools,
    /// `qemu-img`, `qemu-io`, `qemu-nbd` and `qemu-storage-daemon`.
    Tools,
    /// Taps in network namespaces of the tests' own.
    Tun,
    /// The USB stick of the test machine with devices (`tests/vm/devices`), on which the tests may write.
    UsbStick,
    /// An ordinary user may make user namespaces.
    UserNamespaces,
    /// QEMU's windows (Debian's `qemu-system-gui`), `Xvfb` and `xwininfo`.
    Windows,
    /// A kernel with vhost-net: `/dev/vhost-net` opens.
    VhostNet,
    /// virtiofsd, of QEMU or on its own.
    Virtiofsd,
}

/// Says which needs must be met, whatever the host: `all`, `all-but:NAME,NAME`, or `NAME,NAME`.
const REQUIRE: &str = "BROKER_TESTS_REQUIRE";

/// Where the kernel lists the devices of all USB buses.
pub const USB_DEVICES: &str = "/sys/bus/usb/devices";

/// The serial number that `tests/vm/devices` gives the stick.
const STICK: &str = "granted";
/// Where virtiofsd is: QEMU's own until 7.2, and the one that came after it.
pub const VIRTIOFSD: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];

/// The programs beside the emulator.
const TOOLS: [&str; 4] = ["qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"];

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Broker => "broker",
            Self::DeviceMachine => "device-machine",
            Self::DeviceMapper => "device-mapper",
            Self::Fuse => "fuse",
            Self::Guest => "guest",
            Self::HugePages => "huge-pages",
            Self::Kvm => "kvm",
            Self::Landlock => "landlock",
            Self::Libvirt => "libvirt",
            Self::LoopDevices => "loop-devices",
            Self::Macvtap => "macvtap",
            Self::NetworkNamespaces => "network-namespaces",
            Self::OldLandlock => "old-landlock",
            Self::Qemu => "qemu",
            Self::QemuBridgeHelper => "qemu-bridge-helper",
            Self::SquashedExport => "squashed-export",
            Self::RenderNode => "render-node",
            Self::Root => "root",
            Self::Strace => "strace",
            Self::Swtpm => "swtpm",
            Self::TlsTools => "tls-tools",
            Self::Tools => "tools",
            Self::Tun => "tun",
            Self::UsbStick => "usb-stick",
            Self::UserNamespaces => "user-namespaces",
            Self::VhostNet => "vhost-net",
            Self::Windows => "windows",
            Self::Virtiofsd => "virtiofsd",
        })
    }
}

/// Whether all `needs` are met; says which one is not. Use it by way of [`crate::need!`].
///
/// # Panics
/// When one is not met that `BROKER_TESTS_REQUIRE` lists.
#[must_use]
pub fn require(needs: &[Need]) -> bool {
    let Some(missing) = needs.iter().find(|need| !is_met(**need)) else {
        return true;
    };
    let required = std::env::var(REQUIRE).unwrap_or_default();
    assert!(
        !is_listed(&required, &missing.to_string()),
        "{REQUIRE}={required} says that this test must run, and the host does not offer: {missing}"
    );
    println!("SKIPPED: need {missing}");
    false
}

/// Whether the value of `BROKER_TESTS_REQUIRE` lists a need.
fn is_listed(required: &str, name: &str) -> bool {
    match required.strip_prefix("all-but:") {
        Some(exceptions) => !exceptions.split(',').any(|exception| exception == name),
        None => required == "all" || required.split(',').any(|listed| listed == name),
    }
}

/// Whether the host offers this.
#[must_use]
pub fn is_met(need: Need) -> bool {
    match need {
        Need::Broker => !is_bare(),
        Need::DeviceMachine => std::env::var_os("BROKER_TESTS_MACHINE").is_some_and(|machine| machine == "devices"),
        Need::DeviceMapper => succeeds("dmsetup", &["version"]),
        Need::Fuse => crate::fuse::works(),
        Need::Guest => Guest::is_there(),
        Need::HugePages => HugePages::take(32).is_ok(),
        Need::Kvm => opens_for_writing("/dev/kvm"),
        Need::Landlock => landlock_version() >= ABI::V1,
        Need::Libvirt => {
            ["libvirtd", "virtlogd", "virsh", "dbus-daemon"].iter().all(|name| succeeds(name, &["--version"]))
        }
        Need::LoopDevices => succeeds("losetup", &["--find"]) && succeeds("partx", &["--version"]),
        Need::Macvtap => makes_links(&["v0 type veth peer name v1", "m0 link v0 type macvtap mode bridge"]),
        Need::NetworkNamespaces => makes_links(&["b0 type bridge", "v0 master b0 type veth peer name v1"]),
        Need::OldLandlock => matches!(landlock_version(), ABI::V1 | ABI::V2),
        Need::Qemu => succeeds("qemu-system-x86_64", &["-version"]) && succeeds("qemu-img", &["--version"]),
        Need::QemuBridgeHelper => Path::new("/usr/lib/qemu/qemu-bridge-helper").exists(),
        Need::SquashedExport => std::env::var_os("BROKER_TESTS_SQUASHED").is_some(),
        Need::RenderNode => {
            let nodes = fs::read_dir("/dev/dri").into_iter().flatten().filter_map(Result::ok);
            let mut renders = nodes.filter(|node| node.file_name().as_encoded_bytes().starts_with(b"renderD"));
            renders.any(|node| opens_for_writing(node.path())) && lists("-display", "egl-headless")
        }
        Need::Root => rustix::process::getuid().is_root(),
        Need::Strace => succeeds("strace", &["-V"]),
        Need::Swtpm => succeeds("swtpm", &["--version"]),
        Need::TlsTools => ["certtool", "psktool", "gnutls-cli"].iter().all(|tool| succeeds(tool, &["--version"])),
        Need::Tools => TOOLS.iter().all(|tool| succeeds(tool, &["--version"])),
        Need::Tun => Network::new().is_ok_and(|network| network.ip("tuntap add dev t0 mode tap").is_ok()),
        Need::UsbStick => usb_stick().is_some(),
        Need::UserNamespaces => user_namespaces_work(),
        Need::Windows => has_windows(),
        Need::VhostNet => opens_for_writing("/dev/vhost-net"),
        Need::Virtiofsd => VIRTIOFSD.iter().any(|program| Path::new(program).exists()),
    }
}

/// The name in [`USB_DEVICES`] of the stick that the tests may write.
#[must_use]
pub fn usb_stick() -> Option<String> {
    let says = |of: &Path| fs::read_to_string(of.join("serial")).is_ok_and(|serial| serial.trim() == STICK);
    let entries = fs::read_dir(USB_DEVICES).ok()?.flatten();
    entries.filter(|entry| says(&entry.path())).find_map(|entry| entry.file_name().into_string().ok())
}

/// Whether a file is there and may be written.
fn opens_for_writing(path: impl AsRef<Path>) -> bool {
    fs::OpenOptions::new().read(true).write(true).open(path).is_ok()
}

/// Whether QEMU has its modules for windows, and there is an X server for them.
fn has_windows() -> bool {
    let has_both = ["gtk", "sdl"].iter().all(|kind| lists("-display", kind));
    has_both && succeeds("Xvfb", &["-help"]) && succeeds("xwininfo", &["-version"])
}

/// Whether QEMU has this value of an option, by the list that it prints.
fn lists(option: &str, value: &str) -> bool {
    let answer = Command::new("qemu-system-x86_64").args([option, "help"]).output();
    answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).lines().any(|line| line.trim() == value))
}

/// Whether a program is there and ends well.
fn succeeds(program: &str, arguments: &[&str]) -> bool {
    quiet(program, arguments).status().is_ok_and(|status| status.success())
}

/// Whether these interfaces can be made, one after the other, in a network namespace of their own.
fn makes_links(links: &[&str]) -> bool {
    let all = |network: Network| links.iter().all(|link| network.ip(&format!("link add {link}")).is_ok());
    Network::new().is_ok_and(all)
}

/// A program that says nothing.
fn quiet(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether an ordinary user can make a user namespace: distributions turn it off in several ways
/// (`kernel.unprivileged_userns_clone`, `user.max_user_namespaces`, AppArmor), so it is tried.
fn user_namespaces_work() -> bool {
    let mut command = quiet("unshare", &["--user", "--map-root-user", "true"]);
    if rustix::process::getuid().is_root() {
        command.uid(ORDINARY_USER).gid(ORDINARY_USER);
    }
    command.status().is_ok_and(|status| status.success())
}

/// The kernel's Landlock version. The crate tells it only to a thread that has put itself under a ruleset, so
/// a thread made for that does; the others stay as they are.
fn landlock_version() -> ABI {
    static VERSION: OnceLock<ABI> = OnceLock::new();
    *VERSION.get_or_init(|| std::thread::spawn(confine_this_thread).join().unwrap_or(ABI::Unsupported))
}

/// The work of [`landlock_version`], in a thread that ends here.
fn confine_this_thread() -> ABI {
    let rights: BitFlags<AccessFs> = AccessFs::from_all(ABI::V1);
    let status = || -> Result<LandlockStatus, RulesetError> {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(rights)?;
        Ok(ruleset.create()?.restrict_self()?.landlock)
    };
    status().map_or(ABI::Unsupported, ABI::from)
}

#[cfg(test)]
mod tests {
    use super::is_listed;

    #[test]
    fn a_list_names_what_must_run() {
        assert!(is_listed("root,qemu", "qemu"));
        assert!(!is_listed("root,qemu", "kvm"));
        assert!(!is_listed("", "kvm"));
    }

    #[test]
    fn all_leaves_out_only_what_it_says() {
        assert!(is_listed("all", "kvm"));
        assert!(is_listed("all-but:kvm,guest", "qemu"));
        assert!(!is_listed("all-but:kvm,guest", "guest"));
    }
}
