//! A hostile emulator with a connection of its own asks for everything, over and over: each request gets its answer, and
//! the broker stays as it was: memory, threads, descriptors, audit file.

use std::fs;
use std::time::Duration;

use tests::hostile::{Answers, Scene};
use tests::{During, Emulator, Error, Process, Result, need, until};

/// Requests, unless `HOSTILE_ROUNDS` says how many.
const ROUNDS: u64 = 1_000_000;

/// Kinds of flood (`tests/hostile/requests.c`).
const KINDS: [&str; 13] = [
    "status",
    "resolve-known",
    "resolve-unknown",
    "open",
    "open-unknown",
    "create-elsewhere",
    "create-too-many",
    "unlink-unknown",
    "commit-begin",
    "commit-end",
    "medium",
    "medium-missing",
    "medium-unknown",
];

/// KiB by which a process may grow: the allocator's own wavering, and what the threads touch of their stacks, of which
/// more may be there than before.
const GROWTH: u64 = 2_048;

/// Threads that a broker has at most: as many as requests, and the loop.
const THREADS: usize = protocol::MAX_IN_FLIGHT + 1;

/// Decisions that may be written down: a burst of 100, and one for each second that the flood takes.
const LINES: usize = 1_000;

/// KiB of memory, descriptors and threads of each of the broker's processes.
fn burdens(emulator: &Emulator) -> Result<Vec<(Process, u64, usize, usize)>> {
    let mut burdens = Vec::new();
    for process in emulator.helpers()? {
        let status = process.status();
        let resident = status.as_ref().map_or("", |status| status.field("VmRSS")).split(' ').next();
        let resident = resident.and_then(|text| text.parse().ok());
        let resident = resident.ok_or_else(|| Error::Unexpected(format!("{process:?} has ended")))?;
        burdens.push((process, resident, process.descriptors()?.len(), process.threads()?.len()));
    }
    Ok(burdens)
}

/// Fails unless the same processes hold no more than they did `before`, but for threads.
fn assert_no_more(before: &[(Process, u64, usize, usize)], emulator: &Emulator) -> Result<()> {
    let no_more = |after: &[(Process, u64, usize, usize)]| {
        before.len() == after.len()
            && before.iter().zip(after).all(|(before, after)| {
                before.0 == after.0 && after.1 <= before.1 + GROWTH && after.2 <= before.2 && after.3 <= THREADS
            })
    };
    // The last answer's descriptor is closed a moment after the emulator has its own.
    let look = || Ok(no_more(&burdens(emulator)?).then_some(()));
    let settled = until(Duration::from_secs(5), "the broker to hold no more than before", look);
    assert!(settled.is_ok(), "{before:?} became {:?}", burdens(emulator)?);
    Ok(())
}

#[test]
fn a_flood_of_every_kind_of_request_leaves_the_broker_as_it_was() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = Scene::new()?;
    for folder in ["made", "media"] {
        fs::create_dir(scene.workdir.path(folder)).during("mkdir")?;
    }
    scene.workdir.write("media/disc.iso", b"a disc")?;
    let rounds = std::env::var("HOSTILE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    scene.tell(&format!("rounds={rounds}\n"))?;
    let options = ["--protocol-socket", "--medium-dir", "media", "--allow", "create=made", "--create-files", "1"];
    let mut emulator = scene.command("requests").options(options).start()?;
    scene.await_step(&mut emulator, 'a')?;
    let before = burdens(&emulator)?;
    scene.take_step(&mut emulator, 'a')?;
    scene.await_step(&mut emulator, 'b')?;
    assert_no_more(&before, &emulator)?;
    scene.take_step(&mut emulator, 'b')?;
    let finished = emulator.wait()?;
    let answers = Answers::of(&finished)?;
    for (part, rounds) in [("first", rounds / 10), ("second", rounds - rounds / 10)] {
        for kind in KINDS {
            let wanted = rounds / KINDS.len() as u64;
            assert_eq!(answers.number(&format!("{part}-{kind}"))?, wanted, "{part} {kind}: each has its answer");
        }
    }
    assert_eq!(answers.number("create-after-removal")?, rounds / 100);
    let written = scene.audit()?;
    let decisions = written.iter().filter(|line| line["outcome"].is_string()).count();
    assert!(decisions < LINES, "{decisions} decisions were written down");
    let dropped: u64 = written.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    assert!(dropped > rounds / 2, "what is not written down is counted: {dropped}");
    assert_eq!(answers.number("unlinked")?, 1, "{answers:?}");
    assert_eq!(fs::read_dir(scene.workdir.path("made")).during("list made")?.count(), 0);
    scene.assert_unharmed(&finished)
}
