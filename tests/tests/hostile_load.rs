//! Races and floods: what is checked is what is used, however fast a name changes, and what is bounded stays
//! bounded, however much is asked.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tests::hostile::{Answers, FORKS, Scene};
use tests::{During, Emulator, Error, Process, Result, broker_binary, need, until};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_399;

/// Opens in a race and in a flood, where `HOSTILE_ROUNDS` does not ask for more.
const ROUNDS: u64 = 100_000;

/// Renames on the host during opens.
const SWAPS: u64 = 2_000;

/// KiB by which the broker may grow during a flood: the allocator's own wavering.
const GROWTH: u64 = 1_024;

/// Lines that a flood may leave in the audit file, and on standard error: 100 in a burst, and one for each second
/// that the flood takes, with room for a slow machine.
const LINES: u64 = 1_000;

/// Bytes that a flood of the longest names may leave in both.
const LOG: u64 = 1 << 20;

fn rounds() -> u64 {
    std::env::var("HOSTILE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

fn race(user: Option<u32>) -> Result<()> {
    let scene = Scene::new()?;
    let rounds = rounds();
    scene.tell(&format!("rounds={rounds}\n"))?;
    let command = scene.command("races");
    let finished = match user {
        Some(user) => command.user(user).run()?,
        None => command.run()?,
    };
    let answers = Answers::of(&finished)?;
    for (race, rounds) in
        [("victim", rounds), ("native", rounds / 10), ("native-image", rounds / 10), ("backing", rounds / 10)]
    {
        let number = |what: &str| answers.number(&format!("{race}-{what}"));
        assert_eq!(number("foreign")?, 0, "a file that was not granted came back: {answers:?}");
        assert_eq!(number("opened")? + number("refused")?, rounds, "{answers:?}");
        assert!(number("opened")? > 0 && number("refused")? > 0, "there was no race: {answers:?}");
    }
    scene.assert_unharmed(&finished)
}

#[test]
fn a_name_that_changes_while_it_is_read_gives_nothing_else() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    race(None)
}

#[test]
fn nor_to_an_ordinary_user() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    race(Some(USER))
}

/// Puts another guest's image, or a link to it, in the place of the granted one.
fn swap(scene: &Scene, round: u64) -> Result<()> {
    let path = |name: &str| scene.workdir.path(name);
    let (granted, new, victim) = (path("readonly.raw"), path("new"), path("victim.raw"));
    match round % 4 {
        0 => symlink(&victim, &new).during("make a symbolic link")?,
        1 => fs::hard_link(&victim, &new).during("make a hard link")?,
        2 => fs::write(&new, b"another file").during("write a file")?,
        _ => fs::hard_link(path("kept"), &new).during("make a hard link")?,
    }
    // rename(2) leaves two links of one file alone.
    fs::rename(&new, &granted).during("rename")?;
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).during("remove a link"),
        _ => Ok(()),
    }
}

#[test]
fn what_is_put_in_a_granted_files_place_is_not_opened() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    scene.tell(&format!("rounds={}\n", 2 * SWAPS))?;
    let kept = scene.workdir.path("kept");
    fs::hard_link(scene.workdir.path("readonly.raw"), &kept).during("make a hard link")?;
    let mut emulator = scene.command("swaps").start()?;
    scene.take_step(&mut emulator, 'a')?;
    for round in 0..SWAPS {
        swap(&scene, round)?;
    }
    scene.take_step(&mut emulator, 'b')?;
    let answers = Answers::of(&emulator.wait()?)?;
    answers.assert(&[("0", "foreign"), ((2 * SWAPS).to_string().as_str(), "opened")]);
    Ok(())
}

/// What one of the broker's processes uses.
#[derive(Debug)]
struct Burden {
    process: Process,
    /// KiB of memory.
    resident: u64,
    /// Number of descriptors.
    descriptors: usize,
}

fn burdens(emulator: &Emulator) -> Result<Vec<Burden>> {
    let mut burdens = Vec::new();
    for process in emulator.helpers()? {
        let status = process.status();
        let resident = status.as_ref().map_or("", |status| status.field("VmRSS")).split_whitespace().next();
        let Some(resident) = resident.and_then(|text| text.parse().ok()) else {
            return Err(Error::Unexpected(format!("{process:?} has no memory: {status:?}")));
        };
        burdens.push(Burden { process, resident, descriptors: process.descriptors()?.len() });
    }
    Ok(burdens)
}

/// Fails if a process was replaced, keeps descriptors, or has grown by more than `growth` KiB.
fn assert_no_more(before: &[Burden], emulator: &Emulator, growth: u64) -> Result<()> {
    let no_more = |after: &[Burden]| {
        before.len() == after.len()
            && before.iter().zip(after).all(|(before, after)| {
                before.process == after.process
                    && before.descriptors >= after.descriptors
                    && before.resident + growth >= after.resident
            })
    };
    // The last answer's descriptor is closed a moment after the emulator has its own.
    let look = || Ok(no_more(&burdens(emulator)?).then_some(()));
    let settled = until(Duration::from_secs(5), "the broker to hold no more than before", look);
    assert!(settled.is_ok(), "{before:?} became {:?}", burdens(emulator)?);
    Ok(())
}

#[test]
fn a_flood_of_refused_opens_fills_neither_memory_nor_log() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = Scene::new()?;
    let rounds = rounds();
    scene.tell(&format!("rounds={rounds}\n"))?;
    let mut emulator = scene.command("floods").start()?;
    scene.await_step(&mut emulator, 'a')?;
    let before = burdens(&emulator)?;
    scene.take_step(&mut emulator, 'a')?;
    scene.await_step(&mut emulator, 'b')?;
    assert_no_more(&before, &emulator, GROWTH)?;
    scene.take_step(&mut emulator, 'b')?;
    let finished = emulator.wait()?;
    let answers = Answers::of(&finished)?;
    let tenth = rounds / 10;
    for (name, wanted) in [("first", tenth), ("second", rounds - tenth), ("opened", tenth), ("refused-calls", tenth)] {
        assert_eq!(answers.number(name)?, wanted, "{name}: each gets its answer");
    }
    emulator.assert_nothing_left(&scene.workdir, &scene.workdir.listing()?)?;
    let written = scene.audit()?;
    let dropped: u64 = written.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    let decisions = written.iter().filter(|line| line["outcome"].is_string()).count() as u64;
    // The talk image was opened too.
    assert_eq!(decisions + dropped, rounds + 2 * tenth + 1, "what is not written down is counted");
    assert!(decisions < LINES, "{decisions} of {rounds} decisions were written down");
    let lines = finished.stderr.lines().count() as u64;
    assert!(lines < LINES, "{lines} lines on standard error");
    Ok(())
}

#[test]
fn a_flood_of_the_longest_names_fills_no_log() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    let rounds = rounds() / 20;
    scene.tell(&format!("rounds={rounds}\n"))?;
    let finished = scene.command("long-names").run()?;
    assert_eq!(Answers::of(&finished)?.number("answered")?, rounds);
    let audit = fs::metadata(scene.workdir.aside().join("audit.json")).during("look at the audit file")?.len();
    let written = audit + finished.stderr.len() as u64;
    assert!(written < LOG, "{audit} bytes in the audit file, {} on standard error", finished.stderr.len());
    Ok(())
}

/// Floods with long names while nobody reads standard error; all opens must be answered all the same.
fn flood_unread(stderr: Stdio) -> Result<()> {
    let scene = Scene::new()?;
    scene.tell("rounds=300\n")?;
    let mut child = Command::new(broker_binary()?)
        .arg("--")
        .arg(scene.program())
        .args(scene.arguments("long-names"))
        .current_dir(scene.workdir.files())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .during("start the broker")?;
    let ended = until(Duration::from_secs(30), "the end", || child.try_wait().during("wait for the broker"));
    if ended.is_err() {
        child.kill().during("end the hostile program")?;
    }
    assert!(ended.is_ok(), "the emulator hangs in an open");
    let output = child.wait_with_output().during("read what was said")?;
    assert_eq!(Answers::parse(&String::from_utf8_lossy(&output.stdout), "DONE")?.number("answered")?, 300);
    Ok(())
}

#[test]
fn a_reader_that_stops_reading_standard_error_stops_nobody() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    flood_unread(Stdio::piped())
}

#[test]
fn a_terminal_that_stands_still_stops_nobody() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let operator = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).during("open a terminal")?;
    grantpt(&operator).and_then(|()| unlockpt(&operator)).during("unlock the terminal")?;
    let name = ptsname(&operator, Vec::new()).during("name the terminal")?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let filling = rustix::fs::open(&name, flags, Mode::empty()).during("open the terminal")?;
    // Full but for less than a line.
    while rustix::io::write(&filling, &[b'.'; 64]).is_ok() {}
    rustix::io::read(&operator, &mut [0; 100]).during("read from the terminal")?;
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    flood_unread(Stdio::from(rustix::fs::open(&name, flags, Mode::empty()).during("open the terminal")?))
}

#[test]
fn many_threads_kills_and_kicks_lose_no_answer() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = Scene::new()?;
    let mut emulator = scene.command("threads").args([FORKS]).start()?;
    scene.await_step(&mut emulator, 'a')?;
    let before = burdens(&emulator)?;
    scene.take_step(&mut emulator, 'a')?;
    scene.await_step(&mut emulator, 'b')?;
    // A worker thread for each open at once, with its stack.
    assert_no_more(&before, &emulator, 4 * GROWTH)?;
    scene.take_step(&mut emulator, 'b')?;
    Answers::of(&emulator.wait()?)?.assert(&[
        ("8000", "granted-opens refused-opens"),
        ("0", "other-answers otherwise-while-kicked"),
        ("100", "ended"),
        ("2000", "opened-or-interrupted"),
        ("ok", "after-the-ended after-the-kicks room-again"),
        ("EMFILE", "full-table"),
        // 0, 1, 2, and the talk image.
        ("4", "lowest-free-descriptor"),
    ]);
    Ok(())
}
