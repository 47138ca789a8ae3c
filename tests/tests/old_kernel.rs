//! On a kernel whose Landlock lacks later rights the operator is told so, and guests start all the same.

use std::process::Command;

use tests::{BrokerCommand, During, Result, Workdir, broker_binary, need, two_level_chain};

#[test]
fn check_says_what_is_missing_and_what_stands_in() -> Result<()> {
    need!(OldLandlock);
    let output = Command::new(broker_binary()?).arg("check").output().during("start broker check")?;
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    // Landlock 3 brought truncation, 5 device ioctls, 6 the scopes of signals and abstract sockets (landlock(7)).
    for missing in ["truncation", "ioctl", "signal"] {
        let row = text.lines().find(|line| line.contains("landlock") && line.contains(missing));
        assert!(row.is_some_and(|row| row.contains("instead")), "{missing}: {text}");
    }
    Ok(())
}

#[test]
fn a_guest_starts() -> Result<()> {
    need!(OldLandlock, Qemu);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let command = BrokerCommand::new(&workdir).boot_sector("file=top.qcow2,format=qcow2");
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(2)?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    Ok(())
}
