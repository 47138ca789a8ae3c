//! An X server of a test's own, whose screen is a file, and a start that is told of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tests::{BrokerCommand, During, Error, Result, Workdir};

/// Variables by which a desktop would have a say.
const OTHERS: [&str; 8] = [
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "GDK_BACKEND",
    "SDL_VIDEODRIVER",
    "GTK_THEME",
    "DISPLAY",
    "XAUTHORITY",
];

/// The right key, and a wrong one.
pub const KEY: [u8; 16] = *b"broker-test-key!";
pub const WRONG_KEY: [u8; 16] = *b"broker-test-KEY!";

/// An X server without a screen to look at, ended when dropped.
pub struct Server {
    child: Child,
    folder: PathBuf,
    /// What clients call it: `:N`.
    pub display: String,
}

impl Server {
    /// Starts one that lets in who has [`KEY`].
    ///
    /// # Errors
    /// When it does not say its number.
    pub fn start(workdir: &Workdir) -> Result<Self> {
        let folder = workdir.aside();
        let keys = folder.join("keys");
        fs::write(&keys, authority(KEY)).during("write the server's keys")?;
        let mut child = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-nocursor", "-fbdir"])
            .args([folder.as_os_str(), "-auth".as_ref(), keys.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .during("start Xvfb")?;
        let mut number = String::new();
        let said = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut number));
        let server = Self { child, folder, display: format!(":{}", number.trim()) };
        match said {
            Some(Ok(1..)) => Ok(server),
            other => Err(Error::Unexpected(format!("Xvfb said no number: {other:?}"))),
        }
    }

    /// All that is on the screen, in the format of `xwd`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn screen(&self) -> Result<Vec<u8>> {
        fs::read(self.folder.join("Xvfb_screen0")).during("read the screen")
    }

    /// Whether there is a window whose title begins so: QEMU's says also whether the guest is stopped.
    ///
    /// # Errors
    /// When `xwininfo` cannot be started.
    pub fn shows(&self, title: &str) -> Result<bool> {
        let output = Command::new("xwininfo")
            .args(["-display", &self.display, "-root", "-tree"])
            .env("XAUTHORITY", self.folder.join("keys"))
            .output()
            .during("start xwininfo")?;
        Ok(String::from_utf8_lossy(&output.stdout).contains(&format!("\"{title}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of one key for all servers (Xau(3): `FamilyWild`, no address, no number, the protocol's name, the key).
#[must_use]
pub fn authority(key: [u8; 16]) -> Vec<u8> {
    const NAME: &[u8] = b"MIT-MAGIC-COOKIE-1";
    [&[0xff, 0xff, 0, 0, 0, 0, 0, 18][..], NAME, &[0, 16], &key].concat()
}

/// A start with these variables and no others of a desktop, by `user` if one is named.
pub fn command<'a>(workdir: &'a Workdir, user: Option<u32>, variables: &[(&str, &str)]) -> BrokerCommand<'a> {
    let home = workdir.files().display().to_string();
    let mut words: Vec<String> = Vec::new();
    if let Some(user) = user {
        let identity = ["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"];
        words.extend(identity.map(str::to_owned));
    }
    words.push("env".into());
    words.extend(OTHERS.iter().flat_map(|name| ["-u".to_owned(), (*name).to_owned()]));
    words.push(format!("HOME={home}"));
    words.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
    let command = BrokerCommand::new(workdir).through(words);
    match user {
        Some(user) => command.user(user),
        None => command,
    }
}
