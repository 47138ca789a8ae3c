//! The rings of `aio=io_uring` in the hands of an emulator that a guest has taken over: what goes through one passes no
//! filter, so a ring carries what QEMU submits and nothing else.

use rustix::process::Signal;
use tests::hostile::{Answers, FORKS, Scene};
use tests::{Result, need};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_391;

/// Asks for a ring.
const DRIVE: [&str; 2] = ["-drive", "file=backing.raw,format=raw,if=none,id=d,readonly=on,aio=io_uring"];

/// What each attempt of `rings.c` comes to.
const RINGS: &[(&str, &str)] = &[
    ("ok", "make close-on-exec"),
    ("8", "entries"),
    ("0", "flags-shown"),
    ("ok", "served-read served-write served-readv served-writev served-fsync served-poll"),
    ("EBADF", "served-write-read-only served-closed"),
    ("ENOENT", "served-poll-remove"),
    ("ETIME", "served-timeout"),
    ("EACCES", "openat renameat unlinkat mkdirat fsetxattr connect sendmsg socket nothing"),
    ("0", "others-carried others-unknown"),
    ("EACCES", "flag-fixed-file flag-drain flag-link flag-hard-link flag-async flag-buffer"),
    ("EINVAL", "other-personality"),
    ("EPERM", "register-buffers register-files register-personality register-restrictions register-enable"),
    ("EPERM", "register-no-ring register-high-half"),
    ("ok", "register-number enter-by-number unregister-number"),
    ("0", "flags-granted"),
    // Since Linux 6.6.
    ("ok|EINVAL", "no-indices"),
    ("EINVAL", "polling-thread no-entries many-entries reserved"),
    ("EFAULT", "no-parameters unmapped-parameters half-mapped-parameters constant-parameters"),
    ("EACCES", "child-parents-ring child-openat"),
    ("ok", "child-own-ring race-some-made"),
    ("0", "race-strange"),
];

fn attack(user: Option<u32>) -> Result<()> {
    let scene = Scene::new()?;
    let command = scene.command("rings").args(DRIVE).args([FORKS]);
    let command = if let Some(user) = user { command.user(user) } else { command };
    let finished = command.run()?;
    Answers::of(&finished)?.assert(RINGS);
    scene.assert_unharmed(&finished)?;
    assert!(finished.stderr.contains("io_uring_register"), "the operator reads what was tried: {finished:?}");
    Ok(())
}

#[test]
fn a_ring_carries_what_a_disk_needs() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(None)
}

#[test]
fn a_ring_of_an_ordinary_user_carries_what_a_disk_needs() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(Some(USER))
}

#[test]
fn rings_are_as_many_as_descriptors() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    let limit = ["sh", "-c", "ulimit -n 200; exec \"$@\"", "sh"];
    let before = scene.workdir.listing()?;
    let mut emulator = scene.command("many-rings").args(DRIVE).through(limit).start()?;
    emulator.wait_for_output("a flood of rings", |text| text.contains("rings "))?;
    let text = emulator.stdout()?;
    let answers = Answers::parse(&format!("{text}\nDONE"), "DONE")?;
    // Some kernels count a ring's memory, unless the caller may lock as much as it likes and can say so.
    assert!(matches!(answers.get("one-more")?, "EMFILE" | "ENOMEM"), "{text}");
    let made = answers.number("rings")?;
    assert!((1..200).contains(&made), "{made}");
    // It goes on, and is killed in the middle of it.
    emulator.signal(Signal::KILL)?;
    let finished = emulator.wait()?;
    scene.assert_unharmed(&finished)?;
    emulator.assert_nothing_left(&scene.workdir, &before)
}
