//! Many grants: small files, each named by an option of the broker's.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::folder::Folder;

/// Files that are made at most.
const MOST: usize = 10_000;
/// Descriptors that the broker holds for one file: the file, and its read-only view.
const DESCRIPTORS: usize = 2;
/// Descriptors left for everything else.
const OTHERS: usize = 200;

/// Files beneath `media` in the folder, numbered from 0.
pub(crate) struct Media {
    made: usize,
}

impl Media {
    /// Makes as many as the limit on open files lets the broker hold, 10,000 at most.
    pub(crate) fn make(folder: &Folder) -> Result<Self> {
        let made = hard_limit().map_or(MOST, |limit| (limit.saturating_sub(OTHERS) / DESCRIPTORS).min(MOST));
        let failed = |source| Error::Start { program: "media".into(), source };
        fs::create_dir(folder.path().join("media")).map_err(failed)?;
        (0..made).try_for_each(|number| fs::write(folder.path().join(name(number)), b"medium")).map_err(failed)?;
        Ok(Self { made })
    }

    /// How many grants to measure with.
    pub(crate) fn counts(&self) -> [usize; 3] {
        [1, 100, self.made]
    }

    /// The broker with the first `count` of them granted, up to `--`, and with as many descriptors as it may have.
    pub(crate) fn broker(folder: &Folder, broker: &Path, count: usize) -> Command {
        let mut command = folder.command("sh");
        command.args(["-c", "ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"", "sh"]).arg(broker);
        command.args((0..count).flat_map(|number| ["--medium".to_owned(), name(number)])).arg("--");
        command
    }
}

fn name(number: usize) -> String {
    format!("media/{number}.iso")
}

/// How far the limit on open files can be raised; none: nobody knows.
fn hard_limit() -> Option<usize> {
    let output = Command::new("sh").args(["-c", "ulimit -Hn"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
