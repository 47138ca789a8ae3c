//! Devices and memory of the host: what is there is used, and what is missing is missed in the emulator's own words.

use std::fs;

use rustix::fs::{CWD, FileType, Mode};
use serde_json::json;
use tests::{BrokerCommand, During, Error, ORDINARY_USER, PLAIN_QEMU, Result, Workdir, need};

/// Runs the emulator with `words` to its end, bare or not, and returns its exit status and its own messages.
fn outcome(words: &[&str], bare: bool) -> Result<(Option<i32>, String)> {
    let workdir = Workdir::new()?;
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(words.iter().copied());
    let finished = if bare { command.bare() } else { command }.run()?;
    let lines = finished.stderr.lines().filter(|line| !line.starts_with("broker: "));
    Ok((finished.status.code(), lines.collect::<Vec<_>>().join("\n")))
}

#[test]
fn devices_that_are_missing_are_missed_as_in_plain_qemu() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for words in [
        &["-object", "input-linux,id=i,evdev=/dev/input/event99"][..],
        &["-device", "virtio-input-host-pci,evdev=/dev/input/event99"],
        &["-device", "u2f-passthru,hidraw=/dev/hidraw99"],
        &["-device", "vhost-vdpa-device-pci,vhostdev=/dev/vhost-vdpa-99"],
        &["-netdev", "vhost-vdpa,id=n,vhostdev=/dev/vhost-vdpa-99"],
        &["-tpmdev", "passthrough,id=t,path=/dev/tpm99", "-device", "tpm-tis,tpmdev=t"],
        &["-tpmdev", "passthrough,id=t,path=/dev/null,cancel-path=/dev/gone", "-device", "tpm-tis,tpmdev=t"],
        &["-display", "egl-headless,rendernode=/dev/dri/renderD99"],
        &["-device", "qemu-xhci", "-device", "usb-host,hostbus=9,hostaddr=99"],
        &["-device", "qemu-xhci", "-device", "usb-host,hostdevice=/dev/bus/usb/009/099"],
        &["-object", "memory-backend-shm,id=m"],
        &["-object", "iommufd,id=i,bogus=1"],
        &["-device", "vfio-pci,host=ff:1f.7"],
        &["-device", "vfio-pci-nohotplug,sysfsdev=/sys/bus/mdev/devices/gone"],
        &["-device", "vfio-pci"],
        &["-object", "iommufd,id=i", "-device", "vfio-pci,host=ff:1f.7,iommufd=i"],
        &["-device", "vfio-pci,host=bogus"],
    ] {
        let (bare, confined) = (outcome(words, true)?, outcome(words, false)?);
        assert_eq!(bare, confined, "{words:?}");
        assert_ne!(bare.0, Some(0), "{words:?}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_served_is_refused_by_name_before_the_start() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for (words, what) in [
        (["-device", "vfio-platform,host=x"], "the device vfio-platform is not served; use vfio-pci"),
        (["-global", "vfio-pci.host=01:00.0"], "host=01:00.0 is not served; write it into -device vfio-pci"),
        (["-device", "vfio-pci,sysfsdev=x"], "sysfsdev=x is no plain path of a device; write it as /sys/"),
        (["-device", "usb-mtp,rootdir=/srv"], "the device usb-mtp is not served; use -drive"),
        (["-device", "u2f-passthru"], "the device u2f-passthru is not served; add hidraw="),
        (["-object", "can-host-socketcan,id=c,if=can0,canbus=b"], "can-host-socketcan"),
        (["-object", "sev-guest,id=s"], "sev-guest"),
        (["-display", "gtk"], "the display gtk is not served; "),
        (["-display", "dbus"], "the display dbus is not served; "),
        (["-audiodev", "alsa,id=a"], "the sound driver alsa is not served; "),
    ] {
        let workdir = Workdir::new()?;
        let finished = BrokerCommand::new(&workdir).args(words).run()?;
        assert_eq!(finished.status.code(), Some(125), "{finished:?}");
        let line = finished.stderr.lines().find(|line| line.starts_with("broker: "));
        assert!(line.is_some_and(|line| line.contains(what)), "{finished:?}");
    }
    Ok(())
}

/// Starts with memory of each kind; the monitor tells what the emulator has.
fn use_memory(user: Option<u32>) -> Result<()> {
    let workdir = Workdir::new()?;
    workdir.write("random", &[7; 4096])?;
    let files = workdir.listing()?;
    let objects = [
        "memory-backend-file,id=folder,size=2M,share=on,mem-path=/dev/shm",
        "memory-backend-file,id=file,size=2M,share=on,mem-path=memory",
        "memory-backend-memfd,id=memfd,size=2M,share=on,seal=on",
        "memory-backend-ram,id=ram,size=2M",
        "iothread,id=thread",
        "thread-context,id=context",
        "rng-random,id=random,filename=random",
    ];
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-accel", "tcg", "-mem-path", "/dev/shm"]);
    let command = command.args(objects.iter().flat_map(|object| ["-object", object]));
    let command = command.args(["-device", "virtio-rng-pci,rng=random"]);
    let (mut emulator, mut qmp) = match user {
        Some(user) => command.user(user),
        None => command,
    }
    .start_with_monitor()?;
    let backends = qmp.execute("query-memdev", json!({}))?;
    let found = backends.as_array().map_or(0, Vec::len);
    assert_eq!(found, 5, "four and the machine's own: {backends}");
    assert_eq!(fs::metadata(workdir.path("memory")).during("look at the memory")?.len(), 2 << 20);
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    let expected = files.into_iter().chain(["memory".into()]).collect();
    emulator.assert_nothing_left(&workdir, &expected)
}

#[test]
fn memory_and_objects_of_each_kind_as_root() -> Result<()> {
    need!(Root, Qemu, Landlock);
    use_memory(None)
}

#[test]
fn memory_and_objects_of_each_kind_as_an_ordinary_user() -> Result<()> {
    need!(UserNamespaces, Qemu, Landlock);
    use_memory(Some(ORDINARY_USER))
}

/// Whether the emulator runs with POSIX shared memory as its guest's, which it does since 9.1.
fn runs_with_shared_memory(bare: bool) -> Result<bool> {
    let workdir = Workdir::new()?;
    let object = ["-object", "memory-backend-shm,id=m,size=64M", "-machine", "memory-backend=m", "-accel", "tcg"];
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(object);
    let started = if bare { command.bare() } else { command }.start_with_monitor();
    let Ok((mut emulator, mut qmp)) = started else { return Ok(false) };
    let backends = qmp.execute("query-memdev", json!({}))?;
    assert_eq!(backends.pointer("/0/size"), Some(&json!(64 << 20)), "{backends}");
    qmp.quit()?;
    Ok(emulator.wait()?.status.success())
}

#[test]
fn shared_memory_is_had_where_plain_qemu_has_it() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    assert_eq!(runs_with_shared_memory(false)?, runs_with_shared_memory(true)?);
    Ok(())
}

#[test]
fn a_node_that_was_removed_gives_nobody_elses_device() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (node, number) = (workdir.path("node"), rustix::fs::makedev(1, 5));
    let make = || rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, number);
    make().during("make a node of /dev/zero")?;
    let object = ["-object", "rng-random,id=first,filename=node", "-accel", "tcg"];
    let (mut emulator, mut qmp) = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(object).start_with_monitor()?;
    let mut add = |id: &str| qmp.execute("object-add", json!({"qom-type": "rng-random", "id": id, "filename": "node"}));
    add("second").map_err(|error| emulator.explain(error))?;
    fs::remove_file(&node).during("remove the node")?;
    let refused = add("third");
    assert!(matches!(&refused, Err(Error::Refused { description, .. }) if description.contains("No such device")));
    emulator.wait_for_message("the device node that `-object rng-random,id=first,filename=node` grants was removed")?;
    // A node that takes its place is another one.
    make().during("make another node")?;
    assert!(add("fourth").is_err());
    qmp.quit()?;
    assert!(emulator.wait()?.status.success());
    Ok(())
}
