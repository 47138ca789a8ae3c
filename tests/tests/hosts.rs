//! Hosts that lack what the sandbox is made of: the start fails closed, with one line that says what would mend it.

use std::path::PathBuf;
use std::process::{Command, Output};

use tests::{During, Result, Workdir, broker_binary, need, two_level_chain};

/// Builds `tests/outer/outer.c` into the work folder.
fn outer(workdir: &Workdir) -> Result<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/outer/outer.c");
    let program = workdir.aside().join("outer");
    let output = Command::new("cc").args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(source).output();
    let output = output.during("start cc")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(program)
}

/// A start of a real emulator with a real image, behind `words`.
fn start_behind(words: &[&str], workdir: &Workdir) -> Result<Output> {
    two_level_chain(workdir)?;
    // A start that succeeds where it must not would otherwise never end.
    Command::new("timeout")
        .args(["--signal", "KILL", "60"])
        .args(words)
        .arg(broker_binary()?)
        .args(["--", "qemu-system-x86_64", "-machine", "none", "-display", "none", "-nic", "none"])
        .args(["-drive", "file=top.qcow2,format=qcow2,if=none", "-pidfile", "pid"])
        .current_dir(workdir.files())
        .output()
        .during("start the broker")
}

/// The start failed with one line that holds `texts`, and left the folder as it was.
fn assert_refused(workdir: &Workdir, output: &Output, texts: &[&str]) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for text in texts {
        assert!(stderr.contains(text), "{text:?} is not in {stderr:?}");
    }
    let gone = || Ok((!workdir.path("pid").exists()).then_some(()));
    tests::until(tests::PATIENCE, "the pid file that was made for nothing is gone", gone)
}

#[test]
fn an_outer_listener_is_named() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let outer = outer(&workdir)?;
    let output = start_behind(&[outer.to_str().unwrap(), "listener"], &workdir)?;
    assert_refused(&workdir, &output, &["an outer sandbox or container", "start broker outside it"])
}

#[test]
fn a_kernel_without_landlock_is_refused() -> Result<()> {
    need!(Broker, Qemu);
    let workdir = Workdir::new()?;
    let outer = outer(&workdir)?;
    let output = start_behind(&[outer.to_str().unwrap(), "no-landlock"], &workdir)?;
    assert_refused(&workdir, &output, &["no Landlock", "lsm=landlock"])
}

#[test]
fn disabled_user_namespaces_are_named_with_the_switch() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    // The limit of an outer user namespace holds in it and below, and nowhere else.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let output = start_behind(&["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"], &workdir)?;
    assert_refused(&workdir, &output, &["cannot create user namespaces", "max_user_namespaces"])
}

#[test]
fn check_has_a_row_for_each_feature_and_fails_where_one_is_missing() -> Result<()> {
    need!(Broker, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    let features = ["kernel", "proc", "landlock", "user namespaces", "user notification", "yama", "terminals", "kvm"];
    let here = Command::new(broker_binary()?).arg("check").output().during("start broker check")?;
    let text = String::from_utf8_lossy(&here.stdout);
    for feature in features {
        assert!(text.lines().any(|line| line.contains(feature)), "{feature}: {text}");
    }
    assert!(here.status.success() && !text.contains("MISSING"), "{text}");
    for (mode, feature) in [("listener", "user notification"), ("no-landlock", "landlock")] {
        let lacking = Command::new(outer(&workdir)?).arg(mode).arg(broker_binary()?).arg("check").output();
        let lacking = lacking.during("start broker check")?;
        let text = String::from_utf8_lossy(&lacking.stdout);
        let row = text.lines().find(|line| line.contains(feature)).unwrap_or_default();
        assert!(row.starts_with("MISSING"), "{mode}: {text}");
        assert_eq!(lacking.status.code(), Some(125), "{mode}");
    }
    Ok(())
}
