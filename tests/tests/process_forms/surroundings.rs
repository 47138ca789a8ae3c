//! Whatever the caller's surroundings, the emulator finds the same as without the broker.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use tests::{BrokerCommand, During, PATIENCE, Process, Result, Workdir, need, raw_boot_disk, until};

/// The lines of the shell that becomes the program behind it.
fn shell(line: &str) -> Vec<String> {
    ["sh", "-c", line, "sh"].map(str::to_owned).into()
}

/// Variables that differ from start to start: the harness's marker, and what the shell knows of folders.
const OWN: [&str; 3] = ["BROKER_TEST_START=", "PWD=", "OLDPWD="];

/// What a process has of its caller's, by names of the test's own.
fn seen(process: Process) -> Result<BTreeMap<String, String>> {
    let mut seen = BTreeMap::new();
    for name in ["cgroup", "oom_score_adj", "environ", "limits"] {
        let path = format!("/proc/{}/{name}", process.0);
        let text = String::from_utf8_lossy(&fs::read(&path).during(path)?).into_owned();
        // The broker takes message queues away.
        let line = |line: &&str| !line.starts_with("Max msgqueue size");
        let text: Vec<&str> = text.split(['\0', '\n']).filter(line).collect();
        let plain = |word: &&&str| !OWN.iter().any(|name| word.starts_with(name));
        seen.insert(name.to_owned(), text.iter().filter(plain).copied().collect::<Vec<_>>().join("\n"));
    }
    let status = process.status();
    for field in ["Cpus_allowed_list", "Mems_allowed_list", "SigIgn", "SigBlk", "Umask"] {
        seen.insert(field.to_owned(), status.as_ref().map_or("", |status| status.field(field)).to_owned());
    }
    for thread in process.threads()? {
        let at = format!("the processors of {}", thread.field("Name"));
        seen.insert(at, thread.field("Cpus_allowed_list").to_owned());
    }
    let stat = format!("/proc/{}/stat", process.0);
    let stat = fs::read_to_string(&stat).during(stat)?;
    let nice = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(16));
    seen.insert("nice".into(), nice.unwrap_or_default().to_owned());
    let pid = process.0.to_string();
    let priority = std::process::Command::new("ionice").args(["-p", &pid]).output().during("run ionice")?;
    seen.insert("ionice".into(), String::from_utf8_lossy(&priority.stdout).into_owned());
    Ok(seen)
}

/// Starts a guest by way of `line`, waits for its writes, and looks at it; its last output is a file that it makes.
fn start(line: &str, bare: bool) -> Result<BTreeMap<String, String>> {
    let workdir = Workdir::new()?;
    let disk = raw_boot_disk(&workdir, "disk.raw")?;
    let log = workdir.path("serial.log");
    let drive = format!("if=virtio,format=raw,file={}", disk.display());
    let serial = format!("file:{}", log.display());
    let command = BrokerCommand::new(&workdir).through(shell(line)).args(tests::PLAIN_QEMU);
    let command = command.args(["-accel", "tcg", "-drive", &drive, "-serial", &serial]);
    let command = if bare { command.bare() } else { command };
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    until(PATIENCE, "the guest's writes", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        Ok(text.contains(tests::WROTE).then_some(()))
    })?;
    let mut seen = seen(emulator.process())?;
    seen.insert("mode of new files".into(), format!("{:o}", fs::metadata(&log).during("stat the log")?.mode()));
    tests::save_to_descriptor(&mut qmp, &workdir)?;
    qmp.execute("cont", json!({}))?;
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0), "{line}");
    Ok(seen)
}

/// The start by way of `line` is the same with the broker and without; it is returned.
fn assert_same(line: &str) -> Result<BTreeMap<String, String>> {
    let (ours, bare) = (start(line, false)?, start(line, true)?);
    for (name, ours) in &ours {
        assert_eq!(Some(ours), bare.get(name), "{line}: {name}");
    }
    assert_eq!(ours.len(), bare.len(), "{line}");
    Ok(ours)
}

fn value<'a>(seen: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    seen.get(name).map_or("", String::as_str)
}

#[test]
fn processors_priorities_and_umask_are_kept() -> Result<()> {
    need!(Qemu, Landlock);
    let line = "umask 077; echo 300 >/proc/self/oom_score_adj; exec taskset -c 1 nice -n 5 ionice -c 2 -n 7 \"$@\"";
    if std::thread::available_parallelism().is_ok_and(|count| count.get() < 2) {
        println!("SKIPPED: need two processors");
        return Ok(());
    }
    let seen = assert_same(line)?;
    assert_eq!(value(&seen, "Cpus_allowed_list"), "1");
    assert_eq!(value(&seen, "nice"), "5");
    assert_eq!(value(&seen, "oom_score_adj").trim(), "300");
    assert_eq!(value(&seen, "mode of new files"), "100600");
    assert!(value(&seen, "ionice").contains("prio 7"), "{seen:?}");
    Ok(())
}

#[test]
fn few_descriptors_and_many() -> Result<()> {
    need!(Qemu, Landlock);
    let seen = assert_same("ulimit -n 64; exec \"$@\"")?;
    assert!(value(&seen, "limits").contains("Max open files            64                   64"), "{seen:?}");
    assert_same("ulimit -Sn 64; exec \"$@\"")?;
    // What is more than the system allows is refused by the shell, and then there is nothing to compare.
    assert_same("ulimit -n 1048576 2>/dev/null; exec \"$@\"").map(drop)
}

#[test]
fn few_descriptors_and_all_that_takes_some() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let words = [
        ["-incoming", "exec:sleep 1000"],
        ["-qmp", "unix:qmp.sock,server=on,wait=off"],
        ["-serial", "unix:serial.sock,server=on,wait=off"],
        ["-parallel", "unix:parallel.sock,server=on,wait=off"],
        ["-pidfile", "qemu.pid"],
        ["-D", "qemu.log"],
    ];
    let command = BrokerCommand::new(&workdir).through(shell("ulimit -n 64; exec \"$@\"")).args(tests::PLAIN_QEMU);
    let (mut emulator, mut qmp) = command.args(words.into_iter().flatten()).start_with_monitor()?;
    assert!(fs::exists(workdir.path("qmp.sock")).unwrap() && fs::exists(workdir.path("serial.sock")).unwrap());
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    Ok(())
}

#[test]
fn an_empty_environment() -> Result<()> {
    need!(Qemu, Landlock);
    let seen = assert_same("exec env -i \"$@\"")?;
    assert_eq!(value(&seen, "environ"), "");
    Ok(())
}

#[test]
fn closed_standard_descriptors() -> Result<()> {
    need!(Qemu, Landlock);
    assert_same("exec \"$@\" <&- >&- 2>&-")?;
    for closed in ["<&-", ">&-", "2>&-"] {
        start(&format!("exec \"$@\" {closed}"), false)?;
    }
    Ok(())
}

#[test]
fn ignored_and_blocked_signals() -> Result<()> {
    need!(Qemu, Landlock);
    assert_same("trap '' INT TERM CHLD PIPE HUP USR1 TSTP; exec \"$@\"").map(drop)
}

#[test]
fn a_folder_that_was_removed() -> Result<()> {
    need!(Qemu, Landlock);
    assert_same("folder=$(mktemp -d) && cd $folder && rmdir $folder && exec \"$@\"").map(drop)
}

#[test]
fn names_of_a_removed_folder_lead_nowhere() -> Result<()> {
    need!(Qemu, Landlock, Broker);
    let workdir = Workdir::new()?;
    let line = "folder=$(mktemp -d) && cd $folder && rmdir $folder && exec \"$@\"";
    // With the root taken for that folder, they would be there.
    let words = [["-kernel", "etc/passwd"], ["-hda", "etc/passwd"], ["-serial", "file:tmp/made-in-a-removed-folder"]];
    for words in words {
        let finished = BrokerCommand::new(&workdir).through(shell(line)).args(tests::PLAIN_QEMU).args(words).run()?;
        assert!(!finished.status.success(), "{finished:?}");
        assert!(finished.stderr.contains("No such file or directory"), "{finished:?}");
    }
    let (_emulator, mut qmp) =
        BrokerCommand::new(&workdir).through(shell(line)).args(tests::PLAIN_QEMU).start_with_monitor()?;
    let node = json!({ "driver": "file", "node-name": "n", "filename": "etc/passwd", "read-only": true });
    let answer: Result<Value> = qmp.execute("blockdev-add", node);
    assert!(matches!(answer, Err(tests::Error::Refused { .. })), "{answer:?}");
    qmp.quit()
}
