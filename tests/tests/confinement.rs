//! What `/proc` shows of a running emulator: every thread confined, no descriptor too many.

use std::collections::BTreeSet;
use std::path::Path;

use tests::{
    BrokerCommand, Emulator, ORDINARY_USER, Process, Qmp, Result, Workdir, need, save_to_descriptor, two_level_chain,
};

/// Starts the boot sector with a thread of its own for the disk, and makes QEMU start its migration thread.
fn start(workdir: &Workdir, prepare: impl FnOnce(BrokerCommand) -> BrokerCommand) -> Result<(Emulator, Qmp)> {
    two_level_chain(workdir)?;
    let command = BrokerCommand::new(workdir).args(tests::PLAIN_QEMU).args([
        "-accel",
        "tcg",
        "-serial",
        "stdio",
        "-object",
        "iothread,id=io",
        "-drive",
        "file=top.qcow2,format=qcow2,if=none,id=disk",
        "-device",
        "virtio-blk-pci,drive=disk,iothread=io",
    ]);
    let (emulator, mut qmp) = prepare(command).start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    save_to_descriptor(&mut qmp, workdir)?;
    Ok((emulator, qmp))
}

/// Fails unless every thread is under the filter, without privileges, and of this user and group only.
fn assert_confined(process: Process, user: u32) -> Result<()> {
    let threads = process.threads()?;
    assert!(threads.len() >= 3, "main loop, vCPU and I/O thread: {threads:?}");
    let ids = [user; 4].map(|id| id.to_string()).join(" ");
    for thread in threads {
        for (field, wanted) in [("Seccomp", "2"), ("NoNewPrivs", "1"), ("Uid", &*ids), ("Gid", &*ids), ("Groups", "")] {
            assert_eq!(thread.field(field), wanted, "{field} of {thread:?}");
        }
        for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(thread.field(field).trim_matches('0'), "", "{field} of {thread:?}");
        }
    }
    Ok(())
}

#[test]
fn every_thread_is_confined_when_root_names_a_user() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let user = ORDINARY_USER;
    let (emulator, _qmp) = start(&workdir, |command| command.options(["--user", &format!("{user}:{user}")]))?;
    assert_confined(emulator.process(), user)
}

#[test]
fn every_thread_is_confined_for_an_ordinary_user() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (emulator, _qmp) = start(&workdir, |command| command.user(ORDINARY_USER))?;
    let own = rustix::process::getuid();
    assert_confined(emulator.process(), if own.is_root() { ORDINARY_USER } else { own.as_raw() })
}

#[test]
fn the_emulator_is_in_namespaces_of_its_own() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (emulator, _qmp) = start(&workdir, |command| command)?;
    let own = Process(std::process::id());
    for name in ["mnt", "net", "ipc", "uts"] {
        assert_ne!(emulator.process().namespace(name)?, own.namespace(name)?, "{name}");
    }
    assert_eq!(emulator.process().namespace("pid")?, own.namespace("pid")?, "thread numbers are the host's");
    Ok(())
}

#[test]
fn the_emulator_holds_only_its_own_descriptors() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (emulator, _qmp) = start(&workdir, |command| command)?;
    let mut sockets = 0;
    let mut files = BTreeSet::new();
    for (number, target) in emulator.process().descriptors()? {
        let text = target.to_string_lossy().into_owned();
        if text.starts_with("socket:") {
            sockets += 1;
        } else if number > 2 && !text.starts_with("anon_inode:") && !text.starts_with("/memfd:") {
            files.insert(target);
        }
    }
    assert_eq!(sockets, 1, "only the monitor's: {files:?}");
    let allowed = ["/dev/null", "base.raw", "mid.qcow2", "top.qcow2"].map(Path::new);
    for file in &files {
        assert!(allowed.iter().any(|name| file.ends_with(name.strip_prefix("/").unwrap_or(name))), "{files:?}");
    }
    Ok(())
}
