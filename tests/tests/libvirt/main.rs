//! The life of a guest under libvirt, whose `<emulator>` is the broker: nothing of libvirt is changed, and it need not know.

mod host;

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use host::Host;
use rustix::fs::OFlags;
use tests::{ALIVE, During, Error, Result, need};

/// What is probed: libvirt asks a confined QEMU what it can do, by a daemon's QMP socket and pid file, and believes it.
#[test]
fn capabilities_are_those_of_the_emulator_itself() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, UserNamespaces, NetworkNamespaces, Libvirt);
    let host = Host::new()?;
    let capabilities = |emulator: &str| -> Result<String> {
        let words = ["domcapabilities", "--virttype", "qemu", "--emulatorbin", emulator];
        let text = host.libvirt.virsh(&words)?;
        Ok(text.lines().filter(|line| !line.contains("<path>")).collect::<Vec<_>>().join("\n"))
    };
    let ours = capabilities(&host.libvirt.emulator().to_string_lossy())?;
    assert_eq!(ours, capabilities("/usr/bin/qemu-system-x86_64")?);
    assert!(ours.contains("<arch>x86_64</arch>"), "{ours}");
    Ok(())
}

#[test]
fn two_guests_live_from_definition_to_destruction() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, UserNamespaces, NetworkNamespaces, Libvirt);
    let host = Host::new()?;
    for guest in ["one", "two"] {
        host.libvirt.virsh(&["start", guest])?;
        host.wait_for_state(guest, "running")?;
    }
    check_process(&host)?;
    check_console(&host)?;
    plug_and_unplug(&host)?;
    change_media(&host)?;
    snapshot_and_commit(&host)?;
    host.libvirt.virsh(&["suspend", "one"])?;
    host.wait_for_state("one", "paused")?;
    host.libvirt.virsh(&["resume", "one"])?;
    host.wait_for_state("one", "running")?;
    save_and_restore(&host)?;
    // The guest does not listen to its power button; that QEMU takes the command is what can be seen.
    host.libvirt.virsh(&["shutdown", "one"])?;
    for guest in ["one", "two"] {
        host.libvirt.virsh(&["destroy", guest])?;
        host.wait_for_state(guest, "shut off")?;
    }
    assert_eq!(host.refusals()?, Vec::<String>::new());
    Ok(())
}

/// libvirt's own process is the emulator: by its number it is put into control groups, bound to processors and ended.
fn check_process(host: &Host) -> Result<()> {
    let info = host.libvirt.virsh(&["dominfo", "one"])?;
    assert!(info.lines().any(|line| line.starts_with("State:") && line.ends_with("running")), "{info}");
    let number = host.libvirt.run(&["cat", "/run/libvirt/qemu/one.pid"])?;
    let name = host.libvirt.run(&["cat", &format!("/proc/{}/comm", number.trim())])?;
    assert_eq!(name.trim(), "qemu-system-x86");
    host.libvirt.virsh(&["vcpupin", "one", "0", "0"])?;
    host.libvirt.virsh(&["emulatorpin", "one", "0"])?;
    let vcpus = host.libvirt.virsh(&["vcpuinfo", "one"])?;
    let affinity = vcpus.lines().find(|line| line.starts_with("CPU Affinity:")).unwrap_or_default();
    assert!(affinity.trim_start_matches("CPU Affinity:").trim().starts_with("y-"), "{vcpus}");
    let threads = host.qmp("one", r#"{"execute":"query-cpus-fast"}"#)?;
    let thread = threads.pointer("/return/0/thread-id").ok_or_else(|| Error::Unexpected(threads.to_string()))?;
    host.libvirt.run(&["test", "-d", &format!("/proc/{}/task/{thread}", number.trim())]).map(|_| ())
}

/// The name of the terminal that libvirt learned is a terminal of the host, on which the guest speaks.
fn check_console(host: &Host) -> Result<()> {
    let terminal = host.libvirt.virsh(&["ttyconsole", "two"])?;
    assert!(terminal.starts_with("/dev/pts/"), "{terminal}");
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut opened =
        fs::File::options().read(true).custom_flags(flags).open(&terminal).during(format!("open {terminal}"))?;
    let mut text = Vec::new();
    tests::until(tests::PATIENCE, "the guest to speak", || {
        let mut part = [0; 4096];
        if let Ok(length) = opened.read(&mut part) {
            text.extend_from_slice(part.get(..length).unwrap_or_default());
        }
        let seen = String::from_utf8_lossy(&text);
        Ok((seen.contains(ALIVE) || seen.contains("WW")).then_some(()))
    })
}

/// A disk is plugged in and unplugged; and one of the other guest's is not to be had.
fn plug_and_unplug(host: &Host) -> Result<()> {
    let extra = host.image("one", "extra.qcow2").to_string_lossy().into_owned();
    let plug = ["--targetbus", "scsi", "--driver", "qemu", "--subdriver", "qcow2", "--live"];
    let plug = |path: &str| {
        let mut words = vec!["attach-disk", "one", path, "sdb"];
        words.extend(plug);
        host.libvirt.virsh(&words)
    };
    plug(&extra)?;
    assert!(host.disks("one")?.contains(&extra), "{}", host.disks("one")?);
    host.libvirt.virsh(&["detach-disk", "one", "sdb", "--live"])?;
    tests::until(tests::PATIENCE, "the disk to be gone", || Ok((!host.disks("one")?.contains(&extra)).then_some(())))?;
    let others = host.image("two", "extra.qcow2").to_string_lossy().into_owned();
    match plug(&others) {
        Ok(_) => return Err(Error::Unexpected("one guest got a disk of the other's folder".into())),
        Err(error) => assert!(error.to_string().contains("Permission denied"), "{error}"),
    }
    // That refusal was wanted.
    let refused = host.refusals()?;
    assert!(!refused.is_empty() && refused.iter().all(|line| line.contains("/files/two/")), "{refused:?}");
    let audit = host.workdir.aside().join("chains-of-libvirt/audit");
    fs::write(&audit, "").during("empty the audit file")
}

fn change_media(host: &Host) -> Result<()> {
    let disc = |name: &str| host.workdir.path(name).to_string_lossy().into_owned();
    let (first, second) = (disc("iso/a.iso"), disc("iso/b.iso"));
    host.libvirt.virsh(&["change-media", "one", "hdc", &first, "--insert", "--live"])?;
    host.libvirt.virsh(&["change-media", "one", "hdc", &second, "--update", "--live"])?;
    assert!(host.disks("one")?.contains(&second));
    host.libvirt.virsh(&["change-media", "one", "hdc", "--eject", "--live"])?;
    assert!(!host.disks("one")?.contains("iso/"));
    Ok(())
}

/// An overlay is put over the disk of the running guest and committed again, and so is the base below that.
fn snapshot_and_commit(host: &Host) -> Result<()> {
    let overlay = host.image("one", "overlay.qcow2").to_string_lossy().into_owned();
    let disk = format!("vda,file={overlay}");
    host.libvirt.virsh(&["snapshot-create-as", "one", "s1", "--disk-only", "--no-metadata", "--diskspec", &disk])?;
    assert!(host.disks("one")?.contains(&overlay));
    let top = host.image("one", "top.qcow2").to_string_lossy().into_owned();
    let words = ["blockcommit", "one", "vda", "--base", &top, "--active", "--pivot", "--wait"];
    host.libvirt.virsh(&words)?;
    assert!(host.disks("one")?.contains(&top) && !host.disks("one")?.contains(&overlay));
    fs::remove_file(&overlay).during("remove the overlay")
}

/// A guest that is saved stops to be a process, and goes on where it was.
fn save_and_restore(host: &Host) -> Result<()> {
    host.libvirt.virsh(&["managedsave", "one"])?;
    host.wait_for_state("one", "shut off")?;
    host.libvirt.virsh(&["start", "one"])?;
    host.wait_for_state("one", "running")?;
    let file = host.workdir.path("two.save").to_string_lossy().into_owned();
    host.libvirt.virsh(&["save", "two", &file])?;
    host.wait_for_state("two", "shut off")?;
    host.libvirt.virsh(&["restore", &file])?;
    host.wait_for_state("two", "running")
}

#[test]
fn a_guest_moves_to_another_libvirt() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, UserNamespaces, NetworkNamespaces, Libvirt);
    let host = Host::new()?;
    let second = host.second()?;
    host.libvirt.virsh(&["start", "one"])?;
    host.wait_for_state("one", "running")?;
    // Both share the images, and each has the broker as its emulator, at the path that the other one knows.
    let there = second.address();
    let words = ["migrate", "one", &there, "--live", "--unsafe", "--migrateuri", "tcp://127.0.0.1"];
    host.libvirt.virsh(&words)?;
    host.wait_for_state("one", "shut off")?;
    assert_eq!(second.virsh(&["domstate", "one"])?, "running");
    second.virsh(&["destroy", "one"])?;
    assert_eq!(host.refusals()?, Vec::<String>::new());
    Ok(())
}
