//! The guest's screen on the caller's terminal.

use std::io::Write;

use rustix::process::Signal;
use rustix::termios::{Winsize, tcsetwinsize};
use tests::{BrokerCommand, During, ORDINARY_USER, Result, Workdir, need};

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
