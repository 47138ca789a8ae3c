//! The terminal is the emulator's own: what is typed reaches it, and it is left as it was found.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use tests::{During, Error, PATIENCE, Result, broker_binary, need};

/// A terminal of the test's own: the side that a person would type on, and the side of the program.
fn open_terminal() -> Result<(File, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
    let ours = ours.map_err(std::io::Error::from).during("open a pty")?;
    grantpt(&ours).and_then(|()| unlockpt(&ours)).map_err(std::io::Error::from).during("unlock a pty")?;
    let name = ptsname(&ours, Vec::new()).map_err(std::io::Error::from).during("name a pty")?;
    let name = name.into_string().map_err(|error| Error::Unexpected(format!("the pty's name: {error}")))?;
    let theirs = File::options().read(true).write(true).open(&name).during(format!("open {name}"))?;
    Ok((File::from(ours), theirs.into()))
}

/// Waits until what was shown holds `text`.
fn expect(shown: &mut String, screen: &Receiver<String>, text: &str) -> Result<()> {
    let start = Instant::now();
    while !shown.contains(text) {
        match screen.recv_timeout(Duration::from_millis(100)) {
            Ok(more) => shown.push_str(&more),
            Err(_) if start.elapsed() < PATIENCE => {}
            Err(_) => return Err(Error::Unexpected(format!("{text:?} was never shown: {shown}"))),
        }
    }
    shown.clear();
    Ok(())
}

#[test]
fn nographic_works_on_a_real_terminal_and_restores_it() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    let (ours, theirs) = open_terminal()?;
    let before = tcgetattr(&theirs).map_err(std::io::Error::from).during("ask for the terminal's modes")?;
    assert!(before.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
    let stdio = || theirs.as_fd().try_clone_to_owned().map(Stdio::from).during("duplicate a descriptor");
    let mut child = Command::new("setsid")
        .args(["--ctty", "--wait"])
        .arg(broker_binary()?)
        .args(["--", "qemu-system-x86_64", "-machine", "q35", "-nographic", "-nic", "none", "-S"])
        .stdin(stdio()?)
        .stdout(stdio()?)
        .stderr(stdio()?)
        .spawn()
        .during("start the broker on a terminal")?;
    let (send, screen) = channel();
    let mut reader = ours.try_clone().during("duplicate a descriptor")?;
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut bytes) {
            if send.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut keyboard = &ours;
    let mut shown = String::new();
    // Control-A c goes from the serial line to the monitor. Keys that come before QEMU reads them raw would be lost.
    let is_raw = || {
        let modes = tcgetattr(&theirs).map_err(std::io::Error::from).during("ask for the terminal's modes")?;
        Ok((!modes.local_modes.contains(LocalModes::ICANON)).then_some(()))
    };
    tests::until(PATIENCE, "the terminal is raw", is_raw)?;
    keyboard.write_all(b"\x01c").during("type")?;
    expect(&mut shown, &screen, "(qemu)")?;
    keyboard.write_all(b"info status\n").during("type")?;
    expect(&mut shown, &screen, "paused")?;
    keyboard.write_all(b"quit\n").during("type")?;
    assert!(child.wait().during("wait for the broker")?.success());
    let after = tcgetattr(&theirs).map_err(std::io::Error::from).during("ask for the terminal's modes")?;
    assert_eq!(before.local_modes, after.local_modes);
    assert_eq!(before.input_modes, after.input_modes);
    Ok(())
}
