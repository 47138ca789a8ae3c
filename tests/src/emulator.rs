//! A started emulator, and what must be true of it during and after its life.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use crate::boot_sector::WROTE;
use crate::error::{During, Error, Result};
use crate::process::{Process, descendants_of, marked_with};
use crate::wait::{PATIENCE, until};
use crate::workdir::{Workdir, names_in};

/// How long the broker's processes may stay after the emulator has ended.
const FAREWELL: Duration = Duration::from_secs(10);

/// Where programs leave things behind.
const SHARED_FOLDERS: &[&str] = &["/dev/shm", "/run", "/var/tmp"];

/// Folders that the first start of a host makes, and that stay: that of all guests' control sockets, and virtiofsd's.
const LASTING: [&str; 2] = ["/run/broker", "/run/virtiofsd"];

/// How a start ended, and what it said.
#[derive(Debug)]
pub struct Finished {
    /// The exit status of the process that was started.
    pub status: ExitStatus,
    /// Its standard output: the serial port, for most tests.
    pub stdout: String,
    /// Its standard error, the broker's lines included.
    pub stderr: String,
}

/// The mounts of this process, and what lies in [`SHARED_FOLDERS`].
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Surroundings(BTreeSet<OsString>);

impl Surroundings {
    /// Looks at them now.
    pub(crate) fn look() -> Result<Self> {
        let mounts = "/proc/self/mountinfo";
        let text = fs::read_to_string(mounts).during(format!("read {mounts}"))?;
        let mut seen: BTreeSet<OsString> = text.lines().map(OsString::from).collect();
        for folder in SHARED_FOLDERS.iter().map(Path::new) {
            seen.extend(names_in(folder)?.into_iter().map(|name| folder.join(name).into_os_string()));
        }
        seen.retain(|name| !LASTING.iter().any(|folder| name == OsStr::new(folder)));
        Ok(Self(seen))
    }

    /// What is there now and was not then.
    fn new_since(&self, then: &Self) -> Vec<OsString> {
        self.0.difference(&then.0).cloned().collect()
    }
}

/// The process that was started, which is the emulator once it runs. Killed, with all its helpers, when
/// dropped.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    marker: String,
    stdout: PathBuf,
    stderr: PathBuf,
    before: Surroundings,
}

impl Emulator {
    /// Takes charge of a process that was just made.
    pub(crate) fn new(child: Child, marker: String, stdout: PathBuf, stderr: PathBuf, before: Surroundings) -> Self {
        Self { child, marker, stdout, stderr, before }
    }

    /// The process that was started.
    #[must_use]
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// The other processes of this start: broker and agent, or what else stands beside the emulator.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn helpers(&self) -> Result<BTreeSet<Process>> {
        let mut processes = marked_with(&self.marker)?;
        processes.remove(&self.process());
        Ok(processes)
    }

    /// Children that the emulator did not make: there may be none, and no zombie either.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn descendants(&self) -> Result<BTreeSet<Process>> {
        descendants_of(self.process())
    }

    /// What it has written to its standard output so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn stdout(&self) -> Result<String> {
        read_lossy(&self.stdout)
    }

    /// What it has written to its standard error so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn stderr(&self) -> Result<String> {
        read_lossy(&self.stderr)
    }

    /// Waits until `wanted` is true of its standard output.
    ///
    /// # Errors
    /// When it never becomes so, or the emulator ends before; both outputs are in the error.
    pub fn wait_for_output(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        self.wait_for(what, || Ok(wanted(&self.stdout()?)))
    }

    /// Waits until its standard error holds `text`.
    ///
    /// # Errors
    /// As [`Self::wait_for_output`].
    pub fn wait_for_message(&self, text: &str) -> Result<()> {
        self.wait_for(text, || Ok(self.stderr()?.contains(text)))
    }

    /// Waits for a condition, as long as the emulator runs.
    fn wait_for(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let look = || {
            // Looked at first: what it wrote last is there when it has ended.
            let has_ended = !self.process().is_running();
            match (is_so()?, has_ended) {
                (true, _) => Ok(Some(())),
                (false, false) => Ok(None),
                (false, true) => Err(Error::Unexpected(format!("the emulator ended before {what}"))),
            }
        };
        until(PATIENCE, what, look).map_err(|error| self.explain(error))
    }

    /// Waits until the boot sector has written `more` sectors beyond those it has written so far.
    ///
    /// # Errors
    /// When it does not; both outputs are in the error.
    pub fn wait_for_writes(&self, more: usize) -> Result<()> {
        let count = |text: &str| text.matches(WROTE).count();
        let wanted = count(&self.stdout()?) + more;
        self.wait_for_output("the guest's writes", |text| count(text) >= wanted)
    }

    /// Waits until the boot sector has written a sector, or the emulator has ended.
    ///
    /// # Errors
    /// When neither happens.
    pub fn wait_for_a_write_or_the_end(&self) -> Result<()> {
        until(PATIENCE, "a write of the guest, or the emulator's end", || {
            Ok((self.stdout()?.contains(WROTE) || !self.process().is_running()).then_some(()))
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process().signal(signal)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait(&mut self) -> Result<Finished> {
        let child = &mut self.child;
        let look = || child.try_wait().during("wait for the emulator");
        match until(PATIENCE, "the emulator's end", look) {
            Ok(status) => Ok(Finished { status, stdout: self.stdout()?, stderr: self.stderr()? }),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Adds to an error what the emulator said.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        let said = |text: Result<String>| text.unwrap_or_default();
        let (stdout, stderr) = (said(self.stdout()), said(self.stderr()));
        Error::Unexpected(format!("{error}; standard output: {stdout:?}; standard error: {stderr:?}"))
    }

    /// Fails unless all that this start made is gone: no process, no mount, and in the work folder no file
    /// but those named in `files` (what `Workdir::listing` gave before the start).
    ///
    /// # Panics
    /// When something is left.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn assert_nothing_left(&self, workdir: &Workdir, files: &BTreeSet<OsString>) -> Result<()> {
        until(FAREWELL, "the end of the broker's processes", || {
            Ok(marked_with(&self.marker)?.is_empty().then_some(()))
        })?;
        assert_eq!(&workdir.listing()?, files, "files left in the work folder, or gone from it");
        // Another test's temporary file may come and go at the same time; what is ours would stay.
        let left = || Ok(Surroundings::look()?.new_since(&self.before));
        let gone = until(FAREWELL, "mounts and files to go", || Ok(left()?.is_empty().then_some(())));
        assert!(gone.is_ok(), "mounts or files left: {:?}", left()?);
        Ok(())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Killing what has ended already fails, and that is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for process in marked_with(&self.marker).unwrap_or_default() {
            let _ = process.signal(Signal::KILL);
        }
    }
}

/// A log, whatever bytes are in it.
fn read_lossy(path: &Path) -> Result<String> {
    let bytes = fs::read(path).during(format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
