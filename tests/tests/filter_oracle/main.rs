//! The profile files as test oracle: what each says about each system call is compared with what the kernel does,
//! in the finished sandbox for the emulator's, and in a child under the compiled program for the others'.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod oracle;

use std::collections::BTreeSet;
use std::process::Command;

use oracle::{Call, action, calls_by_number, calls_by_rule};
use sandbox_profiles::{Action, Profile, Variant, compile};
use tests::hostile::{Answers, FORKS, Scene, make_confined_calls};
use tests::{During, Emulator, Result, Workdir, need};

/// How a call of a list is made (`tests/hostile/make_calls.c`): at once, in a child, in a child by the 32-bit table.
const AT_ONCE: char = 'n';
const IN_A_CHILD: char = 'c';
#[cfg(target_arch = "x86_64")]
const FOREIGN: char = 'f';

/// A list of calls as the program reads it.
fn list(calls: &[Call], how: impl Fn(&Call) -> char) -> String {
    let line = |call: &Call| {
        let words = call.arguments.map(|argument| format!("{argument:x}"));
        format!("{} {:x} {}\n", how(call), call.number, words.join(" "))
    };
    calls.iter().map(line).collect()
}

/// `AF_NETLINK` and `NETLINK_KOBJECT_UEVENT` (linux/socket.h, linux/netlink.h).
const UEVENTS: [u64; 2] = [16, 15];
/// `SOL_SOCKET` and `SO_ATTACH_FILTER` (asm-generic/socket.h).
const PACKET_FILTER: [u64; 2] = [1, 26];

/// What the agent answers where the filter asks it: it cannot read an impossible name, no address is as long as the
/// impossible one, and no descriptor has its number; what is not listed is refused, and of what has no name yet it says what
/// an older kernel would. For a socket of netlink it gives one on which nothing comes.
fn agents_answer(call: &Call) -> &'static str {
    // The kernel takes each of these arguments for an int.
    let [first, second, third, ..] = call.arguments.map(|argument| argument & u64::from(u32::MAX));
    match call.name().as_str() {
        "socket" if [first, third] == UEVENTS => "ok",
        "setsockopt" if [second, third] == PACKET_FILTER => "EBADF",
        "open" | "openat" | "creat" | "unlink" | "readlink" | "readlinkat" | "chmod" | "fchmodat"
        | "io_uring_setup" => "EFAULT",
        "bind" | "connect" => "EINVAL",
        "listen" | "fchmod" => "EBADF",
        name if name.starts_with("number ") => "ENOSYS",
        _ => "EPERM",
    }
}

/// Whether the operator reads of the call: the agent refuses it, where the kernel would not.
fn is_told(call: &Call) -> bool {
    !matches!(agents_answer(call), "EFAULT" | "EINVAL" | "EBADF" | "ok")
}

/// Fails for each call that did not come to what the profile says. `bare` holds what calls that are allowed come to
/// without a filter, in the order in which they stand in `calls`.
fn compare(calls: &[Call], action: impl Fn(&Call) -> Action, answers: &Answers, bare: &Answers) -> Result<()> {
    let mut wrong = Vec::new();
    let mut allowed = 0;
    for (index, call) in calls.iter().enumerate() {
        let answer = answers.get(&index.to_string())?;
        let wanted = match action(call) {
            Action::KillProcess => "killed",
            Action::Errno { name, .. } => name,
            Action::Notify => agents_answer(call),
            Action::Allow => {
                allowed += 1;
                bare.get(&(allowed - 1).to_string())?
            }
        };
        if answer != wanted {
            wrong.push(format!("{} {:x?}: {answer}, not {wanted}", call.name(), call.arguments));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Refused calls that one start makes at most, so that the broker writes every one of them down: its log takes 100
/// lines in a burst, the granted opens among them.
const REFUSED_AT_ONCE: usize = 80;

/// The program in the finished sandbox, about to make calls.
struct Inside {
    scene: Scene,
    emulator: Emulator,
}

impl Inside {
    /// Starts it with `more` arguments.
    fn start(more: &[&str]) -> Result<Self> {
        let scene = Scene::new()?;
        let mut emulator = scene.command("make-calls").args(more.iter().copied()).start()?;
        scene.await_step(&mut emulator, 'a')?;
        Ok(Self { scene, emulator })
    }

    /// Makes the calls of a list; returns what they come to, and the names of calls in the audit file.
    fn make(mut self, list: &str) -> Result<(Answers, BTreeSet<String>)> {
        self.scene.write_calls(list)?;
        self.scene.take_step(&mut self.emulator, 'a')?;
        let answers = Answers::of(&self.emulator.wait()?)?;
        let audit = self.scene.audit()?;
        let refused = audit.iter().filter(|line| line["request"] == "call" && line["outcome"] == "refused");
        Ok((answers, refused.filter_map(|line| line["name"].as_str().map(str::to_owned)).collect()))
    }
}

/// Which part of a list one start makes: from the first call on that earlier parts do not hold.
fn part(calls: &[Call], done: usize, is_refused: impl Fn(&Call) -> bool) -> &[Call] {
    let rest = &calls[done..];
    let refused = rest.iter().enumerate().filter(|(_, call)| is_refused(call));
    let end = refused.map(|(index, _)| index).nth(REFUSED_AT_ONCE).unwrap_or(rest.len());
    &rest[..end]
}

/// Compares the emulator's profile with what the sandbox of a start with `more` arguments does, and what the agent
/// refuses with what is written down. `wanted` are calls to try of a variant.
fn compare_inside(mut variant: Variant, wanted: impl Fn(&Variant) -> Vec<Call>, more: &[&str]) -> Result<()> {
    let (mut done, all) = (0, wanted(&variant).len());
    while done < all {
        let inside = Inside::start(more)?;
        variant.signals_only_to = variant.signals_only_to.map(|_| inside.emulator.process().0);
        let emulators = |call: &Call| action(Profile::QemuSystem, &variant, call);
        let is_refused = |call: &Call| emulators(call) == Action::Notify && is_told(call);
        let calls = wanted(&variant);
        let calls = part(&calls, done, is_refused);
        let allowed: Vec<Call> = calls.iter().filter(|call| emulators(call) == Action::Allow).copied().collect();
        // While the process is there that some of them name.
        let bare = make_bare(&allowed, AT_ONCE)?;
        let (answers, written) = inside.make(&list(calls, |_| AT_ONCE))?;
        compare(calls, emulators, &answers, &bare)?;
        let expected: BTreeSet<String> = calls.iter().filter(|call| is_refused(call)).map(Call::name).collect();
        assert_eq!(written, expected, "each call that the agent refuses is written down by name");
        done += calls.len();
    }
    Ok(())
}

/// What the calls come to without a filter.
fn make_bare(calls: &[Call], how: char) -> Result<Answers> {
    make_confined_calls(&Workdir::new()?, &[], &list(calls, |_| how))
}

/// The variant that a start without a terminal has on this kernel; its process is known once it runs.
fn variant() -> Result<Variant> {
    let output = Command::new(tests::broker_binary()?).args(["check"]).output().during("run broker check")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let unscoped = ["ABI 2", "ABI 3", "ABI 4", "ABI 5"].iter().any(|old| text.contains(old));
    Ok(Variant { signals_only_to: unscoped.then_some(0), ..Variant::default() })
}

#[test]
fn the_emulators_filter_does_what_its_profile_says() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let variant = variant()?;
    compare_inside(variant, |_| calls_by_number(), &[])?;
    compare_inside(variant, |variant| calls_by_rule(Profile::QemuSystem, variant), &[])
}

#[test]
fn what_a_command_line_adds_to_the_profile_is_allowed_and_nothing_more() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let variant = Variant {
        io_uring: true,
        forks: true,
        shared_folders: true,
        shared_modes: true,
        render_node: true,
        usb_host: true,
        ..variant()?
    };
    let ring: Vec<Call> = calls_by_number().into_iter().filter(|call| call.name().starts_with("io_uring_")).collect();
    // The agent makes rings; what is registered with one is on a list.
    let expected = |call: &Call| if call.name() == "io_uring_enter" { Action::Allow } else { Action::Notify };
    assert!(ring.iter().all(|call| action(Profile::QemuSystem, &variant, call) == expected(call)), "{ring:?}");
    let wanted = |variant: &Variant| [calls_by_rule(Profile::QemuSystem, variant), ring.clone()].concat();
    let drive = "file=backing.raw,format=raw,if=none,id=d,readonly=on,aio=io_uring";
    // What counts is that a folder is named.
    let share = "local,mount_tag=t,security_model=none,path=missing";
    let draws = ["-display", "egl-headless,rendernode=missing"];
    let takes = ["-device", "usb-host,vendorid=1"];
    compare_inside(variant, wanted, &["-drive", drive, "-virtfs", share, draws[0], draws[1], takes[0], takes[1], FORKS])
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_other_tables_kill() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    /// `__X32_SYSCALL_BIT` of asm/unistd.h.
    const X32: u32 = 0x4000_0000;
    // With impossible arguments, as everywhere; `getpid` (20) of the 32-bit table has none.
    let x32 = (0..=600).map(|number| Call::impossible(number | X32));
    let calls: Vec<Call> = x32.chain((0..=460).map(Call::impossible)).collect();
    let how = |call: &Call| if call.number & X32 == 0 { FOREIGN } else { IN_A_CHILD };
    let (answers, _) = Inside::start(&[FORKS])?.make(&list(&calls, how))?;
    for (index, call) in calls.iter().enumerate() {
        assert_eq!(answers.get(&index.to_string())?, "killed", "{:#x}", call.number);
    }
    // Without the filter this machine's kernel answers them.
    let one = [Call::impossible(X32 | 39)];
    assert_ne!(make_bare(&one, IN_A_CHILD)?.get("0")?, "killed");
    assert_ne!(make_bare(&[Call::impossible(20)], FOREIGN)?.get("0")?, "killed");
    Ok(())
}

/// Compares a variant of a profile that asks nobody with what its program does to children of a program outside any sandbox.
fn compare_outside(profile: Profile, variant: Variant) -> Result<()> {
    let action = |call: &Call| action(profile, &variant, call);
    let calls: Vec<Call> = calls_by_number().into_iter().chain(calls_by_rule(profile, &variant)).collect();
    let program = compile(profile, &variant).unwrap();
    assert!(!program.notifies);
    let bytes: Vec<u8> = program
        .instructions
        .iter()
        .flat_map(|one| {
            let code = one.code.to_ne_bytes();
            let k = one.k.to_ne_bytes();
            [code[0], code[1], one.jt, one.jf, k[0], k[1], k[2], k[3]]
        })
        .collect();
    let workdir = Workdir::new()?;
    let answers = make_confined_calls(&workdir, &bytes, &list(&calls, |_| IN_A_CHILD))?;
    let allowed: Vec<Call> = calls.iter().filter(|call| action(call) == Action::Allow).copied().collect();
    assert!(!allowed.is_empty() && allowed.len() < calls.len());
    compare(&calls, action, &answers, &make_bare(&allowed, IN_A_CHILD)?)
}

#[test]
fn the_agents_filter_does_what_its_profile_says() -> Result<()> {
    compare_outside(Profile::Agent, Variant::default())?;
    compare_outside(Profile::Agent, Variant { shared_folders: true, io_uring: true, ..Variant::default() })
}

#[test]
fn the_brokers_filter_does_what_its_profile_says() -> Result<()> {
    compare_outside(Profile::Broker, Variant::default())
}

#[test]
fn the_probers_filter_does_what_its_profile_says() -> Result<()> {
    compare_outside(Profile::Prober, Variant::default())
}

#[test]
fn the_relays_filter_does_what_its_profile_says() -> Result<()> {
    compare_outside(Profile::Relay, Variant::default())
}
