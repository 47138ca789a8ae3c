//! Where the control socket of a guest is: `/run/broker/NAME/control` for root, for others beneath `$XDG_RUNTIME_DIR`.
//! The folder is its owner's alone, and exists for as long as the guest does.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::fingerprint::fingerprint;

/// The socket's name in its folder.
const SOCKET: &str = "control";

/// Bytes of a name; the path must fit into the 108 of a socket's address (unix(7)).
const LONGEST_NAME: usize = 48;

/// Letters that are kept of a name that cannot stand in a path.
const SHOWN_OF_NAME: usize = 24;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 8;

/// How long `broker ctl` waits for room among them.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control socket, and what it takes to remove it.
#[derive(Debug)]
pub struct ControlPlace {
    /// Listens.
    pub socket: OwnedFd,
    /// Its folder, as an `O_PATH` descriptor.
    pub folder: OwnedFd,
    /// The folder around that one.
    pub parent: OwnedFd,
    /// The guest's name there.
    pub name: String,
}

/// Where the control sockets of this user are.
///
/// # Errors
/// [`Error::NoRuntimeFolder`].
pub fn runtime_folder() -> Result<PathBuf, Error> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/run/broker"));
    }
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    folder.map(|folder| folder.join("broker")).ok_or(Error::NoRuntimeFolder)
}

/// `name` as it can stand in a path. One that cannot is shortened, letters are replaced, and a number is added by which
/// it is told from every other.
#[must_use]
pub fn file_name(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '+' | '@');
    if !name.is_empty() && name.len() <= LONGEST_NAME && !name.starts_with('.') && name.chars().all(plain) {
        return name.to_owned();
    }
    let start = name.chars().take(SHOWN_OF_NAME).map(|letter| if plain(letter) { letter } else { '_' });
    format!("_{}-{:016x}", start.collect::<String>(), fingerprint(name.as_bytes()))
}

impl ControlPlace {
    /// Makes the control socket of the guest `name`.
    ///
    /// # Errors
    /// [`Error::Taken`]: a guest of that name runs. [`Error::Make`].
    pub fn claim(name: &str) -> Result<Self, Error> {
        let around = runtime_folder()?;
        let failed = |source: rustix::io::Errno| Error::Make { path: around.clone(), source: source.into() };
        match rustix::fs::mkdirat(CWD, &around, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(CWD, &around, flags, Mode::empty()).map_err(failed)?;
        check_owner(parent.as_fd()).map_err(failed)?;
        // Two starts of one name must not take each other's socket for a dead guest's. The lock is held for a few system
        // calls, and ends with this descriptor.
        rustix::fs::flock(&parent, FlockOperation::LockExclusive).map_err(failed)?;
        remove_dead(&around);
        let name = file_name(name);
        match rustix::fs::mkdirat(&parent, &name, Mode::RWXU) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) if !is_alive(&around.join(&name)) => {}
            Err(rustix::io::Errno::EXIST) => return Err(Error::Taken(name)),
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&parent, &name, flags, Mode::empty()).map_err(failed)?;
        check_owner(folder.as_fd()).map_err(failed)?;
        // That of a broker that was killed.
        let _ = rustix::fs::unlinkat(&folder, SOCKET, AtFlags::empty());
        let made = listen(&around.join(&name).join(SOCKET)).map_err(failed);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent_place = rustix::fs::openat(&parent, ".", flags, Mode::empty()).map_err(failed)?;
        let place = |socket| Self { socket, folder, parent: parent_place, name };
        made.map(place)
    }

    /// Removes the socket and its folder.
    pub fn remove(&self) {
        // Nobody is left to be told; what remains is found dead by the next guest of this name.
        let _ = rustix::fs::unlinkat(&self.folder, SOCKET, AtFlags::empty());
        let _ = rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR);
    }

    /// Every descriptor of it.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.socket.as_fd(), self.folder.as_fd(), self.parent.as_fd()]
    }
}

/// Connects to the guest `name`.
///
/// # Errors
/// [`Error::NotRunning`], with the names of those that run; [`Error::Connect`].
pub fn connect(name: &str) -> Result<OwnedFd, Error> {
    connect_within(name, PATIENCE)
}

/// The same, and waits no longer than this for a broker that has more callers than it takes.
///
/// # Errors
/// As [`connect`].
pub fn connect_within(name: &str, patience: Duration) -> Result<OwnedFd, Error> {
    let around = runtime_folder()?;
    let path = around.join(file_name(name)).join(SOCKET);
    match connect_patiently(&path, patience) {
        // What is granted is handed to whoever listens there.
        Ok(socket) => match sockopt::socket_peercred(&socket) {
            Ok(peer) if peer.uid == rustix::process::geteuid() => Ok(socket),
            _ => Err(Error::Stranger { path }),
        },
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => {
            Err(Error::NotRunning { name: name.to_owned(), running: running(&around) })
        }
        Err(rustix::io::Errno::AGAIN) => Err(Error::Busy(name.to_owned())),
        Err(source) => Err(Error::Connect { path, source: source.into() }),
    }
}

/// The names of the guests of this user that run, as they stand in a path.
///
/// # Errors
/// [`Error::NoRuntimeFolder`].
pub fn running_guests() -> Result<Vec<String>, Error> {
    Ok(names_of_running(&runtime_folder()?))
}

fn names_of_running(around: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(around).into_iter().flatten().flatten();
    let alive = entries.filter(|entry| is_alive(&entry.path())).map(|entry| entry.file_name());
    let mut names: Vec<OsString> = alive.collect();
    names.sort();
    names.iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

fn running(around: &Path) -> String {
    let names = names_of_running(around);
    if names.is_empty() { "none runs".into() } else { format!("running: {}", names.join(", ")) }
}

/// Removes what is left of guests without a name whose broker was killed; one with a name takes its place over.
fn remove_dead(around: &Path) {
    for entry in std::fs::read_dir(around).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_number = name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        let folder = entry.path();
        if is_number && !Path::new("/proc").join(&name).exists() && !is_alive(&folder) {
            // Somebody else's: then it stays.
            let _ = std::fs::remove_file(folder.join(SOCKET));
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Whether a broker listens in `folder`.
fn is_alive(folder: &Path) -> bool {
    // Any other answer is one of somebody who listens: EAGAIN, of a broker that has more callers than it takes.
    let dead = [rustix::io::Errno::CONNREFUSED, rustix::io::Errno::NOENT, rustix::io::Errno::NOTDIR];
    !matches!(connect_to(&folder.join(SOCKET)), Err(error) if dead.contains(&error))
}

fn connect_to(path: &Path) -> rustix::io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Waits while the broker has more callers than it has accepted.
fn connect_patiently(path: &Path, patience: Duration) -> rustix::io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(socket)
}

fn listen(path: &Path) -> rustix::io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Nobody else may put sockets there.
fn check_owner(folder: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let status = rustix::fs::fstat(folder)?;
    let own = status.st_uid == rustix::process::geteuid().as_raw();
    if own && status.st_mode & 0o022 == 0 { Ok(()) } else { Err(rustix::io::Errno::PERM) }
}

/// Why there is no control socket, or no way to one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder to have it in.
    #[error("there is no folder for control sockets: XDG_RUNTIME_DIR is not set; set it to a folder of your own")]
    NoRuntimeFolder,
    /// Another guest has that name.
    #[error(
        "a guest named {0} runs already; give another --name, or end that one (`broker ctl {0} status` tells of it)"
    )]
    Taken(String),
    /// The socket could not be made.
    #[error("cannot make the control socket beneath {}: {source}", path.display())]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No such guest.
    #[error("no guest named {name} runs; {running}")]
    NotRunning {
        /// As typed.
        name: String,
        /// Those that run.
        running: String,
    },
    /// Another user's broker, or something else.
    #[error("{} is not the socket of a guest of yours; is XDG_RUNTIME_DIR that of another user?", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
    },
    /// Too many speak to it.
    #[error("the broker of {0} has more callers than it takes; try again")]
    Busy(String),
    /// The way to it is closed.
    #[error("cannot connect to {}: {source}; only the user who started the guest may", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        assert_eq!(file_name("web-1"), "web-1");
        for name in ["..", ".a", "a/b c", "", "\u{e4}", &"x".repeat(300)] {
            let file = file_name(name);
            assert!(file.starts_with('_') && !file.contains('/') && file.len() <= LONGEST_NAME, "{file}");
        }
        assert_ne!(file_name("a/b"), file_name("a b"));
        assert_ne!(file_name(&"x".repeat(300)), file_name(&"x".repeat(301)));
    }
}
