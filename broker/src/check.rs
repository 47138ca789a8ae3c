//! `broker check`: what this host offers, one row a feature, and what would mend what is missing.

use std::io;
use std::process::ExitCode;

use landlock::ABI;
use sandbox_profiles::{Profile, Variant};

use crate::confine::{landlock as domains, namespaces, seccomp};
use crate::host::read_number;
use crate::sys::process::{self, Fork};

/// Whether a guest can run without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Present,
    /// Missing; something stands in for it, or it is only needed by some guests.
    Replaced,
    /// Missing; no guest runs.
    Missing,
}

struct Row {
    feature: &'static str,
    state: State,
    text: String,
}

/// Landlock rights that came after the first ABI that is accepted, and what stands in for each on an older kernel.
const LATER_RIGHTS: [(ABI, &str, &str); 4] = [
    (ABI::V3, "truncation by path (Linux 6.2)", "the filter refuses truncate(2), and no image can be opened by path"),
    (ABI::V4, "TCP bind and connect (Linux 6.7)", "the network namespace is empty"),
    (
        ABI::V5,
        "ioctls on devices (Linux 6.10)",
        "the private /dev holds null, zero, full, random and urandom; other devices come from the broker",
    ),
    (
        ABI::V6,
        "signals and abstract sockets (Linux 6.12)",
        "the filter lets signals go to the emulator's own process only, and the network namespace has no other's sockets",
    ),
];

/// The rights that a kernel with this ABI lacks, each with what stands in for it.
#[must_use]
pub fn stand_ins(abi: ABI) -> Vec<(&'static str, &'static str)> {
    LATER_RIGHTS.iter().filter(|(since, ..)| abi < *since).map(|(_, right, instead)| (*right, *instead)).collect()
}

/// Prints the rows; success if a guest can run here.
#[must_use]
pub fn run() -> ExitCode {
    let mut rows = vec![kernel(), proc()];
    rows.extend(landlock());
    rows.extend([user_namespaces(), notification(), yama(), terminals()]);
    rows.extend(DEVICES.map(device));
    for row in &rows {
        let mark = match row.state {
            State::Present => "ok",
            State::Replaced => "--",
            State::Missing => "MISSING",
        };
        println!("{mark:<8} {:<20} {}", row.feature, row.text);
    }
    if rows.iter().any(|row| row.state == State::Missing) { ExitCode::from(125) } else { ExitCode::SUCCESS }
}

fn kernel() -> Row {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Row { feature: "kernel", state: State::Present, text: format!("Linux {release}") }
}

fn proc() -> Row {
    let state = if std::path::Path::new("/proc/self/fd").exists() { State::Present } else { State::Missing };
    let text = match state {
        State::Missing => "images are reopened through /proc/self/fd: mount -t proc proc /proc",
        _ => "mounted",
    };
    Row { feature: "proc", state, text: text.into() }
}

fn landlock() -> Vec<Row> {
    let abi = match domains::abi() {
        Err(error) => return vec![Row { feature: "landlock", state: State::Missing, text: error.to_string() }],
        Ok(abi) => abi,
    };
    if abi < ABI::V2 {
        let text = "ABI 1: use Linux 5.19 or newer".into();
        return vec![Row { feature: "landlock", state: State::Missing, text }];
    }
    let mut rows = vec![Row { feature: "landlock", state: State::Present, text: format!("ABI {}", abi as i32) }];
    rows.extend(stand_ins(abi).into_iter().map(|(right, instead)| Row {
        feature: "landlock right",
        state: State::Replaced,
        text: format!("no control over {right}; instead: {instead}"),
    }));
    rows
}

fn user_namespaces() -> Row {
    let (state, text) = match try_in_a_child(|| namespaces::enter().is_ok()) {
        Ok(true) => (State::Present, "user, mount, network, IPC and UTS namespaces can be created".into()),
        Ok(false) => (State::Missing, format!("cannot be created; to allow them: {}", namespaces::hint())),
        Err(error) => (State::Missing, format!("cannot be tried: {error}")),
    };
    Row { feature: "user namespaces", state, text }
}

fn notification() -> Row {
    let feature = "user notification";
    let filter = match seccomp::compile(Profile::QemuSystem, &Variant::default()) {
        Ok(filter) => filter,
        Err(error) => return Row { feature, state: State::Missing, text: error.to_string() },
    };
    let install = || {
        let listener = rustix::thread::set_no_new_privs(true)
            .map_err(io::Error::from)
            .and_then(|()| seccomp::install_emulator_filter(&filter).map_err(io::Error::other));
        listener.is_ok()
    };
    let (state, text) = match try_in_a_child(install) {
        Ok(true) => (State::Present, "system calls can be intercepted".into()),
        Ok(false) => (
            State::Missing,
            "cannot be installed: use Linux 5.19 or newer, outside of any container that intercepts system calls"
                .into(),
        ),
        Err(error) => (State::Missing, format!("cannot be tried: {error}")),
    };
    Row { feature, state, text }
}

fn yama() -> Row {
    let (state, text) = match read_number("/proc/sys/kernel/yama/ptrace_scope") {
        None => (State::Present, "not there".to_owned()),
        Some(0) => (State::Present, "ptrace_scope 0".to_owned()),
        Some(scope @ (1 | 2)) => {
            let instead = "agents keep CAP_SYS_PTRACE over the sandbox's own user namespace";
            (State::Replaced, format!("ptrace_scope {scope}; instead: {instead}"))
        }
        Some(scope) => {
            (State::Missing, format!("ptrace_scope {scope} forbids to read the emulator's memory; boot with 2 or less"))
        }
    };
    Row { feature: "yama", state, text }
}

fn terminals() -> Row {
    let (state, text) = match read_number("/proc/sys/dev/tty/legacy_tiocsti") {
        Some(0) => (State::Present, "no process can type into its terminal (legacy_tiocsti is 0)"),
        _ => (
            State::Replaced,
            "a process can type into its terminal; instead: the filter looks at ioctls where a terminal is inherited \
             (faster with sysctl dev.tty.legacy_tiocsti=0)",
        ),
    };
    Row { feature: "terminals", state, text: text.into() }
}

/// A device that some guests are handed: feature, path, and what to do without it.
const DEVICES: [(&str, &str, &str); 3] = [
    ("kvm", "/dev/kvm", "guests run under TCG (load kvm_intel or kvm_amd, or join the group kvm)"),
    (
        "taps",
        "/dev/net/tun",
        "no tap can be opened or made (modprobe tun, and let all users open it: chmod 666 /dev/net/tun)",
    ),
    ("vhost-net", "/dev/vhost-net", "vhost=on is refused (modprobe vhost_net, or join the group kvm)"),
];

fn device((feature, path, without): (&'static str, &str, &str)) -> Row {
    let (state, text) = match std::fs::File::options().read(true).write(true).open(path) {
        Ok(_) => (State::Present, format!("{path} can be opened")),
        Err(error) => (State::Replaced, format!("{path}: {error}; {without}")),
    };
    Row { feature, state, text }
}

/// Tries something that cannot be undone.
fn try_in_a_child(attempt: impl FnOnce() -> bool) -> io::Result<bool> {
    match process::fork()? {
        Fork::Child => process::exit_now(i32::from(!attempt())),
        Fork::Parent(child) => {
            let status = nix::sys::wait::waitpid(child, None)?;
            Ok(status == nix::sys::wait::WaitStatus::Exited(child, 0))
        }
    }
}
