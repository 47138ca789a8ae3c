//! Callers who want more than the list gives them, or something left behind.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use tests::{During, Random, Result, need};

use crate::scene::{Scene, Way};

/// Runs that are killed, each after another time.
const KILLS: usize = 80;

/// A library that every glibc has and no program of ours wants.
const LIBRARY: &str = "libBrokenLocale.so.1";

#[test]
fn descriptors_limits_and_environment_change_nothing() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0")?;
    let words = ["--use-vnet", "--br=br0", "--fd=9"];
    for way in [Way::Setuid, Way::Capable] {
        for (line, descriptors) in [
            ("exec 9<&0; exec \"$@\" 0<&- 1<&- 2<&-", 1),
            ("exec 9<&0 0</dev/null; exec \"$@\"", 1),
            ("exec 9<&0; printf -v x %99999s; for i in {1..15}; do export X$i=\"$x\"; done; exec \"$@\"", 1),
            ("exec 9<&0; exec -a '' \"$@\"", 1),
            ("exec 9<&0; exec -a --br=br9 \"$@\"", 1),
            ("exec 9<&0; exec -a '/usr/bin/../../x/bridge-helper' \"$@\"", 1),
            ("exec 9<&0; trap '' TERM HUP PIPE CHLD; ulimit -c 0 -f 0 -s 256; exec \"$@\"", 1),
            ("exec 9<&0; cd /proc/self/fdinfo; umask 777; RUST_BACKTRACE=full exec \"$@\"", 1),
            ("exec 9</dev/null; exec \"$@\"", 0),
            ("exec 9</dev/net/tun; exec \"$@\"", 0),
            ("exec 9<&-; exec \"$@\"", 0),
            ("exec 9<>/dev/tcp/127.0.0.1/1; exec \"$@\"", 0),
        ] {
            let answer = scene.ask_by(way, line, &words)?;
            assert_eq!(answer.descriptors.len(), descriptors, "{way}: {line}: {answer:?}");
            assert_eq!(answer.output.status.success(), descriptors == 1, "{way}: {line}: {answer:?}");
        }
    }
    scene.assert_nothing_left()
}

#[test]
fn too_few_descriptors_leave_nothing() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("include /etc/qemu/more")?;
    scene.shell("echo allow br0 > /etc/qemu/more")?;
    let mut successes = 0;
    for limit in 3..12 {
        let line = format!("ulimit -n {limit}; exec \"$@\"");
        let answer = scene.ask_by(Way::Setuid, &line, &["--br=br0", "--fd=0", "--queues=2"])?;
        let expected = if answer.output.status.success() { 2 } else { 0 };
        assert_eq!(answer.descriptors.len(), expected, "{limit}: {answer:?}");
        successes += expected / 2;
        drop(answer);
        scene.assert_nothing_left()?;
    }
    assert!((1..9).contains(&successes), "{successes} of 9 limits were enough");
    Ok(())
}

#[test]
fn a_library_of_the_callers_is_not_loaded() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0")?;
    for (way, loads) in [(Way::Root, true), (Way::Setuid, false), (Way::Capable, false)] {
        let (mut child, socket) = scene.stop_with_tap(way, &format!("LD_PRELOAD={LIBRARY} exec \"$@\""))?;
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).during("read maps");
        child.kill().during("kill the helper")?;
        child.wait().during("wait for the helper")?;
        drop(socket);
        assert_eq!(maps?.contains(LIBRARY), loads, "{way}");
        scene.assert_nothing_left()?;
    }
    Ok(())
}

#[test]
fn a_list_that_is_none_closes_the_bridge() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("")?;
    for (line, part) in [
        ("rm bridge.conf", "/etc/qemu/bridge.conf: No such file or directory"),
        ("mkfifo bridge.conf", "it is no regular file"),
        ("rm bridge.conf; mkdir bridge.conf", "it is no regular file"),
        ("rmdir bridge.conf; ln -s bridge.conf bridge.conf", "symbolic links"),
        ("ln -sf /dev/net/tun bridge.conf", "it is no regular file"),
        ("rm bridge.conf; echo allow br0 > bridge.conf; chmod 666 bridge.conf", "may change it"),
        ("chmod 600 bridge.conf", "Permission denied"),
        (
            "chmod 644 bridge.conf; echo include /etc/qemu/secret >> bridge.conf",
            "line 2: include /etc/qemu/secret: No such file",
        ),
        ("echo deny br1 > secret; chmod 600 secret", "line 2: include /etc/qemu/secret: Permission denied"),
        ("echo allow br0 user:nobody-at-all > bridge.conf", "there is no user \"nobody-at-all\""),
    ] {
        scene.shell(&format!("cd /etc/qemu && {line}"))?;
        scene.ask(Way::Setuid, &["--use-vnet", "--br=br0", "--fd=0"])?.assert_refused(part);
    }
    scene.shell("echo allow br0 > /mnt/elsewhere; ln -sf /mnt/elsewhere /etc/qemu/bridge.conf")?;
    assert_eq!(scene.ask(Way::Setuid, &["--br=br0", "--fd=0"])?.descriptors.len(), 1);
    scene.assert_nothing_left()
}

#[test]
fn killed_at_any_moment_it_leaves_nothing() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0")?;
    let mut random = Random::new(0xdead_be1f);
    let (mut killed, mut finished) = (0, 0);
    for round in 0..KILLS {
        let (ours, theirs) = UnixStream::pair().during("socketpair")?;
        let mut command = scene.command(Way::Setuid, "exec \"$@\"", &["--br=br0", "--fd=0"]);
        let mut child =
            command.stdin(OwnedFd::from(theirs)).stderr(Stdio::null()).spawn().during("start the helper")?;
        let most = u64::try_from(random.below(60)).unwrap_or(0);
        sleep(Duration::from_millis(most));
        child.kill().during("kill the helper")?;
        let status = child.wait().during("wait for the helper")?;
        *(if status.success() { &mut finished } else { &mut killed }) += 1;
        drop((command, ours));
        let left = scene.0.interfaces()?;
        assert!(left == ["lo", "br0"] || scene.assert_nothing_left().is_ok(), "round {round}: {left:?}");
    }
    assert!(killed > 0, "{killed} were killed, {finished} had ended");
    Ok(())
}

#[test]
fn nobody_listens() -> Result<()> {
    need!(Broker, Root, NetworkNamespaces, Tun);
    let scene = Scene::new("allow br0")?;
    let (ours, theirs) = UnixStream::pair().during("socketpair")?;
    drop(ours);
    let mut command = scene.command(Way::Setuid, "exec \"$@\"", &["--br=br0", "--fd=0"]);
    let output = command.stdin(OwnedFd::from(theirs)).output().during("start the helper")?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot hand the tap over"), "{output:?}");
    // Nor on standard error.
    let output = scene.command(Way::Setuid, "\"$@\" 2>&1 | true; exit ${PIPESTATUS[0]}", &["--br=br0"]).output();
    assert_eq!(output.during("start the helper")?.status.code(), Some(1));
    scene.assert_nothing_left()
}
