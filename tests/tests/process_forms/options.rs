//! Options about QEMU's own process, compared with the same start without the broker.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::{BrokerCommand, PLAIN_QEMU, Process, Qmp, Result, Workdir, need, raw_boot_disk};

/// Starts with `words` and looks by `look`, with the broker and without; what was seen is returned.
fn assert_same<T: PartialEq + std::fmt::Debug>(
    words: &[&str],
    look: impl Fn(Process, &mut Qmp) -> Result<T>,
) -> Result<T> {
    let start = |bare: bool| -> Result<T> {
        let workdir = Workdir::new()?;
        raw_boot_disk(&workdir, "disk.raw")?;
        let command = BrokerCommand::new(&workdir).boot_sector("file=disk.raw,format=raw").args(words);
        let command = if bare { command.bare() } else { command };
        let (mut emulator, mut qmp) = command.start_with_monitor()?;
        let seen = look(emulator.process(), &mut qmp)?;
        qmp.quit()?;
        assert_eq!(emulator.wait()?.status.code(), Some(0), "{words:?}");
        Ok(seen)
    };
    let (ours, bare) = (start(false)?, start(true)?);
    assert_eq!(ours, bare, "{words:?}");
    Ok(ours)
}

fn status(qmp: &mut Qmp) -> Result<String> {
    let answer = qmp.execute("query-status", json!({}))?;
    Ok(answer.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
}

#[test]
fn a_filter_of_its_own_is_added_to_ours() -> Result<()> {
    need!(Qemu, Landlock);
    let words = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    let filters = |words: &[&str], bare: bool| -> Result<u32> {
        let workdir = Workdir::new()?;
        let disk = raw_boot_disk(&workdir, "disk.raw")?;
        let drive = format!("file={},format=raw", disk.display());
        let command = BrokerCommand::new(&workdir).boot_sector(&drive).args(words);
        let command = if bare { command.bare() } else { command };
        let (emulator, mut qmp) = command.start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        tests::save_to_descriptor(&mut qmp, &workdir)?;
        qmp.execute("cont", json!({}))?;
        emulator.wait_for_writes(1)?;
        let status = emulator.process().status();
        let count = status.and_then(|status| status.field("Seccomp_filters").parse().ok()).unwrap_or_default();
        qmp.quit()?;
        Ok(count)
    };
    let added = |bare: bool| Ok::<_, tests::Error>(filters(&["-sandbox", words], bare)? - filters(&[], bare)?);
    let (ours, bare) = (added(false)?, added(true)?);
    assert!(ours == bare && ours > 0, "{ours} {bare}");
    Ok(())
}

#[test]
fn processes_and_threads_have_their_names() -> Result<()> {
    need!(Qemu, Landlock);
    let names = assert_same(&["-name", "guest=g,process=some-name,debug-threads=on"], |process, qmp| {
        // The processors' threads are there when this is answered.
        qmp.execute("query-cpus-fast", json!({}))?;
        let name = |status: &tests::ThreadStatus| status.field("Name").to_owned();
        let names: BTreeSet<String> = process.threads()?.iter().map(name).collect();
        // Of the others some come and go, and some have not taken their name yet.
        let own = |name: &String| name.starts_with("CPU ") || name == "some-name";
        Ok(names.into_iter().filter(own).collect::<BTreeSet<_>>())
    })?;
    assert!(names.len() == 2, "{names:?}");
    Ok(())
}

#[test]
fn a_guest_that_is_halted_stays_so() -> Result<()> {
    need!(Qemu, Landlock);
    let seen = assert_same(&["-S"], |_, qmp| {
        let before = status(qmp)?;
        qmp.execute("cont", json!({}))?;
        Ok([before, status(qmp)?])
    })?;
    assert_eq!(seen, ["prelaunch", "running"]);
    Ok(())
}

#[test]
fn what_a_reset_and_a_shutdown_do() -> Result<()> {
    need!(Qemu, Landlock);
    for words in [&["-no-reboot", "-no-shutdown"][..], &["-action", "reboot=shutdown,shutdown=pause"]] {
        let state = assert_same(words, |_, qmp| {
            qmp.execute("system_reset", json!({}))?;
            qmp.wait_event("SHUTDOWN")?;
            qmp.wait_event("STOP")?;
            status(qmp)
        })?;
        assert_eq!(state, "shutdown", "{words:?}");
    }
    Ok(())
}

#[test]
fn all_memory_at_once() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    for words in [&["-mem-prealloc"][..], &["-overcommit", "mem-lock=off"]] {
        let (_emulator, mut qmp) = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(words).start_with_monitor()?;
        qmp.quit()?;
    }
    Ok(())
}

#[test]
fn locked_memory_needs_the_limit_or_the_right() -> Result<()> {
    need!(Qemu, Landlock, Broker, Root);
    let workdir = Workdir::new()?;
    let locked = |line: &str| {
        let command = BrokerCommand::new(&workdir).through(["sh", "-c", line, "sh"]);
        command.args(PLAIN_QEMU).args(["-overcommit", "mem-lock=on"])
    };
    // Whoever may raise the limit has it raised, and the others read how to.
    let finished = locked("exec setpriv --bounding-set -sys_resource --inh-caps -all \"$@\"").start()?;
    finished.wait_for_message("ulimit -l unlimited")?;
    let raised = BrokerCommand::new(&workdir).bare().program("sh").args(["-c", "ulimit -l unlimited"]).run()?;
    if raised.status.success() {
        let (emulator, mut qmp) = locked("exec \"$@\"").start_with_monitor()?;
        let locked = emulator.process().status();
        let locked = locked.map(|status| status.field("VmLck").to_owned()).unwrap_or_default();
        assert_ne!(locked, "0 kB");
        qmp.quit()?;
    }
    Ok(())
}
