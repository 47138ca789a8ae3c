//! Logs and the pid file, which are called after the process, or hold its number.

use tests::{BrokerCommand, Result, Workdir, need};

/// Arguments of an emulator that runs no guest.
const NO_MACHINE: &[&str] = &["-machine", "none", "-nodefaults", "-display", "none"];

#[test]
fn a_log_is_called_after_the_process() -> Result<()> {
    need!(Qemu, Landlock);
    for (words, start) in [
        (&["-d", "guest_errors", "-D", "log-%d.txt"][..], "log"),
        (&["-trace", "enable=qemu_mutex_lock,file=trace-%d.txt"], "trace"),
    ] {
        let workdir = Workdir::new()?;
        let command = BrokerCommand::new(&workdir).args(NO_MACHINE).args(words).args(["-pidfile", "pid"]);
        let (mut emulator, mut qmp) = command.start_with_monitor()?;
        let process = emulator.process().0;
        let pid = String::from_utf8_lossy(&workdir.read("pid")?).trim().to_owned();
        assert_eq!(pid, process.to_string());
        qmp.quit()?;
        assert_eq!(emulator.wait()?.status.code(), Some(0));
        let files = workdir.listing()?;
        assert_eq!(files, [format!("{start}-{process}.txt").into()].into(), "{words:?}");
    }
    Ok(())
}

#[test]
fn a_log_without_a_number_is_emptied_first() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    workdir.write("log", b"from before\n")?;
    let command = BrokerCommand::new(&workdir).args(NO_MACHINE).args(["-d", "guest_errors", "-D", "log"]);
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    qmp.quit()?;
    emulator.wait()?;
    assert!(workdir.read("log")?.is_empty());
    Ok(())
}

#[test]
fn names_that_are_wrong_are_told_in_the_emulators_words() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    for words in [["-D", "log-%s"], ["-D", "%d%d"], ["-d", "tid"], ["-d", "nothing"]] {
        let run = |bare: bool| {
            let command = BrokerCommand::new(&workdir).args(NO_MACHINE).args(words);
            if bare { command.bare().run() } else { command.run() }
        };
        let (bare, confined) = (run(true)?, run(false)?);
        assert_eq!(bare.status.code(), Some(1), "{words:?}: {bare:?}");
        assert_eq!((confined.status.code(), &confined.stderr), (Some(1), &bare.stderr), "{words:?}");
    }
    Ok(())
}
