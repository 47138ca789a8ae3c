//! Bridge helpers: programs with more rights than this process, which make a tap, add it to a bridge and send its
//! descriptors (`qemu-bridge-helper.c`; `net_bridge_run_helper` in QEMU's `net/tap.c`).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use rustix::fs::{FileType, StatVfsMountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Interface;
use super::name::InterfaceName;
use crate::operator_program;
use crate::packets;
use crate::sys::tun;

/// The name of our helper's program.
pub const NAME: &str = "broker-bridge-helper";

/// Where our helper may be, if it is not beside this program.
const FOLDERS: [&str; 2] = ["/usr/libexec", "/usr/lib/broker"];

/// Where distributions have QEMU's helper: Debian, then Fedora and those who build QEMU as it comes.
const QEMUS: [&str; 2] = ["/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper"];

/// The device number of `/dev/net/tun` (Documentation/admin-guide/devices.txt).
const TUN: (u32, u32) = (10, 200);

/// The shell of [`Helper::Given`] (QEMU's).
const SHELL: &str = "/bin/sh";

/// Who makes the tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Helper {
    /// What `helper=` says: a program, or a command for the shell if it holds a blank.
    Given(OsString),
    /// The one that comes with broker.
    Ours(PathBuf),
    /// The one that comes with QEMU.
    Qemus(PathBuf),
}

impl fmt::Display for Helper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(command) => write!(formatter, "{}", command.to_string_lossy()),
            Self::Ours(path) | Self::Qemus(path) => write!(formatter, "{}", path.display()),
        }
    }
}

impl Helper {
    /// The one that is run where the command line names none: ours, else QEMU's, if it has rights of its own.
    ///
    /// # Errors
    /// [`Error::None`], [`Error::NoNewRights`].
    pub fn find() -> Result<Self, Error> {
        if rustix::thread::no_new_privs().unwrap_or(false) {
            return Err(Error::NoNewRights);
        }
        let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
        let folders = beside.into_iter().chain(FOLDERS.iter().map(PathBuf::from));
        let mut ours = folders.map(|folder| folder.join(NAME));
        if let Some(path) = ours.find(|path| is_privileged(path)) {
            return Ok(Self::Ours(path));
        }
        let qemus = QEMUS.iter().map(PathBuf::from).find(|path| is_privileged(path));
        qemus.map(Self::Qemus).ok_or(Error::None)
    }

    /// Has a tap with `queues` queues made on `bridge`.
    ///
    /// # Errors
    /// [`Error`]. What the helper has to say it has said on standard error.
    pub fn run(&self, bridge: &InterfaceName, queues: u16) -> Result<Interface, Error> {
        if queues > 1 && !matches!(self, Self::Ours(_)) {
            return Err(Error::OneQueue(self.clone()));
        }
        let failed = |source| Error::Start { helper: self.clone(), source };
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(|source| failed(source.into()))?;
        let mut child = self.start(bridge, queues, &theirs).map_err(failed)?;
        // The helper's end alone is left, so that its death ends the wait. There is no limit: it may ask for a password.
        drop(theirs);
        let sent = packets::receive(ours.as_fd());
        drop(ours);
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            return Err(Error::Failed { helper: self.clone(), bridge: bridge.clone(), status });
        }
        let (kind, descriptors) = sent.map_err(failed)?.ok_or_else(|| self.unfit("it sent nothing".to_owned()))?;
        self.judge(kind, descriptors, queues)
    }

    fn start(&self, bridge: &InterfaceName, queues: u16, socket: &OwnedFd) -> io::Result<Child> {
        let number = format!("--fd={}", socket.as_raw_fd());
        let target = format!("--br={bridge}");
        let mut arguments: Vec<OsString> = vec!["--use-vnet".into(), number.clone().into(), target.clone().into()];
        let program: &OsStr = match self {
            Self::Given(command) if is_command(command) => {
                // The name is a parameter of the shell's, and no part of what it reads.
                let named = String::from_utf8_lossy(command.as_encoded_bytes()).contains("--br=");
                let mut line = command.clone();
                line.push(format!(" --use-vnet {number}{}", if named { "" } else { r#" "$1""# }));
                arguments = vec!["-c".into(), line, "sh".into(), target.into()];
                OsStr::new(SHELL)
            }
            Self::Given(program) => program,
            Self::Ours(path) => {
                if queues > 1 {
                    arguments.push(format!("--queues={queues}").into());
                }
                path.as_os_str()
            }
            Self::Qemus(path) => path.as_os_str(),
        };
        operator_program::start(program, &arguments, Some(socket.as_fd()))
    }

    /// All that came is owned here; now it is looked at.
    fn judge(&self, kind: u8, descriptors: Vec<OwnedFd>, queues: u16) -> Result<Interface, Error> {
        if kind != 0 || descriptors.len() != usize::from(queues) {
            return Err(self.unfit(format!("it sent {} descriptors and the byte {kind}", descriptors.len())));
        }
        let mut name: Option<InterfaceName> = None;
        for descriptor in &descriptors {
            let found = tap_of(descriptor).map_err(|what| self.unfit(what))?;
            if name.as_ref().is_some_and(|name| *name != found) {
                return Err(self.unfit("it sent queues of several interfaces".to_owned()));
            }
            name = Some(found);
        }
        let name = name.ok_or_else(|| self.unfit("it sent no descriptor".to_owned()))?;
        Ok(Interface { name, queues: descriptors })
    }

    fn unfit(&self, what: String) -> Error {
        Error::Unfit { helper: self.clone(), what }
    }
}

/// Whether the shell has to read it.
fn is_command(helper: &OsStr) -> bool {
    helper.as_encoded_bytes().iter().any(|byte| matches!(byte, b' ' | b'\t'))
}

/// Whether who executes `path` gets rights that this process lacks: by setuid root, or by a file capability.
fn is_privileged(path: &Path) -> bool {
    let Ok(status) = std::fs::metadata(path) else { return false };
    let mounted = rustix::fs::statvfs(path).is_ok_and(|system| !system.f_flag.contains(StatVfsMountFlags::NOSUID));
    let is_setuid = status.mode() & libc::S_ISUID != 0 && status.uid() == 0;
    let has_capability = || rustix::fs::getxattr(path, "security.capability", &mut [0_u8; 64][..]).is_ok();
    mounted && status.is_file() && operator_program::check(path.as_os_str()).is_ok() && (is_setuid || has_capability())
}

/// The tap that `descriptor` is a queue of.
fn tap_of(descriptor: &OwnedFd) -> Result<InterfaceName, String> {
    let status = rustix::fs::fstat(descriptor).map_err(|error| error.to_string())?;
    if !FileType::from_raw_mode(status.st_mode).is_char_device() || status.st_rdev != rustix::fs::makedev(TUN.0, TUN.1)
    {
        return Err("it sent a descriptor that is no tap's".to_owned());
    }
    let (name, flags) = tun::interface(descriptor.as_fd()).map_err(|error| format!("it sent no open tap: {error}"))?;
    if i32::from(flags) & libc::IFF_TAP == 0 {
        return Err(format!("it sent {name}, which carries no Ethernet frames"));
    }
    InterfaceName::new(&name).map_err(|error| error.to_string())
}

/// Why there is no tap from a bridge helper.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None has rights of its own.
    #[error(
        "this user may not add interfaces to bridges, and no bridge helper is installed that may; install {NAME} in \
         /usr/libexec and give it the right (setcap cap_net_admin+ep), or make QEMU's setuid root \
         (chmod u+s /usr/lib/qemu/qemu-bridge-helper)"
    )]
    None,
    /// `PR_SET_NO_NEW_PRIVS`: the rights of a helper's file would count for nothing.
    #[error(
        "this user may not add interfaces to bridges, and no bridge helper can: this process may gain no rights \
         (no_new_privs, which systemd's NoNewPrivileges= and many containers set); start broker without that, or use a \
         tap that is there (-netdev tap,ifname=NAME)"
    )]
    NoNewRights,
    /// It sends one descriptor.
    #[error("the bridge helper {0} makes taps of one queue only; install {NAME}, which makes them of several")]
    OneQueue(Helper),
    /// `fork(2)`, `execve(2)`, or no descriptor is left.
    #[error("cannot run the bridge helper {helper}: {source}; is it there, and executable for this user?")]
    Start {
        /// Which.
        helper: Helper,
        /// What the kernel said.
        source: io::Error,
    },
    /// It refused, and said why.
    #[error("the bridge helper {helper} ended with {status}: no tap on {bridge}; if it said why, that stands above")]
    Failed {
        /// Which.
        helper: Helper,
        /// The bridge.
        bridge: InterfaceName,
        /// How it ended.
        status: ExitStatus,
    },
    /// It sent something else than taps.
    #[error("the bridge helper {helper} cannot be used: {what}")]
    Unfit {
        /// Which.
        helper: Helper,
        /// What is wrong.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn device(path: &str) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    #[test]
    fn what_is_no_tap_is_not_taken() {
        let helper = Helper::Given("/bin/helper".into());
        let said = |kind, descriptors, queues| helper.judge(kind, descriptors, queues).unwrap_err().to_string();
        assert!(said(0, vec![], 1).contains("it sent 0 descriptors"));
        assert!(said(0, vec![device("/dev/null"), device("/dev/null")], 1).contains("it sent 2 descriptors"));
        assert!(said(1, vec![device("/dev/null")], 1).contains("the byte 1"));
        assert!(said(0, vec![device("/dev/null")], 1).contains("no tap's"));
        assert!(said(0, vec![device("/")], 1).contains("no tap's"));
    }

    #[test]
    fn the_name_of_a_bridge_is_never_read_by_a_shell() {
        let folder = std::env::temp_dir().join(format!("helper-test-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (script, seen) = (folder.join("helper"), folder.join("seen"));
        // Another program writes it: one that this process had written could not be executed while a test forks.
        let text = "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done >\"${0%/*}/seen\"\nexit 1\n";
        let write = ["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh", text, script.to_str().unwrap()];
        assert!(std::process::Command::new("sh").args(write).status().unwrap().success());
        assert_eq!(std::fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o755);
        let bridge = InterfaceName::new("$(id)';`id`\\\"").unwrap();
        for command in [format!("/usr/bin/env {}", script.display()), script.display().to_string()] {
            let error = Helper::Given(command.into()).run(&bridge, 1).unwrap_err();
            assert!(matches!(error, Error::Failed { status, .. } if status.code() == Some(1)));
            let words = std::fs::read_to_string(&seen).unwrap();
            let words: Vec<&str> = words.lines().collect();
            assert!(words.len() == 3 && words.contains(&format!("--br={bridge}").as_str()), "{words:?}");
        }
        let named = format!("/usr/bin/env {} --br=br7", script.display());
        assert!(Helper::Given(named.into()).run(&bridge, 1).is_err());
        let words = std::fs::read_to_string(&seen).unwrap();
        assert!(words.starts_with("--br=br7\n--use-vnet\n--fd=") && words.lines().count() == 3, "{words:?}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_program_without_rights_of_its_own_helps_nobody() {
        assert!(!is_privileged(Path::new("/bin/sh")));
        assert!(!is_privileged(Path::new("/nonexistent/helper")));
        assert!(!is_privileged(Path::new("/")));
    }
}
