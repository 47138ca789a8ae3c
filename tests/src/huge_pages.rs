//! Huge pages of the kernel's pool, and a file system of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{During, Error, Result};
use crate::workdir::Workdir;

/// The size of the pool in pages (hugetlbpage, Documentation/admin-guide/mm of Linux).
const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// What mounts a file system of pages at the first word, for the user who is the second one, says so, and then keeps it for
/// as long as standard input is open: it goes with the test, however that ends.
const HOLDER: &str = "mount -t hugetlbfs -o uid=$1,gid=$1,mode=0755 pages \"$0\" && echo ready && exec cat >/dev/null";

/// One test after the other: the pool is all of the kernel's.
static TURN: Mutex<()> = Mutex::new(());

/// Pages of 2 MiB that were added to the pool, and taken out again when this is dropped; with a file system of them, which is
/// seen in a mount namespace of its own.
#[derive(Debug)]
pub struct HugePages {
    before: u64,
    holder: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl HugePages {
    /// Adds `count` pages to the pool. Takes root.
    ///
    /// # Errors
    /// When the kernel has not so many.
    pub fn take(count: u64) -> Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let before = read_pool()?;
        let pages = Self { before, holder: None, _turn: turn };
        set_pool(before + count)?;
        if read_pool()? < before + count || meminfo("Hugepagesize")? != 2048 {
            return Err(Error::Unexpected(format!("the kernel has no {count} more huge pages of 2 MiB")));
        }
        Ok(pages)
    }

    /// Mounts a file system of pages at the new folder `name` of a work folder, that of `user`, where only what
    /// [`Self::words`] starts sees it.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(&mut self, workdir: &Workdir, name: &str, user: u32) -> Result<PathBuf> {
        let at = workdir.path(name);
        fs::create_dir(&at).during(format!("make {name}"))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", HOLDER]).arg(&at).arg(user.to_string());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().during("start unshare")?;
        let stdout = holder.stdout.take();
        self.holder = Some(holder);
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line).during("hear of the mount")?;
        }
        if line != "ready\n" {
            return Err(Error::Unexpected(format!("no file system of huge pages was mounted; it said {line:?}")));
        }
        Ok(at)
    }

    /// The words that, before a program's own, run that program where the file system is seen, in `folder`: it keeps the
    /// process number of the first word. With `user` it runs as that user and the group of the same number.
    #[must_use]
    pub fn words(&self, folder: &Path, user: Option<u32>) -> Vec<String> {
        let target = self.holder.as_ref().map_or(0, Child::id);
        let mut words = ["nsenter", &format!("--target={target}"), "--mount", "--"].map(str::to_owned).to_vec();
        words.extend(["env".to_owned(), format!("--chdir={}", folder.display())]);
        if let Some(user) = user {
            let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
            words.extend(["setpriv", &uid, &gid, "--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned));
        }
        words
    }

    /// How many pages of the pool nobody uses.
    ///
    /// # Errors
    /// When `/proc/meminfo` does not say it.
    pub fn free(&self) -> Result<u64> {
        meminfo("HugePages_Free")
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            // Both fail only for a holder that has ended by itself.
            let _ = holder.kill();
            let _ = holder.wait();
        }
        // Nobody is left to be told.
        let _ = set_pool(self.before);
    }
}

fn read_pool() -> Result<u64> {
    let text = fs::read_to_string(POOL).during(format!("read {POOL}"))?;
    text.trim().parse().map_err(|error| Error::Unexpected(format!("{POOL} holds {text:?}: {error}")))
}

fn set_pool(pages: u64) -> Result<()> {
    fs::write(POOL, pages.to_string()).during(format!("write {POOL}"))
}

/// A number of `/proc/meminfo`, in KiB where it has a unit.
fn meminfo(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").during("read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Error::Unexpected(format!("/proc/meminfo does not tell {name}")))
}
