//! A descriptor is good for what it was passed for, and for nothing more.

use std::process::{Command, Stdio};

use tests::hostile::{Answers, Scene};
use tests::{BrokerCommand, During, Finished, Result, broker_binary, need};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_399;

/// Ways to the same file with more rights.
const AGAIN: &[(&str, &str)] = &[
    ("ENOENT", "proc-self thread-self empty-name"),
    ("EACCES", "dev-fd own-name read-natively"),
    ("EROFS|EACCES", "own-name-natively"),
    ("ENOTDIR", "dot beside chdir"),
    ("EPERM", "link execute tree pidfd lease"),
    // F_SETFL takes no access mode: it does nothing to it.
    ("ok", "set-access"),
    ("0", "access"),
];

/// What changes a file's bytes.
const WRITES: &[(&str, &str)] = &[
    ("EBADF", "write pwrite pwritev2 allocate punch copy aio"),
    ("EINVAL", "truncate"),
    ("EACCES", "map map-and-protect"),
];

/// What changes all else of a file: the filter's answer, and for ioctls that of the read-only mount.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("EPERM", "chmod chmod-empty-name chown chown-empty-name times times-empty-name"),
    ("EPERM", "setxattr removexattr setxattrat file-setattr freeze mount-setattr quota"),
    ("EROFS|ENOTTY|EOPNOTSUPP", "set-flags set-extended-flags"),
    ("EBADF", "clone-into"),
];

/// What is left to the file that is granted for writing.
const WRITABLE: &[(&str, &str)] = &[("ok", "write truncate"), ("EPERM", "chmod chown setxattr times")];

fn attack(prepare: impl FnOnce(BrokerCommand) -> BrokerCommand) -> Result<()> {
    let scene = Scene::new()?;
    let finished = prepare(scene.command("descriptors")).run()?;
    let answers = Answers::of(&finished)?;
    assert_eq!(answers.all("descriptor"), ["0", "1", "2"], "nothing is inherited that is not named");
    answers.beneath("again-").assert(AGAIN);
    for file in ["read-only", "backing"] {
        assert_eq!(answers.get(file)?, "ok");
        answers.beneath(&format!("{file}-")).assert(&[WRITES, ATTRIBUTES].concat());
    }
    answers.beneath("send-").assert(&[("ok", "pair itself receive"), ("EBADF", "write")]);
    answers.beneath("granted-for-reading-").assert(WRITES);
    answers.beneath("writable-").assert(WRITABLE);
    scene.assert_unharmed(&finished)
}

#[test]
fn a_descriptor_gives_no_more_than_it_was_passed_for() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(|command| command)
}

#[test]
fn nor_does_it_to_an_ordinary_user() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(|command| command.user(USER))
}

/// Starts the program with a descriptor of `readonly.raw` as number 9, and with two that
/// nobody names.
fn run_with_inherited(scene: &Scene) -> Result<Finished> {
    let output = Command::new("sh")
        .args(["-c", "exec 9<readonly.raw 8<victim.raw 7</; exec \"$@\"", "sh"])
        .arg(broker_binary()?)
        .arg("--")
        .arg(scene.program())
        .args(scene.arguments("descriptors"))
        .args(["-add-fd", "fd=9,set=1"])
        .current_dir(scene.workdir.files())
        .stdin(Stdio::null())
        .output()
        .during("start the broker by a shell")?;
    Ok(Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[test]
fn of_inherited_descriptors_only_the_named_ones_arrive() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    let finished = run_with_inherited(&scene)?;
    assert_eq!(Answers::of(&finished)?.all("descriptor"), ["0", "1", "2", "9"]);
    scene.assert_unharmed(&finished)
}
