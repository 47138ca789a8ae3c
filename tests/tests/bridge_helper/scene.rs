//! A network namespace with the bridge `br0`, an access list of its own, and the helper installed in each way.

use std::fmt::{self, Display};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};

use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;
use tests::{During, Error, Network, ORDINARY_USER, PATIENCE, Result, broker_binary, helper_binary, until};

/// Fills `/etc` with what these programs need, and installs the helper beneath `/mnt`: `$1` is the helper, `$2` the
/// broker. The mount namespace is the test's own, and its file systems not mounted nosuid.
const FURNISH: &str = r#"
set -eu
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/etc
cp -a /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.cache /etc/ld.so.conf* /mnt/etc 2>/dev/null || true
mount --bind /mnt/etc /etc
mkdir /etc/qemu
cp "$1" /mnt/plain && cp "$1" /mnt/setuid && cp "$1" /mnt/capable && cp "$2" /mnt/broker && cp "$2" /mnt/setuid-broker
chown 0:0 /mnt/* && chmod 0755 /mnt/plain /mnt/capable /mnt/broker && chmod 4755 /mnt/setuid /mnt/setuid-broker
"#;

/// What `setcap cap_net_admin+ep` gives a file (`struct vfs_cap_data`, linux/capability.h): `VFS_CAP_REVISION_2` with
/// the effective bit, then the lower halves of the permitted and the inheritable set, then the upper ones.
const FILE_CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// How the helper is installed, and who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// An ordinary user runs a program that is setuid root.
    Setuid,
    /// An ordinary user runs a program with a file capability.
    Capable,
    /// Root runs it.
    Root,
    /// Root runs `broker bridge-helper`.
    Command,
    /// An ordinary user runs a program that gives no right.
    Plain,
    /// An ordinary user runs `broker bridge-helper`, which is setuid root and should not be.
    SetuidBroker,
}

/// Those that can give a tap.
pub const WAYS: [Way; 4] = [Way::Setuid, Way::Capable, Way::Root, Way::Command];

impl Way {
    /// The program and its first words.
    pub fn program(self) -> &'static [&'static str] {
        match self {
            Self::Setuid => &["/mnt/setuid"],
            Self::Capable => &["/mnt/capable"],
            Self::Root | Self::Plain => &["/mnt/plain"],
            Self::Command => &["/mnt/broker", "bridge-helper"],
            Self::SetuidBroker => &["/mnt/setuid-broker", "bridge-helper"],
        }
    }

    /// Who runs it, if not root.
    pub fn user(self) -> Option<u32> {
        (!matches!(self, Self::Root | Self::Command)).then_some(ORDINARY_USER)
    }
}

impl Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// The namespaces.
pub struct Scene(pub Network);

/// What came of a run.
#[derive(Debug)]
pub struct Answer {
    pub output: Output,
    /// What was written to the socket.
    pub bytes: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

impl Answer {
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Fails unless it was refused in one line that holds `part`, and nothing handed over.
    pub fn assert_refused(&self, part: &str) {
        let stderr = self.stderr();
        assert_eq!(self.output.status.code(), Some(1), "{self:?}");
        assert!(stderr.contains(part) && stderr.lines().count() == 1, "{part:?} is not in {stderr:?}");
        assert!(self.bytes.is_empty() && self.descriptors.is_empty(), "{self:?}");
    }
}

impl Scene {
    /// The bridge `br0`, of MTU 1400, and this access list.
    pub fn new(list: &str) -> Result<Self> {
        let network = Network::new()?;
        let (helper, broker) = (helper_binary()?, broker_binary()?);
        network.run(None, "sh", &["-c", FURNISH, "sh", &helper.to_string_lossy(), &broker.to_string_lossy()])?;
        let give = || setxattr("/mnt/capable", "security.capability", &FILE_CAPABILITY, XattrFlags::empty());
        network.within(None, give)?.during("give a file capability")?;
        network.bridge("br0")?;
        network.ip("link set br0 mtu 1400")?;
        let scene = Self(network);
        scene.write_list(list)?;
        Ok(scene)
    }

    /// Makes `text` the access list of the host.
    pub fn write_list(&self, text: &str) -> Result<()> {
        self.shell(&format!("rm -rf /etc/qemu/bridge.conf; cat > /etc/qemu/bridge.conf <<'END'\n{text}\nEND"))
    }

    /// Runs a shell's line as root.
    pub fn shell(&self, line: &str) -> Result<()> {
        self.0.run(None, "sh", &["-c", line]).map(|_| ())
    }

    /// The helper, with a shell's `line` before it that ends in what runs it: `exec "$@"`.
    pub fn command(&self, way: Way, line: &str, arguments: &[&str]) -> Command {
        let mut words = self.0.words(way.user()).into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(["bash", "--norc", "-c", line, "bash"]).args(way.program()).args(arguments);
        command.current_dir("/");
        command
    }

    /// Runs it to its end, with a socket as its standard input.
    pub fn ask(&self, way: Way, arguments: &[&str]) -> Result<Answer> {
        self.ask_by(way, "exec \"$@\"", arguments)
    }

    /// The same by way of a shell's `line`.
    pub fn ask_by(&self, way: Way, line: &str, arguments: &[&str]) -> Result<Answer> {
        let (ours, theirs) = UnixStream::pair().during("socketpair")?;
        let mut command = self.command(way, line, arguments);
        let output = command.stdin(OwnedFd::from(theirs)).output().during("start the helper")?;
        // It holds the other end.
        drop(command);
        let (bytes, descriptors) = receive(&ours)?;
        Ok(Answer { output, bytes, descriptors })
    }

    /// Starts it on a socket that takes nothing, so that it stands still when it has the tap and would hand it over;
    /// waits until the tap is on the bridge. Returns our end too, which the helper's life depends on.
    pub fn stop_with_tap(&self, way: Way, line: &str) -> Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair().during("socketpair")?;
        while rustix::net::send(&theirs, &[1; 4096], rustix::net::SendFlags::DONTWAIT).is_ok() {}
        let mut command = self.command(way, line, &["--use-vnet", "--br=br0", "--fd=0"]);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().during("start the helper")?;
        until(PATIENCE, "the tap on the bridge", || Ok(self.is_up("tap0")?.then_some(())))?;
        Ok((child, ours))
    }

    /// Whether the interface is a port of `br0`, and up.
    pub fn is_up(&self, name: &str) -> Result<bool> {
        let link = self.0.link(name)?.unwrap_or(Value::Null);
        let has_flag = |flags: &Vec<Value>| flags.iter().any(|flag| flag == "UP");
        let is_up = link.get("flags").and_then(Value::as_array).is_some_and(has_flag);
        Ok(is_up && link.get("master").is_some_and(|master| master == "br0"))
    }

    /// Fails if an interface is left that the test did not make.
    pub fn assert_nothing_left(&self) -> Result<()> {
        until(PATIENCE, "the taps to go", || Ok((self.0.interfaces()? == ["lo", "br0"]).then_some(())))
    }
}

/// All that waits in a socket.
fn receive(socket: &UnixStream) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0xff; 16];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
        // A child that another test is starting may hold the other end until its execve: no end of file, then.
        Err(Errno::AGAIN) => return Ok((Vec::new(), Vec::new())),
        message => message.during("recvmsg")?,
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((bytes.into_iter().take(message.bytes).collect(), descriptors))
}

/// The interface that a descriptor is a queue of, as the kernel tells it.
pub fn interface_of(descriptor: &OwnedFd) -> Result<String> {
    let path = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let text = std::fs::read_to_string(&path).during(format!("read {path}"))?;
    let name = text.lines().find_map(|line| line.strip_prefix("iff:"));
    name.map(|name| name.trim().to_owned()).ok_or_else(|| Error::Unexpected(format!("no tap's: {text:?}")))
}
