//! Outputs that go to a FIFO: QEMU waits there for a reader.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use tests::{BrokerCommand, During, ORDINARY_USER, PATIENCE, Process, Result, Workdir, need, until};

/// Arguments of an emulator that runs no guest.
const NO_MACHINE: &[&str] = &["-machine", "none", "-nodefaults", "-display", "none"];

/// Opens a FIFO for reading without waiting for a writer.
fn read_from(path: &Path) -> Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    File::options().read(true).custom_flags(flags).open(path).during(format!("open {}", path.display()))
}

/// Waits until the monitor has greeted over the FIFO.
fn await_greeting(mut reader: &File) -> Result<()> {
    let mut text = String::new();
    until(PATIENCE, "the monitor's greeting", || {
        // Nobody writes yet, or nothing more.
        let _ = reader.read_to_string(&mut text);
        Ok(text.contains("\"QMP\"").then_some(()))
    })
}

/// A monitor that greets over a FIFO, whose reader comes before the emulator or while that waits.
fn greet(user: Option<u32>, device: &str, reads_before: bool) -> Result<()> {
    let workdir = Workdir::new()?;
    let path = workdir.path("fifo");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).during("make a FIFO")?;
    let early = if reads_before { Some(read_from(&path)?) } else { None };
    let words = ["-chardev", device, "-mon", "chardev=m,mode=control"];
    let command = BrokerCommand::new(&workdir).args(NO_MACHINE).args(words);
    let mut emulator = user.into_iter().fold(command, BrokerCommand::user).start()?;
    let reader = match early {
        Some(reader) => reader,
        None => {
            let serves = |process: &Process| process.status().is_some_and(|status| status.field("Name") == "broker");
            until(PATIENCE, "the broker", || Ok(emulator.helpers()?.iter().any(serves).then_some(())))?;
            read_from(&path)?
        }
    };
    await_greeting(&reader).map_err(|error| emulator.explain(error))?;
    emulator.signal(rustix::process::Signal::TERM)?;
    let finished = emulator.wait()?;
    // QEMU takes the signal for its own only some time after the monitor has greeted.
    let ended = finished.status.success() || finished.status.signal() == Some(rustix::process::Signal::TERM.as_raw());
    assert!(ended && !finished.stderr.contains("refused"), "{finished:?}");
    assert!(path.exists(), "it is the operator's");
    Ok(())
}

#[test]
fn an_output_goes_to_whoever_reads_a_fifo() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    greet(None, "file,id=m,path=fifo", true)?;
    greet(Some(ORDINARY_USER), "file,id=m,path=fifo,append=on", true)
}

#[test]
fn a_reader_may_come_late() -> Result<()> {
    need!(Qemu, Landlock);
    greet(None, "file,id=m,path=fifo", false)
}

#[test]
fn an_emulator_that_waits_for_a_reader_can_be_ended() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let path = workdir.path("fifo");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).during("make a FIFO")?;
    let files = workdir.listing()?;
    let words = ["-chardev", "file,id=m,path=fifo"];
    let mut emulator = BrokerCommand::new(&workdir).args(NO_MACHINE).args(words).start()?;
    emulator.signal(rustix::process::Signal::KILL)?;
    emulator.wait()?;
    emulator.assert_nothing_left(&workdir, &files)
}

#[test]
fn of_a_reader_that_does_not_come_the_operator_hears() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    rustix::fs::mknodat(CWD, workdir.path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .during("make a FIFO")?;
    let command = BrokerCommand::new(&workdir).options(["--open-timeout", "1"]).args(NO_MACHINE);
    let finished = command.args(["-chardev", "file,id=m,path=fifo"]).run()?;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("fifo: nothing came in time;"), "{finished:?}");
    Ok(())
}
