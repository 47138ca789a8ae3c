//! Losing the agent or the broker must not lose the guest: it runs on, and a later open is answered, with a
//! descriptor or with an error, never not at all.

use std::thread::sleep;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{BrokerCommand, Emulator, Error, Process, Qmp, Result, Workdir, need, two_level_chain};

/// The helpers in the emulator's mount namespace (the agent, and what starts it anew), or those outside it
/// (the broker).
fn helpers(emulator: &Emulator, inside: bool) -> Result<Vec<Process>> {
    let sandbox = emulator.process().namespace("mnt")?;
    let mut found = Vec::new();
    for helper in emulator.helpers()? {
        if (helper.namespace("mnt")? == sandbox) == inside {
            found.push(helper);
        }
    }
    assert!(!found.is_empty(), "no helper {}", if inside { "inside" } else { "outside" });
    Ok(found)
}

/// A guest that runs, its disk an explicit node that can be opened again.
fn start(workdir: &Workdir) -> Result<(Emulator, Qmp)> {
    two_level_chain(workdir)?;
    let command = BrokerCommand::new(workdir).args(tests::PLAIN_QEMU).args([
        "-accel",
        "tcg",
        "-serial",
        "stdio",
        "-blockdev",
        "driver=file,node-name=file,filename=top.qcow2",
        "-blockdev",
        "driver=qcow2,node-name=disk,file=file",
        "-device",
        "virtio-blk-pci,drive=disk",
    ]);
    let (emulator, qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    Ok((emulator, qmp))
}

/// Makes QEMU open its image once more.
fn reopen(qmp: &mut Qmp, direct: bool) -> Result<Value> {
    let file = json!({
        "driver": "file", "node-name": "file", "filename": "top.qcow2", "cache": { "direct": direct },
    });
    qmp.execute("blockdev-reopen", json!({ "options": [file] }))
}

#[test]
fn the_guest_outlives_the_broker() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (mut emulator, mut qmp) = start(&workdir)?;
    for broker in helpers(&emulator, false)? {
        broker.signal(Signal::KILL)?;
    }
    emulator.wait_for_writes(2)?;
    let answer = reopen(&mut qmp, true);
    assert!(matches!(answer, Err(Error::Refused { .. })), "no broker, no access: {answer:?}");
    emulator.wait_for_writes(2)?;
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    emulator.assert_nothing_left(&workdir, &workdir.listing()?)
}

#[test]
fn the_guest_outlives_the_agent() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (mut emulator, mut qmp) = start(&workdir)?;
    for round in 0..3 {
        // The one that works and the one that waits for its end cannot be told apart from outside.
        let agent = helpers(&emulator, true)?.into_iter().next_back();
        agent.unwrap().signal(Signal::KILL)?;
        emulator.wait_for_writes(2)?;
        match reopen(&mut qmp, round % 2 == 0) {
            Ok(_) | Err(Error::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        emulator.wait_for_writes(2)?;
    }
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    emulator.assert_nothing_left(&workdir, &workdir.listing()?)
}

#[test]
fn helpers_killed_at_any_moment_of_the_start_hang_nothing() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let files = workdir.listing()?;
    let start = || BrokerCommand::new(&workdir).boot_sector("file=top.qcow2,format=qcow2").start();
    let began = Instant::now();
    start()?.wait_for_writes(1)?;
    let undisturbed = began.elapsed();
    for sixteenths in 0..16 {
        let mut emulator = start()?;
        sleep(undisturbed * sixteenths / 16);
        for helper in emulator.helpers()? {
            // It may have ended by itself.
            let _ = helper.signal(Signal::KILL);
        }
        // Either the emulator had all it needed and runs, or it ends with an error: it never waits for ever.
        emulator.wait_for_a_write_or_the_end()?;
        let _ = emulator.signal(Signal::KILL);
        emulator.wait()?;
        emulator.assert_nothing_left(&workdir, &files)?;
    }
    Ok(())
}
