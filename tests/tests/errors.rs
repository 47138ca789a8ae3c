//! What the operator reads when a start fails: one line that names the cause, the right exit status, and
//! nothing left behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tests::{BrokerCommand, ORDINARY_USER, PLAIN_QEMU, Result, Workdir, need};

/// Exit statuses before the emulator runs, as env(1) and the shells have them.
const BROKER_FAILED: i32 = 125;
const CANNOT_EXECUTE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Runs a start that must fail with `status` and one line on standard error that holds `texts`.
fn expect_failure(workdir: &Workdir, command: BrokerCommand, status: i32, texts: &[&str]) -> Result<()> {
    let files = workdir.listing()?;
    let mut emulator = command.start()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(status), "{finished:?}");
    let line = finished.stderr.strip_suffix('\n').unwrap_or_default();
    assert!(line.starts_with("broker: ") && !line.contains('\n'), "one line: {finished:?}");
    for text in texts {
        assert!(line.contains(text), "{text:?} is not in {finished:?}");
    }
    assert_eq!(finished.stdout, "");
    emulator.assert_nothing_left(workdir, &files)
}

/// Runs a start that must fail as it does without the broker: with QEMU's status, and its words that hold `text`.
fn expect_qemus_failure<'w>(workdir: &'w Workdir, start: impl Fn() -> BrokerCommand<'w>, text: &str) -> Result<()> {
    let files = workdir.listing()?;
    let mut emulator = start().start()?;
    let finished = emulator.wait()?;
    let bare = start().bare().run()?;
    assert_eq!(finished.status.code(), bare.status.code());
    assert!(bare.status.code() != Some(0) && bare.stderr.contains(text), "{bare:?}");
    // An ordinary user without a session of logind has no folder for a control socket, and is told so.
    let said: Vec<&str> = finished.stderr.lines().filter(|line| !line.contains("XDG_RUNTIME_DIR")).collect();
    assert_eq!(said, bare.stderr.lines().collect::<Vec<_>>());
    emulator.assert_nothing_left(workdir, &files)
}

#[test]
fn of_a_missing_image_qemu_complains() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let start = || BrokerCommand::new(&workdir).boot_sector("file=gone.qcow2,format=qcow2");
    expect_qemus_failure(&workdir, start, "Could not open 'gone.qcow2': No such file or directory")
}

#[test]
fn a_missing_backing_file_is_named() -> Result<()> {
    need!(Broker, Qemu);
    let workdir = Workdir::new()?;
    tests::two_level_chain(&workdir)?;
    fs::remove_file(workdir.path("base.raw")).unwrap();
    let command = BrokerCommand::new(&workdir).boot_sector("file=top.qcow2,format=qcow2");
    expect_failure(&workdir, command, BROKER_FAILED, &["base.raw", "No such file"])
}

#[test]
fn of_an_unreadable_image_qemu_complains() -> Result<()> {
    need!(Broker, Qemu, UserNamespaces, Landlock);
    let workdir = Workdir::new()?;
    let disk = tests::raw_boot_disk(&workdir, "disk.raw")?;
    fs::set_permissions(disk, Permissions::from_mode(0o000)).unwrap();
    let start = || BrokerCommand::new(&workdir).user(ORDINARY_USER).boot_sector("file=disk.raw,format=raw");
    expect_qemus_failure(&workdir, start, "Could not open 'disk.raw': Permission denied")
}

#[test]
fn a_backing_file_outside_the_image_roots_is_refused_with_the_option_to_add() -> Result<()> {
    need!(Broker, Qemu);
    let workdir = Workdir::new()?;
    let elsewhere = Workdir::new()?;
    let base = tests::raw_boot_disk(&elsewhere, "base.raw")?;
    tests::qcow2_over(&workdir, "top.qcow2", &base.to_string_lossy(), "raw")?;
    let root = elsewhere.files().to_string_lossy().into_owned();
    let start = || BrokerCommand::new(&workdir).boot_sector("file=top.qcow2,format=qcow2");
    expect_failure(&workdir, start(), BROKER_FAILED, &[&base.to_string_lossy(), &format!("--image-root {root}")])?;
    let emulator = start().options(["--image-root", &root]).start()?;
    emulator.wait_for_writes(1)
}

#[test]
fn a_configuration_out_of_a_pipe_is_read_once() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let pipe = workdir.path("configuration");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = std::thread::spawn(move || fs::write(pipe, "[machine]\n  graphics = \"off\"\n"));
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU);
    let finished = command.args(["-readconfig", "configuration", "-nonsense"]).run()?;
    writer.join().unwrap().unwrap();
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("-nonsense: invalid option"), "{finished:?}");
    Ok(())
}

#[test]
fn of_an_unknown_option_qemu_complains() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    for user in [false, true] {
        let start = || {
            let command = BrokerCommand::new(&workdir).args(["-hda", "gone.img", "-daemonize", "-no-such-option"]);
            if user { command.user(ORDINARY_USER) } else { command }
        };
        expect_qemus_failure(&workdir, start, "qemu-system-x86_64: -no-such-option: invalid option\n")?;
    }
    Ok(())
}

#[test]
fn an_option_that_only_the_broker_does_not_understand_is_named() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    // QEMU does not part its keys before it looks for the drive, which would be another option's.
    let command = BrokerCommand::new(&workdir).args(["-set", "drive.absent.file=x"]);
    expect_failure(&workdir, command, BROKER_FAILED, &["-set drive.absent.file=x"])?;
    // It would listen for a debugger behind all devices, when the answer has come.
    let command = BrokerCommand::new(&workdir).args(["-gdb", "nonsense"]);
    expect_failure(&workdir, command, BROKER_FAILED, &["-gdb nonsense"])
}

#[test]
fn an_option_that_is_not_served_yet_is_named() -> Result<()> {
    need!(Broker, Qemu);
    let workdir = Workdir::new()?;
    for (option, value) in [
        ("-netdev", "user,id=net0"),
        ("-netdev", "vde,id=net0"),
        ("-incoming", "rdma:127.0.0.1:4444"),
        ("-vnc", ":0,sasl=on"),
        ("-serial", "braille"),
    ] {
        let command = BrokerCommand::new(&workdir).args(["-machine", "none", option, value]);
        expect_failure(&workdir, command, BROKER_FAILED, &[option])?;
    }
    Ok(())
}

#[test]
fn an_emulator_that_is_not_there_is_named() -> Result<()> {
    need!(Broker);
    let workdir = Workdir::new()?;
    for program in ["qemu-system-nothing", "./qemu-system-x86_64", "/nowhere/qemu-system-x86_64"] {
        let command = BrokerCommand::new(&workdir).program(program).args(PLAIN_QEMU);
        expect_failure(&workdir, command, NOT_FOUND, &[program])?;
    }
    Ok(())
}

#[test]
fn an_emulator_that_cannot_be_executed_is_named() -> Result<()> {
    need!(Broker);
    let workdir = Workdir::new()?;
    workdir.write("qemu-system-x86_64", b"not a program")?;
    let command = BrokerCommand::new(&workdir).program("./qemu-system-x86_64").args(PLAIN_QEMU);
    expect_failure(&workdir, command, CANNOT_EXECUTE, &["./qemu-system-x86_64"])
}
