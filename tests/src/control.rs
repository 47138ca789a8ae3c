//! `broker ctl`: what an operator says to a running guest.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::binary::broker_binary;
use crate::error::{During, Error, Result};
use crate::network::Network;
use crate::wait::until;

/// Where the control sockets of root's guests are.
pub const CONTROL_FOLDER: &str = "/run/broker";

/// How long one order may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the name of a test's guest starts with; the number of the test's process follows.
const PREFIX: &str = "test-";

/// A name for a guest that no other test uses, on this machine and at this time.
#[must_use]
pub fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Removes what earlier runs have left: a test that ends without ending its guest kills the guest's broker, which then
/// cannot remove its socket.
fn sweep() {
    for entry in fs::read_dir(CONTROL_FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(process, _)| process);
        let ended = process.is_some_and(|process| !Path::new("/proc").join(process).exists());
        if ended {
            // Somebody else's sweep may be faster.
            let _ = fs::remove_file(entry.path().join("control"));
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Who gives orders to which guest.
#[derive(Debug, Clone)]
pub struct Control {
    guest: String,
    user: Option<u32>,
    runtime_folder: Option<PathBuf>,
    binary: Option<PathBuf>,
    /// The words that come before the program's own.
    before: Vec<String>,
}

/// What came of an order.
#[derive(Debug)]
pub struct Answered {
    /// How `broker ctl` ended.
    pub status: ExitStatus,
    /// What it said.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Control {
    /// Of the guest named `guest`, as the user who runs the tests.
    #[must_use]
    pub fn new(guest: &str) -> Self {
        Self { guest: guest.to_owned(), user: None, runtime_folder: None, binary: None, before: Vec::new() }
    }

    /// As another user, whose `XDG_RUNTIME_DIR` is `folder` and who can reach `binary`.
    #[must_use]
    pub fn user(mut self, user: u32, folder: impl Into<PathBuf>, binary: impl Into<PathBuf>) -> Self {
        self.user = Some(user);
        self.runtime_folder = Some(folder.into());
        self.binary = Some(binary.into());
        self
    }

    /// As root in these namespaces.
    #[must_use]
    pub fn inside(mut self, network: &Network) -> Self {
        self.before = network.words(None);
        self
    }

    /// By a program that executes what follows `words`.
    #[must_use]
    pub fn through(mut self, words: &[&str]) -> Self {
        self.before.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// The folder that holds the guest's control socket.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let around = self.runtime_folder.as_ref().map_or_else(|| CONTROL_FOLDER.into(), |folder| folder.join("broker"));
        around.join(&self.guest)
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder().join("control")
    }

    /// Runs `broker ctl GUEST WORDS`, whatever comes of it.
    ///
    /// # Errors
    /// When it cannot be run, or does not end.
    pub fn run<T: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = T>) -> Result<Answered> {
        let binary: OsString = match &self.binary {
            Some(binary) => binary.into(),
            None => broker_binary()?.into(),
        };
        let mut line: Vec<OsString> = self.before.iter().map(OsString::from).collect();
        line.extend([binary, "ctl".into(), self.guest.clone().into()]);
        let mut line = line.into_iter();
        let mut command = Command::new(line.next().unwrap_or_default());
        command.args(line).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = &self.runtime_folder {
            command.env("XDG_RUNTIME_DIR", folder).env("XDG_STATE_HOME", folder.join("state"));
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().during("start broker ctl")?;
        let ended = until(PATIENCE, "the end of broker ctl", || child.try_wait().during("wait for broker ctl"));
        if ended.is_err() {
            child.kill().during("end broker ctl")?;
        }
        let output = child.wait_with_output().during("read what broker ctl says")?;
        ended?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answered { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    /// Runs an order that must succeed; what it says.
    ///
    /// # Errors
    /// When it fails, with its complaint.
    pub fn order<T: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = T>) -> Result<String> {
        let answered = self.run(words)?;
        if answered.status.success() {
            return Ok(answered.stdout);
        }
        Err(Error::Tool { program: "broker ctl".into(), status: answered.status, stderr: answered.stderr })
    }

    /// Runs an order that must fail; its complaint, one line that starts with `broker: `.
    ///
    /// # Errors
    /// When it succeeds, or complains otherwise.
    pub fn refused<T: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = T>) -> Result<String> {
        let answered = self.run(words)?;
        let complaint = answered.stderr.strip_prefix("broker: ").map(str::trim_end);
        match complaint {
            Some(complaint) if !answered.status.success() && complaint.lines().count() == 1 => Ok(complaint.to_owned()),
            _ => Err(Error::Unexpected(format!("broker ctl was to complain in one line: {answered:?}"))),
        }
    }

    /// `status --json`.
    ///
    /// # Errors
    /// When it fails or is no JSON.
    pub fn status(&self) -> Result<Value> {
        let text = self.order(["status", "--json"])?;
        serde_json::from_str(&text).map_err(|error| Error::Unexpected(format!("status {text}: {error}")))
    }
}
