//! The guest's screen on the caller's terminal.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use rustix::termios::{Winsize, tcsetwinsize};
use tests::{BrokerCommand, During, ORDINARY_USER, Result, Workdir, broker_binary, need, run_tool};

use crate::caller::{AtTerminal, expect, watch};

const CURSES: &[&str] = &["-accel", "tcg", "-display", "curses"];

/// Sees the guest's screen and the monitor's, each at its keys, and ends by the monitor.
fn look_and_type(user: Option<u32>) -> Result<()> {
    let mut started = AtTerminal::start_as(user, CURSES)?;
    let screen = watch(&started.terminal)?;
    let mut keyboard = started.terminal.ours.try_clone().during("duplicate a descriptor")?;
    let mut type_in = |keys: &str| keyboard.write_all(keys.as_bytes()).during("type");
    // Alt and a number choose a console.
    type_in("\x1b2")?;
    expect(&screen, "(qemu)")?;
    type_in("info status\n")?;
    expect(&screen, "paused")?;
    type_in("cont\n\x1b1")?;
    expect(&screen, "SeaBIOS")?;
    // A window that is larger now (SIGWINCH) is drawn anew.
    let larger = Winsize { ws_row: 60, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&started.terminal.ours, larger).during("resize the terminal")?;
    expect(&screen, "SeaBIOS")?;
    type_in("\x1b2quit\n")?;
    started.end()?;
    started.assert_given_back("quit")
}

#[test]
fn the_screen_is_drawn_and_keys_arrive() -> Result<()> {
    need!(Root, Qemu, Landlock);
    look_and_type(None)
}

#[test]
fn an_ordinary_users_screen() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    look_and_type(Some(ORDINARY_USER))
}

/// A home whose descriptions of terminals lie elsewhere, behind a link; the only one is that of `broker-test`.
fn home_with_a_description(workdir: &Workdir) -> Result<()> {
    let source = workdir.write("source", b"broker-test|xterm by another name,\n\tuse=xterm,\n")?;
    let elsewhere = workdir.aside().join("descriptions");
    run_tool(&workdir.files(), "tic", &["-o", &elsewhere.to_string_lossy(), &source.to_string_lossy()])?;
    symlink(&elsewhere, workdir.path(".terminfo")).during("link the descriptions")
}

#[test]
fn a_terminal_is_known_by_the_users_own_description() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    home_with_a_description(&workdir)?;
    let home = workdir.files().display().to_string();
    let mut started = AtTerminal::start_with(None, CURSES, &[("TERM", "broker-test"), ("HOME", &home)])?;
    let screen = watch(&started.terminal)?;
    expect(&screen, "Blank mode")?;
    started.emulator().signal(Signal::TERM)?;
    started.end()
}

/// What the sandbox of an emulator on a terminal shows, by `broker plan`.
fn plan(home: &Path, options: &[&str]) -> Result<String> {
    let mut command = Command::new(broker_binary()?);
    command.arg("plan").args(options).args(["--", "qemu-system-x86_64", "-nic", "none", "-display", "curses"]);
    command.env("HOME", home).env("TERM", "broker-test").env_remove("TERMINFO").env_remove("TERMINFO_DIRS");
    let output = command.output().during("ask for a plan")?;
    assert!(output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn nothing_but_a_description_is_shown() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    home_with_a_description(&workdir)?;
    let home = workdir.files();
    let file = workdir.path(".terminfo/b/broker-test");
    let shown = format!("show       {} read-only", file.display());
    let folder = workdir.aside().join("descriptions");
    let as_root = plan(&home, &[])?;
    assert!(as_root.contains(&shown) && !as_root.contains(&format!("{} ", folder.display())), "{as_root}");
    // Another user gets what is for everybody, and this is not.
    run_tool(&home, "chmod", &["o-r", &file.to_string_lossy()])?;
    let as_another = plan(&home, &["--user", "12345:12345"])?;
    assert!(!as_another.contains(&shown), "{as_another}");
    // Another file in its place is none.
    std::fs::remove_file(&file).during("remove the description")?;
    symlink("/etc/passwd", &file).during("link another file")?;
    let without = plan(&home, &[])?;
    assert!(!without.contains(&shown) && !without.contains("passwd"), "{without}");
    Ok(())
}

#[test]
fn the_terminal_is_given_back_however_the_emulator_ends() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let with_serial = [CURSES, &["-serial", "stdio"]].concat();
    for arguments in [CURSES, &with_serial] {
        for signal in [Signal::TERM, Signal::ABORT, Signal::KILL] {
            let mut started = AtTerminal::start(arguments)?;
            let screen = watch(&started.terminal)?;
            // The modes are not all set when it stops to be read by lines, but before anything is drawn.
            expect(&screen, "Blank mode")?;
            started.emulator().signal(signal)?;
            started.end()?;
            started.assert_given_back(&format!("{signal:?}, {arguments:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn without_a_terminal_the_emulator_complains_itself() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    let run = |bare: bool| {
        let command = BrokerCommand::new(&workdir).args(["-display", "curses", "-nic", "none"]);
        if bare { command.bare().run() } else { command.run() }
    };
    let (bare, confined) = (run(true)?, run(false)?);
    assert_eq!(bare.status.code(), Some(1), "{bare:?}");
    assert_eq!((confined.status.code(), &confined.stderr), (Some(1), &bare.stderr));
    Ok(())
}
