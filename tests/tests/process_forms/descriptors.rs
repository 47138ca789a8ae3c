//! Of the descriptors that the caller has open, those that the command line names survive, at their own numbers.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::{BrokerCommand, PLAIN_QEMU, Process, Result, Workdir, need};

/// What a process has open of these files.
fn open_of(process: Process, files: &[&PathBuf]) -> Result<Vec<(u32, PathBuf)>> {
    Ok(process.descriptors()?.into_iter().filter(|(_, target)| files.contains(&target)).collect())
}

#[test]
fn only_the_named_ones_survive() -> Result<()> {
    need!(Qemu, Landlock, Broker, Root);
    let workdir = Workdir::new()?;
    let strange = workdir.write("strange", b"nobody's business")?;
    let image = workdir.write("image", &[7; 4096])?;
    let named = workdir.write("named", b"")?;
    // More than two hundred. Of a descriptor set QEMU keeps a copy, under another number.
    let line = "for n in $(seq 10 220); do eval \"exec $n<strange\"; done; exec 77<image 150>named; exec \"$@\"";
    let command = BrokerCommand::new(&workdir).through(["bash", "-c", line, "bash"]).args(PLAIN_QEMU).args([
        "-add-fd",
        "fd=77,set=1",
        "-blockdev",
        "driver=file,node-name=image,filename=/dev/fdset/1,read-only=on",
        "-add-fd",
        "fd=150,set=2",
        "-chardev",
        "file,id=named,path=/dev/fdset/2",
        "-serial",
        "chardev:named",
    ]);
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    let nodes = qmp.execute("query-named-block-nodes", json!({}))?;
    assert_eq!(nodes.pointer("/0/image/virtual-size").and_then(Value::as_u64), Some(4096), "{nodes}");
    assert!(!open_of(emulator.process(), &[&image])?.is_empty() && !open_of(emulator.process(), &[&named])?.is_empty());
    assert_eq!(open_of(emulator.process(), &[&strange])?, []);
    for helper in emulator.helpers()? {
        assert_eq!(open_of(helper, &[&strange, &image, &named])?, [], "{helper:?}");
    }
    // The monitor's, at its own number.
    let monitor = fs::read_link(format!("/proc/{}/fd/9", emulator.process().0)).unwrap();
    assert!(monitor.to_string_lossy().starts_with("socket:"), "{}", monitor.display());
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    Ok(())
}

#[test]
fn a_migration_by_descriptors_from_one_guest_to_another() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let pipe = workdir.aside().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    // A FIFO that is open for both waits for nobody.
    let both = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let line = format!("exec 88<{}; exec \"$@\"", pipe.display());
    let command = BrokerCommand::new(&workdir).through(["bash", "-c", &line, "bash"]).args(PLAIN_QEMU);
    let (_target, mut there) = command.args(["-S", "-incoming", "fd:88"]).start_with_monitor()?;
    let (_source, mut here) = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-S"]).start_with_monitor()?;
    there
        .execute("migrate-set-capabilities", json!({ "capabilities": [{ "capability": "events", "state": true }] }))?;
    here.execute_with("getfd", json!({ "fdname": "out" }), both.as_fd())?;
    drop(both);
    here.execute("migrate", json!({ "uri": "fd:out" }))?;
    loop {
        let event = there.wait_event("MIGRATION")?;
        match event.pointer("/data/status").and_then(Value::as_str) {
            Some("completed") => break,
            Some("failed") => panic!("{event}"),
            _ => {}
        }
    }
    here.quit()?;
    there.quit()
}
