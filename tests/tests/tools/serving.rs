//! `qemu-nbd` and `qemu-storage-daemon`: images served on a socket that the caller hands over.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tests::{During, Error, ORDINARY_USER, PATIENCE, Process, Result, Workdir, broker_binary, need, until};

use crate::scene::shell;

/// The shell's line that hands its standard input over as systemd does: as descriptor 3, by number of process.
const HAND_OVER: &str = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";

const DAEMON: [&str; 7] = [
    "qemu-storage-daemon",
    "--blockdev",
    "driver=file,filename=disk.qcow2,node-name=f",
    "--blockdev",
    r#"{"driver":"qcow2","node-name":"q","file":"f"}"#,
    "--nbd-server",
    "addr.type=fd,addr.str=3",
];

/// An image over another one, and a socket that listens.
struct Scene {
    workdir: Workdir,
    broker: std::path::PathBuf,
    user: bool,
}

impl Scene {
    fn new(user: bool) -> Result<Self> {
        let workdir = Workdir::new()?;
        shell(
            &workdir,
            "head -c 65536 /dev/zero | tr '\\0' 'A' > base.raw; truncate -s 1M base.raw; \
             qemu-img create -q -f qcow2 -F raw -b base.raw disk.qcow2",
        )?;
        let user = user && rustix::process::getuid().is_root();
        // The target folder may lie where only root can go.
        let broker = if user { workdir.copy(broker_binary()?, "broker")? } else { broker_binary()?.to_owned() };
        Ok(Self { workdir, broker, user })
    }

    /// Starts `words` under the broker with a listening socket as descriptor 3.
    fn serve(&self, words: &[&str]) -> Result<Served> {
        let socket: OwnedFd = UnixListener::bind(self.workdir.path("nbd.sock")).during("listen")?.into();
        let (log, path) = self.workdir.log("serving.err")?;
        let mut command = Command::new("sh");
        let chains = self.workdir.chains(self.user.then_some(ORDINARY_USER))?;
        command.args(["-c", HAND_OVER, "sh"]).arg(&self.broker).arg("--chain-dir").arg(chains).arg("--").args(words);
        command.current_dir(self.workdir.files()).env_remove("LD_LIBRARY_PATH");
        command.stdin(socket).stdout(Stdio::null()).stderr(log);
        if self.user {
            self.workdir.give_to(ORDINARY_USER)?;
            command.uid(ORDINARY_USER).gid(ORDINARY_USER);
        }
        Ok(Served { child: command.spawn().during("start the broker")?, log: path })
    }

    /// Reads what is served and writes to it, as a client does, and reads it again. NAME is the export's.
    fn speak_to(&self, name: &str) -> Result<()> {
        let server = format!("nbd+unix:///{name}?socket=nbd.sock");
        shell(
            &self.workdir,
            &format!(
                "set -e; qemu-io -f raw -c 'read -q -P 65 0 64k' '{server}'; \
                 qemu-io -f raw -c 'write -q -P 66 128k 64k' -c flush '{server}'; \
                 qemu-img convert -f raw -O raw '{server}' got.raw; \
                 qemu-io -f raw -c 'read -q -P 66 128k 64k' -c 'read -q -P 0 192k 64k' got.raw"
            ),
        )
    }

    /// The image has what was written, the file below it has not.
    fn check_image(&self) -> Result<()> {
        shell(
            &self.workdir,
            "set -e; qemu-img compare -q -f raw -F qcow2 got.raw disk.qcow2; \
             qemu-io -f raw -c 'read -q -P 0 128k 64k' base.raw",
        )
    }
}

/// What was started; killed when dropped.
struct Served {
    child: Child,
    log: std::path::PathBuf,
}

impl Served {
    fn stderr(&self) -> Result<String> {
        fs::read_to_string(&self.log).during("read the log")
    }

    /// Ends it as an operator does; the exit status.
    fn end(&mut self) -> Result<Option<i32>> {
        Process(self.child.id()).signal(Signal::TERM)?;
        self.wait()
    }

    fn wait(&mut self) -> Result<Option<i32>> {
        let child = &mut self.child;
        Ok(until(PATIENCE, "the server's end", || child.try_wait().during("wait"))?.code())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Killing what has ended already fails, and that is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nbd(user: bool) -> Result<()> {
    let scene = Scene::new(user)?;
    let mut served = scene.serve(&["qemu-nbd", "-t", "-f", "qcow2", "-x", "disk", "disk.qcow2"])?;
    scene.speak_to("disk").map_err(|error| explained(&served, &error))?;
    assert_eq!(served.end()?, Some(0), "{}", served.stderr()?);
    scene.check_image()
}

fn explained(served: &Served, error: &Error) -> Error {
    Error::Unexpected(format!("{error}; {}", served.stderr().unwrap_or_default()))
}

#[test]
fn qemu_nbd_serves_on_the_socket_of_its_caller() -> Result<()> {
    need!(Broker, Tools, Landlock);
    nbd(false)
}

#[test]
fn qemu_nbd_serves_for_an_ordinary_user() -> Result<()> {
    need!(Broker, Tools, Landlock, UserNamespaces);
    nbd(true)
}

#[test]
fn qemu_nbd_goes_on_in_the_background() -> Result<()> {
    need!(Broker, Tools, Landlock);
    let scene = Scene::new(false)?;
    let mut served = scene.serve(&["qemu-nbd", "--fork", "--pid-file=pid", "-t", "-f", "qcow2", "disk.qcow2"])?;
    assert_eq!(served.wait()?, Some(0), "{}", served.stderr()?);
    let number = String::from_utf8_lossy(&scene.workdir.read("pid")?).trim().parse::<u32>();
    let daemon = Process(number.map_err(|error| Error::Unexpected(format!("the pid file: {error}")))?);
    let spoken = scene.speak_to("");
    daemon.signal(Signal::TERM)?;
    spoken.map_err(|error| explained(&served, &error))?;
    until(PATIENCE, "the daemon's end", || Ok((!daemon.is_running()).then_some(())))?;
    scene.check_image()
}

#[test]
fn a_read_only_image_is_not_written() -> Result<()> {
    need!(Broker, Tools, Landlock);
    let scene = Scene::new(false)?;
    let mut served = scene.serve(&["qemu-nbd", "-rt", "-f", "qcow2", "disk.qcow2"])?;
    let written = scene.speak_to("");
    assert!(written.is_err_and(|error| error.to_string().contains("denied")), "{}", served.stderr()?);
    assert_eq!(served.end()?, Some(0));
    Ok(())
}

#[test]
fn the_storage_daemon_serves_on_the_socket_of_its_caller() -> Result<()> {
    need!(Broker, Tools, Landlock);
    let scene = Scene::new(false)?;
    let export = ["--export", "type=nbd,id=e,node-name=q,name=disk,writable=on"];
    let mut served = scene.serve(&[&DAEMON[..], &export[..], &["--pidfile", "pid"]].concat())?;
    scene.speak_to("disk").map_err(|error| explained(&served, &error))?;
    assert_eq!(scene.workdir.read("pid")?.trim_ascii(), served.child.id().to_string().as_bytes());
    assert_eq!(served.end()?, Some(0), "{}", served.stderr()?);
    assert!(!scene.workdir.path("pid").exists());
    scene.check_image()
}
