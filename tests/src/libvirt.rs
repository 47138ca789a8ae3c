//! libvirt, as Debian has it, in namespaces of a test's own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::binary::broker_binary;
use crate::error::{During, Error, Result};
use crate::images::run_tool;
use crate::process::{Process, descendants_of};
use crate::workdir::Workdir;

/// What is said of every one of the tests' libvirts: Debian's user, no labels, and descriptors of log files from virtlogd.
const QEMU_CONF: &str =
    "security_driver = \"none\"\nuser = \"libvirt-qemu\"\ngroup = \"kvm\"\nstdio_handler = \"logd\"\n";

/// The name under which the broker stands for the emulator.
const NAME: &str = "qemu-system-x86_64";

/// A libvirtd with a dbus-daemon and a virtlogd, in mount, process and network namespaces of its own. All of it, guests
/// included, goes when this is dropped.
#[derive(Debug)]
pub struct Libvirt {
    holder: Child,
    folder: PathBuf,
    emulator: PathBuf,
}

impl Libvirt {
    /// Starts one; takes root. `folder` is made beside the images of `workdir`, and holds a copy of the broker under the
    /// emulator's name; `configuration` is the text of `/etc/broker/emulators.toml`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(workdir: &Workdir, folder: &str, configuration: &str) -> Result<Self> {
        Self::start_in(workdir, folder, configuration, None)
    }

    /// Starts another one, which is another host to libvirt, in the same network namespace.
    ///
    /// # Errors
    /// As [`Libvirt::start`].
    pub fn start_beside(&self, workdir: &Workdir, folder: &str, configuration: &str) -> Result<Self> {
        Self::start_in(workdir, folder, configuration, Some(self))
    }

    fn start_in(workdir: &Workdir, folder: &str, configuration: &str, beside: Option<&Self>) -> Result<Self> {
        let folder = workdir.aside().join(folder);
        let emulator = prepare(&folder, configuration)?;
        let mut command = match beside {
            None => Command::new("unshare"),
            Some(other) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{}/ns/net", other.inside()?)).args(["--", "unshare"]);
                command
            }
        };
        if beside.is_none() {
            command.arg("--net");
        }
        let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup/libvirt-init");
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]).arg(init).arg(&folder);
        let holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().during("start unshare")?;
        let mut libvirt = Self { holder, folder, emulator };
        let mut line = String::new();
        if let Some(stdout) = libvirt.holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).during("hear of libvirt")?;
        }
        if line != "ready\n" {
            return Err(Error::Unexpected(format!("libvirt did not start; it said {line:?}")));
        }
        Ok(libvirt)
    }

    /// The broker under the emulator's name.
    #[must_use]
    pub fn emulator(&self) -> &Path {
        &self.emulator
    }

    /// What `virsh` connects to from the namespaces of another one.
    #[must_use]
    pub fn address(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.folder.join("sockets/libvirt-sock").display())
    }

    /// Runs `virsh` with these words, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn virsh(&self, words: &[&str]) -> Result<String> {
        let address = self.address();
        let mut line = vec!["virsh", "--quiet", "--connect", &address];
        line.extend(words);
        self.run(&line).map(|text| text.trim_end().to_owned())
    }

    /// Runs a program in the namespaces to its end, and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, line: &[&str]) -> Result<String> {
        let target = format!("--target={}", self.inside()?);
        let mut words = vec![target.as_str(), "--mount", "--pid", "--net", "--"];
        words.extend(line);
        run_tool(Path::new("/"), "nsenter", &words)
    }

    /// What QEMU and the broker have written about a guest.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn log(&self, guest: &str) -> Result<String> {
        let path = self.folder.join(format!("log/qemu/{guest}.log"));
        fs::read_to_string(&path).during(format!("read {}", path.display()))
    }

    /// Process 1 of the namespaces, by its number outside.
    fn inside(&self) -> Result<u32> {
        let parent = self.holder.id().to_string();
        let is_child = |process: &Process| process.status().is_some_and(|status| status.field("PPid") == parent);
        let child = descendants_of(Process(self.holder.id()))?.into_iter().find(is_child);
        child.map(|child| child.0).ok_or_else(|| Error::Unexpected("libvirt's namespaces are gone".into()))
    }
}

/// Writes the configuration into `folder`, and puts the broker there; returns its path.
fn prepare(folder: &Path, configuration: &str) -> Result<PathBuf> {
    for part in ["", "log", "log/qemu", "broker", "sockets", "bin"] {
        let path = folder.join(part);
        fs::create_dir(&path).during(format!("mkdir {}", path.display()))?;
    }
    let sockets = folder.join("sockets");
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").during("make a host's UUID")?;
    let daemon = format!(
        "unix_sock_dir = \"{}\"\nauth_unix_rw = \"none\"\nhost_uuid = \"{}\"\n",
        sockets.display(),
        random.trim()
    );
    for (name, text) in
        [("libvirtd.conf", daemon.as_str()), ("qemu.conf", QEMU_CONF), ("broker/emulators.toml", configuration)]
    {
        let path = folder.join(name);
        fs::write(&path, text).during(format!("write {}", path.display()))?;
    }
    let emulator = folder.join("bin").join(NAME);
    let binary = broker_binary()?;
    fs::copy(binary, &emulator).during(format!("copy {}", binary.display()))?;
    Ok(emulator)
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // The end of its standard input is the end of process 1, and that the end of all others in there.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
