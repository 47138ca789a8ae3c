//! Other processes: the broker, the agent, another guest and any program of the same user can neither be
//! signalled, nor read, nor managed; and each of them is confined itself.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tests::hostile::{Answers, FORKS, Scene};
use tests::{BrokerCommand, During, Emulator, Process, Result, need, until};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_399;

/// What each attempt of `processes.c` on one process comes to.
const ATTEMPTS: &[(&str, &str)] = &[
    // Landlock's scope, or the filter where the kernel has none. No process leads a group with its number.
    ("EPERM", "null-signal kill stop tgkill"),
    ("EPERM|ESRCH", "kill-group"),
    // The filter.
    ("EPERM", "tkill sigqueue tgsigqueue pidfd-signal trace seize read-memory write-memory advise-memory"),
    ("EPERM", "pidfd pidfd-getfd compare robust-list move-pages migrate-pages"),
    ("EPERM", "limit get-limit affinity get-affinity scheduler parameters get-parameters priority io-priority"),
    ("EPERM", "group session set-group"),
    // An owner can be named; Landlock does not deliver the signal to it. Older kernels: the filter refuses.
    ("ok|EPERM", "own own-thread"),
    ("ok", "own-signal own-async own-trigger own-thread-trigger"),
    // The CPU time that a process has used.
    ("EPERM|EINVAL", "clock"),
];

/// What an attack on a process would show in: its limits, and lines of its status.
fn traces(process: Process) -> Result<(String, Vec<String>)> {
    let path = format!("/proc/{}/limits", process.0);
    let limits = fs::read_to_string(&path).during(format!("read {path}"))?;
    let status = process.status();
    let fields = ["Cpus_allowed_list", "TracerPid", "SigPnd", "ShdPnd"];
    let text = |field| status.as_ref().map_or("gone", |status| status.field(field)).to_owned();
    let mut seen: Vec<String> = fields.map(text).into();
    seen.push(process.is_running().to_string());
    Ok((limits, seen))
}

/// A program of the same user, which the attack is to leave alone. Ended when dropped.
struct Bystander(Child);

impl Bystander {
    fn start(user: Option<u32>) -> Result<Self> {
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        command.spawn().during("start sleep").map(Self)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // Ended already: then the test has said so.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the attack; the other guest is the same program, waiting.
fn start(scene: &Scene, attack: &str, user: Option<u32>) -> Result<Emulator> {
    let command = scene.command(attack);
    let mut emulator = match user {
        Some(user) => command.user(user).start()?,
        None => command.start()?,
    };
    scene.await_step(&mut emulator, 'a')?;
    Ok(emulator)
}

/// Attacks a program of the same user, another guest, and broker and agents of both.
fn attack_processes(user: Option<u32>) -> Result<()> {
    let (scene, other_scene) = (Scene::new()?, Scene::new()?);
    other_scene.tell("rounds=10\n")?;
    let bystander = Bystander::start(user)?;
    let mut other = start(&other_scene, "swaps", user)?;
    let mut emulator = start(&scene, "processes", user)?;

    let mut targets = vec![Process(bystander.0.id()), other.process()];
    targets.extend(other.helpers()?);
    targets.extend(emulator.helpers()?);
    assert_eq!(targets.len(), 8, "broker, agent and the agent's keeper of each: {targets:?}");
    let before = targets.iter().map(|target| traces(*target)).collect::<Result<Vec<_>>>()?;
    let named: Vec<String> = targets.iter().map(|target| format!("p{0}:{0}", target.0)).collect();
    scene.tell(&format!("targets={}\n", named.join(" ")))?;
    scene.take_step(&mut emulator, 'a')?;

    let answers = Answers::of(&emulator.wait()?)?;
    for target in &targets {
        answers.beneath(&format!("p{}-", target.0)).assert(ATTEMPTS);
    }
    // The attacker has ended, and its broker and agents with it.
    let alive = |target: &&Process| target.is_running();
    assert_eq!(targets.iter().take(5).filter(alive).count(), 5, "somebody was ended");
    for (target, before) in targets.iter().zip(before).take(5) {
        assert_eq!(traces(*target)?, before, "{target:?} was changed");
    }
    other_scene.take_step(&mut other, 'a')?;
    other_scene.take_step(&mut other, 'b')?;
    assert_eq!(Answers::of(&other.wait()?)?.get("opened")?, "10", "the other guest is served");
    Ok(())
}

#[test]
fn no_other_process_is_reached() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    attack_processes(None)
}

#[test]
fn no_other_process_of_an_ordinary_user_is_reached() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock);
    attack_processes(Some(USER))
}

#[test]
fn a_signal_to_everybody_reaches_nobody() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock);
    // Another user than above: this is the one attack that a hole would let through to all that a user runs.
    let user = USER + 1;
    let scene = Scene::new()?;
    let mut bystander = Bystander::start(Some(user))?;
    let mut emulator = start(&scene, "everybody", Some(user))?;
    let helpers = emulator.helpers()?;
    scene.tell(&format!("highest={}\n", bystander.0.id().max(emulator.process().0) + 100))?;
    scene.take_step(&mut emulator, 'a')?;
    let answers = Answers::of(&emulator.wait()?)?;
    answers.assert(&[("0", "processes-found"), ("1", "still-here"), ("ok", "still-served")]);
    assert_eq!(helpers.len(), 3, "broker, agent and its keeper: {helpers:?}");
    assert!(bystander.0.try_wait().during("look at sleep")?.is_none(), "sleep was ended");
    Ok(())
}

#[test]
fn what_outlives_the_emulator_is_served_no_more() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = Scene::new()?;
    let mut emulator = scene.command("after-the-end").args([FORKS]).start()?;
    scene.take_step(&mut emulator, 'a')?;
    let finished = emulator.wait()?;
    until(tests::PATIENCE, "the orphan's end", || Ok(emulator.stdout()?.contains("ORPHAN-DONE").then_some(())))?;
    let answers = Answers::parse(&emulator.stdout()?, "ORPHAN-DONE")?;
    // Without a listener the kernel answers for the agent.
    answers.assert(&[("ok", "parent child"), ("ENOSYS", "orphan orphan-create orphan-unlisted")]);
    emulator.assert_nothing_left(&scene.workdir, &scene.workdir.listing()?)?;
    scene.assert_unharmed(&finished)
}

/// Sets of capabilities that are empty everywhere; a user's broker cannot empty its bounding set, which gives nothing
/// under no_new_privs.
const EMPTY: [&str; 4] = ["CapInh", "CapPrm", "CapEff", "CapAmb"];

/// Fails unless every thread of a process has no privilege, is under a filter, and is who it should be.
fn assert_confined(process: Process, (user, group): (u32, u32), bounded: bool) -> Result<()> {
    let four = |id: u32| [id; 4].map(|id| id.to_string()).join(" ");
    for thread in process.threads()? {
        let mut wanted = vec![("NoNewPrivs", "1".to_owned()), ("Seccomp", "2".to_owned()), ("Groups", String::new())];
        wanted.extend([("Uid", four(user)), ("Gid", four(group))]);
        wanted.extend(EMPTY.iter().chain(bounded.then_some(&"CapBnd")).map(|set| (*set, "0".repeat(16))));
        for (field, wanted) in wanted {
            assert_eq!(thread.field(field), wanted, "{field} of {thread:?}");
        }
    }
    Ok(())
}

/// Starts the program, makes it use threads of its own and of the broker's, and looks at all of them.
fn look_at_everybody(
    emulators: (u32, u32),
    brokers: (u32, u32),
    prepare: impl FnOnce(BrokerCommand) -> BrokerCommand,
) -> Result<()> {
    let scene = Scene::new()?;
    scene.tell("rounds=100\n")?;
    let mut emulator = prepare(scene.command("swaps")).start()?;
    scene.take_step(&mut emulator, 'a')?;
    scene.await_step(&mut emulator, 'b')?;
    assert_confined(emulator.process(), emulators, true)?;
    let inside = emulator.process().namespace("mnt")?;
    for helper in emulator.helpers()? {
        let is_agent = helper.namespace("mnt")? == inside;
        let bounded = is_agent || brokers.0 == 0;
        assert_confined(helper, if is_agent { emulators } else { brokers }, bounded)?;
    }
    let descriptors = emulator.process().descriptors()?;
    let beyond: Vec<_> = descriptors.iter().filter(|(number, _)| **number > 2).collect();
    assert!(matches!(beyond[..], [(_, path)] if path.ends_with("talk.raw")), "{descriptors:?}");
    scene.take_step(&mut emulator, 'b')?;
    Answers::of(&emulator.wait()?)?.assert(&[("100", "opened"), ("0", "foreign")]);
    Ok(())
}

#[test]
fn everybody_is_confined_when_root_starts() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    look_at_everybody((0, 0), (0, 0), |command| command)
}

#[test]
fn everybody_is_confined_when_root_names_a_user() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    look_at_everybody((12346, 12347), (0, 0), |command| command.options(["--user", "12346:12347"]))
}

#[test]
fn everybody_is_confined_when_an_ordinary_user_starts() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock);
    look_at_everybody((USER, USER), (USER, USER), |command| command.user(USER))
}
