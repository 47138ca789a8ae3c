//! Character devices at FIFOs and device nodes of the host.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use tests::hostile::{Puppet, Scene};
use tests::{BrokerCommand, During, ORDINARY_USER, Result, Workdir, need};

use crate::scene::{Terminal, await_text, speak_qmp};

/// Arguments of an emulator that runs no guest.
const NO_MACHINE: &[&str] = &["-machine", "none", "-nodefaults", "-display", "none"];

fn make_fifo(path: &Path) -> Result<()> {
    let made = rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0);
    made.during(format!("make {}", path.display()))
}

/// Opens a FIFO without waiting for anybody.
fn open_fifo(path: &Path) -> Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    opened.during(format!("open {}", path.display()))
}

/// A monitor at a pair of FIFOs; `spelled` is how the command line names them.
fn speak_over_a_pipe(user: Option<u32>, words: [&str; 2]) -> Result<()> {
    let workdir = Workdir::new()?;
    for name in ["p.in", "p.out"] {
        make_fifo(&workdir.path(name))?;
    }
    let command = BrokerCommand::new(&workdir).args(NO_MACHINE).args(words).args(["-mon", "chardev=m,mode=control"]);
    let command = user.into_iter().fold(command, BrokerCommand::user);
    let emulator = command.start()?;
    // Opened for both, as QEMU does: no side waits for the other, or takes its end for the end of file.
    let (input, output) = (open_fifo(&workdir.path("p.out"))?, open_fifo(&workdir.path("p.in"))?);
    speak_qmp(&emulator, &input, &output)
}

#[test]
fn a_pipe_is_two_fifos() -> Result<()> {
    need!(Qemu, Landlock);
    speak_over_a_pipe(None, ["-chardev", "pipe,id=m,path=p"])
}

#[test]
fn an_ordinary_users_pipe() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    speak_over_a_pipe(Some(ORDINARY_USER), ["-chardev", "pipe,id=m,path=./p"])
}

#[test]
fn a_pipe_is_one_fifo_where_there_are_no_two() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    make_fifo(&workdir.path("one"))?;
    let command = BrokerCommand::new(&workdir).args(NO_MACHINE).args(["-chardev", "pipe,id=a,path=one"]);
    let (emulator, mut qmp) = command.start_with_monitor()?;
    let held = emulator.process().open_flags_of(&workdir.path("one"))?;
    assert!(!held.is_empty() && held.iter().all(|flags| flags.contains(OFlags::RDWR)), "{held:?}");
    qmp.quit()
}

#[test]
fn nobody_waits_at_a_fifo() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    make_fifo(&scene.workdir.path("fifo"))?;
    let puppet = Puppet::start(&scene, |command| command.args(["-serial", "pipe:fifo"]))?;
    assert_eq!(puppet.open("fifo", OFlags::RDWR)?, "ok");
    assert_eq!(puppet.open("fifo", OFlags::RDONLY | OFlags::NONBLOCK)?, "ok");
    for flags in [OFlags::RDONLY, OFlags::WRONLY] {
        assert_eq!(puppet.open("fifo", flags)?, "EACCES");
    }
    puppet.emulator().wait_for_message("which waits for nobody")?;
    scene.assert_unharmed(&puppet.end()?)
}

/// A monitor at a terminal that is named, which QEMU takes for a serial port.
fn speak_over_a_port(user: Option<u32>) -> Result<()> {
    let workdir = Workdir::new()?;
    let terminal = Terminal::open()?;
    std::os::unix::fs::chown(&terminal.name, user, None).during("give the terminal away")?;
    let device = format!("serial,id=m,path={}", terminal.name);
    let command = BrokerCommand::new(&workdir).args(NO_MACHINE);
    let command = command.args(["-chardev", &device, "-mon", "chardev=m,mode=control"]);
    let command = user.into_iter().fold(command, BrokerCommand::user);
    let emulator = command.start()?;
    speak_qmp(&emulator, &terminal.ours, &terminal.ours)?;
    // Its speed and its modes are the emulator's to set.
    let modes = terminal.modes()?;
    assert!(!modes.local_modes.contains(rustix::termios::LocalModes::ICANON));
    assert_eq!(modes.output_speed(), 115_200);
    Ok(())
}

#[test]
fn a_serial_port_is_a_terminal_by_its_name() -> Result<()> {
    need!(Qemu, Landlock);
    speak_over_a_port(None)
}

#[test]
fn an_ordinary_users_serial_port() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces, Root);
    speak_over_a_port(Some(ORDINARY_USER))
}

#[test]
fn what_is_missing_is_told_in_the_emulators_words() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    for words in [
        ["-serial", "pipe:missing"],
        ["-serial", "/dev/ttyS77"],
        ["-parallel", "/dev/parport77"],
        ["-chardev", "serial,id=a,path=missing"],
        ["-chardev", "pipe,id=a"],
        ["-chardev", "parallel,id=a"],
    ] {
        let run = |bare: bool| {
            let command = BrokerCommand::new(&workdir).args(NO_MACHINE).args(words);
            if bare { command.bare().run() } else { command.run() }
        };
        let (bare, confined) = (run(true)?, run(false)?);
        assert_eq!(bare.status.code(), Some(1), "{words:?}");
        assert_eq!((confined.status.code(), &confined.stderr), (Some(1), &bare.stderr), "{words:?}");
    }
    Ok(())
}

#[test]
fn a_port_is_seen_by_its_name_and_no_other_device_is() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    let (granted, other) = (Terminal::open()?, Terminal::open()?);
    let puppet = Puppet::start(&scene, |command| command.args(["-serial", &granted.name]))?;
    let opened = puppet.start_open(&granted.name, OFlags::RDWR | OFlags::NONBLOCK, 0)?;
    assert_eq!(puppet.answer(opened)?, "ok");
    let device = fs::metadata(puppet.descriptor(opened)?).during("look at the descriptor")?.rdev();
    assert_eq!(device, fs::metadata(&granted.name).during("look at the terminal")?.rdev());
    assert_eq!(puppet.open(&other.name, OFlags::RDWR)?, "EACCES");
    assert_eq!(puppet.open("/dev/ptmx", OFlags::RDWR)?, "EACCES");
    scene.assert_unharmed(&puppet.end()?)
}

#[test]
fn what_is_written_to_a_file_may_go_to_a_terminal() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let terminal = Terminal::open()?;
    let device = format!("file,id=m,path={}", terminal.name);
    let command = BrokerCommand::new(&workdir).args(NO_MACHINE);
    let emulator = command.args(["-chardev", &device, "-mon", "chardev=m,mode=control"]).start()?;
    await_text(&emulator, &terminal.ours, "\"QMP\"")?;
    Ok(())
}
