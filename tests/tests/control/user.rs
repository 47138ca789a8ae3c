//! `broker ctl` of an ordinary user: the socket is beneath `XDG_RUNTIME_DIR`, and a grant gives what that user may open.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tests::control::{Control, unique_name};
use tests::{BrokerCommand, During, Error, ORDINARY_USER, Qmp, Result, Workdir, need, raw_boot_disk, until};

/// A user's guest, which never runs: only its monitor does.
struct Guest {
    workdir: Workdir,
    child: Child,
    qmp: Qmp,
    control: Control,
    runtime: PathBuf,
}

impl Guest {
    fn start() -> Result<Self> {
        let workdir = Workdir::new()?;
        workdir.write("mine.raw", &[0x5a; 1 << 20])?;
        workdir.give_to(ORDINARY_USER)?;
        let secret = workdir.write("secret.raw", &[0x5a; 1 << 20])?;
        fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).during("chmod")?;
        let (runtime, binary) = (workdir.aside().join("runtime"), workdir.aside().join("broker-copy"));
        fs::create_dir(&runtime).during("mkdir")?;
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).during("chmod")?;
        chown(&runtime, Some(ORDINARY_USER), Some(ORDINARY_USER)).during("chown")?;
        // By a program: a file that this process wrote cannot be executed while another child of it is being forked.
        let copied = Command::new("cp").arg(tests::broker_binary()?).arg(&binary).status().during("start cp")?;
        assert!(copied.success());
        let (ours, theirs) = UnixStream::pair().during("make the monitor's sockets")?;
        let theirs = OwnedFd::from(theirs);
        let name = unique_name();
        let child = Command::new(&binary)
            .args(["--name", &name, "--", "qemu-system-x86_64"])
            .args(tests::PLAIN_QEMU)
            .args(["-S", "-accel", "tcg", "-qmp", "stdio"])
            .current_dir(workdir.files())
            .env("XDG_RUNTIME_DIR", &runtime)
            .env_remove("LD_LIBRARY_PATH")
            .stdin(theirs.try_clone().during("copy a descriptor")?)
            .stdout(theirs)
            .stderr(Stdio::null())
            .uid(ORDINARY_USER)
            .gid(ORDINARY_USER)
            .spawn()
            .during("start the broker")?;
        let control = Control::new(&name).user(ORDINARY_USER, &runtime, &binary);
        Ok(Self { workdir, child, qmp: Qmp::greet(ours)?, control, runtime })
    }

    fn path(&self, name: &str) -> String {
        self.workdir.path(name).to_string_lossy().into_owned()
    }

    fn add(&mut self, name: &str, write: bool) -> Result<Value> {
        let node = json!({ "driver": "file", "node-name": "added", "filename": self.path(name), "read-only": !write });
        self.qmp.execute("blockdev-add", node)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Our own child; killing what has ended already fails, and that is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_user_grants_what_the_user_may_open() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock);
    let mut guest = Guest::start()?;
    assert!(guest.control.socket().starts_with(&guest.runtime) && guest.control.socket().exists());
    assert!(matches!(guest.add("mine.raw", true), Err(Error::Refused { .. })));
    guest.control.order(["grant", &guest.path("mine.raw"), "--write"])?;
    guest.add("mine.raw", true)?;
    guest.qmp.execute("blockdev-del", json!({ "node-name": "added" }))?;
    let complaint = guest.control.refused(["grant", &guest.path("secret.raw")])?;
    assert!(complaint.contains("secret.raw") && complaint.contains("Permission denied"), "{complaint}");
    assert!(matches!(guest.add("secret.raw", false), Err(Error::Refused { .. })));
    guest.control.order(["revoke", &guest.path("mine.raw")])?;
    assert!(matches!(guest.add("mine.raw", false), Err(Error::Refused { .. })));
    guest.qmp.quit()?;
    assert!(guest.child.wait().during("wait for the emulator")?.success());
    until(tests::PATIENCE, "the socket to go", || Ok((!guest.control.folder().exists()).then_some(())))
}

#[test]
fn a_read_only_grant_cannot_be_made_writable() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock);
    let mut guest = Guest::start()?;
    guest.control.order(["grant", &guest.path("mine.raw")])?;
    assert!(matches!(guest.add("mine.raw", true), Err(Error::Refused { .. })));
    guest.add("mine.raw", false)?;
    let process = tests::Process(guest.child.id());
    let wanted = fs::metadata(guest.workdir.path("mine.raw")).during("stat the image")?;
    let place = |number: u32| format!("/proc/{}/fd/{number}", process.0);
    let is_it = |number: &u32| {
        fs::metadata(place(*number)).is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
    };
    let number = process.descriptors()?.into_keys().find(is_it);
    let number = number.ok_or_else(|| Error::Unexpected("the image is not open".into()))?;
    let again = fs::OpenOptions::new().write(true).open(place(number));
    let errno = again.err().and_then(|error| error.raw_os_error());
    assert_eq!(errno, Some(rustix::io::Errno::ROFS.raw_os_error()));
    Ok(())
}

#[test]
fn without_a_runtime_folder_the_guest_runs_and_cannot_be_asked() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "boot.raw")?;
    if std::env::var_os("XDG_RUNTIME_DIR").is_some() {
        // Only a run without one shows what is said then.
        println!("SKIPPED: XDG_RUNTIME_DIR is set");
        return Ok(());
    }
    let emulator = BrokerCommand::new(&workdir).user(ORDINARY_USER).boot_sector("file=boot.raw,format=raw").start()?;
    emulator.wait_for_writes(1)?;
    assert!(emulator.stderr()?.contains("XDG_RUNTIME_DIR"), "{}", emulator.stderr()?);
    Ok(())
}

/// What is granted is handed to whoever listens at the socket.
#[test]
fn nothing_is_said_to_a_stranger() -> Result<()> {
    need!(Broker, Root);
    let workdir = Workdir::new()?;
    workdir.give_to(ORDINARY_USER)?;
    let (runtime, binary) = (workdir.aside().join("runtime"), workdir.aside().join("broker-copy"));
    let copied = Command::new("cp").arg(tests::broker_binary()?).arg(&binary).status().during("start cp")?;
    assert!(copied.success());
    let control = Control::new("web").user(ORDINARY_USER, &runtime, &binary);
    fs::create_dir_all(control.folder()).during("mkdir")?;
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET);
    let socket = rustix::net::socket_with(family, kind, flags, None).during("make a socket")?;
    let address = rustix::net::SocketAddrUnix::new(control.socket()).during("name the socket")?;
    rustix::net::bind(&socket, &address).during("bind the socket")?;
    rustix::net::listen(&socket, 1).during("listen")?;
    fs::set_permissions(control.socket(), fs::Permissions::from_mode(0o777)).during("chmod")?;
    let answered = control.run(["grant", "/etc/passwd"])?;
    assert_eq!(answered.status.code(), Some(125), "{answered:?}");
    assert!(answered.stderr.contains("not the socket of a guest of yours"), "{answered:?}");
    Ok(())
}
