//! QEMU's own image locks work through the broker, and nobody holds one after the emulator's death.

use rustix::process::Signal;
use tests::{BrokerCommand, Result, Workdir, need, two_level_chain};

/// The drive that both guests want.
const DRIVE: &str = "file=top.qcow2,format=qcow2";

#[test]
fn a_second_guest_is_refused_by_the_lock() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let first = BrokerCommand::new(&workdir).boot_sector(DRIVE).start()?;
    first.wait_for_writes(1)?;
    let second = BrokerCommand::new(&workdir).boot_sector(DRIVE).run()?;
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(second.stderr.contains("Failed to get \"write\" lock"), "{second:?}");
    first.wait_for_writes(2)
}

#[test]
fn the_lock_is_free_right_after_a_kill() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    for _ in 0..3 {
        let mut first = BrokerCommand::new(&workdir).boot_sector(DRIVE).start()?;
        first.wait_for_writes(1)?;
        first.signal(Signal::KILL)?;
        first.wait()?;
        let second = BrokerCommand::new(&workdir).boot_sector(DRIVE).start()?;
        second.wait_for_writes(1)?;
    }
    Ok(())
}
