//! One attack: the files it consists of, how it is started, and what the refusal must say.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::{During, Error, Result};
use crate::images::run_tool;
use crate::workdir::Workdir;

/// Images of one make: some that must start, and some that must not.
#[derive(Debug)]
pub struct Group {
    /// Controls: what these name may be opened.
    pub honest: Vec<Case>,
    /// Attacks.
    pub hostile: Vec<Case>,
}

/// What lies in the work folder.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A regular file.
    File(Vec<u8>),
    /// A folder.
    Folder,
    /// A FIFO.
    Fifo,
    /// A symbolic link to this path.
    Link(PathBuf),
    /// Another name of the file at this path.
    HardLink(PathBuf),
}

/// An image that is given to the emulator, and what lies beside it.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is tried, in words.
    pub name: String,
    /// The image, as it is typed.
    pub top: String,
    /// The format that the command line states.
    pub format: Option<&'static str>,
    /// Whether a guest may only read it: what a header names is granted for reading.
    pub read_only: bool,
    /// What the refusal must hold, all of it: the image, the field or the name at fault, the rule.
    pub says: Vec<String>,
    entries: Vec<(String, Entry)>,
}

impl Case {
    /// An image `top` of this content, given with its format.
    #[must_use]
    pub fn new(name: impl Into<String>, top: &str, format: &'static str, bytes: Vec<u8>) -> Self {
        let entries = vec![(top.to_owned(), Entry::File(bytes))];
        let says = vec![top.to_owned()];
        Self { name: name.into(), top: top.to_owned(), format: Some(format), read_only: false, says, entries }
    }

    /// The format is not stated.
    #[must_use]
    pub fn unstated(mut self) -> Self {
        self.format = None;
        self
    }

    /// A guest may only read it.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Adds something beside the image.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, entry: Entry) -> Self {
        self.entries.push((name.into(), entry));
        self
    }

    /// Adds a regular file beside the image.
    #[must_use]
    pub fn file(self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(name, Entry::File(bytes.into()))
    }

    /// The refusal is about an image further below, and not about the top.
    #[must_use]
    pub fn blames(mut self, image: &str) -> Self {
        self.says = vec![image.to_owned()];
        self
    }

    /// Adds what the refusal must hold.
    #[must_use]
    pub fn says(mut self, parts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.says.extend(parts.into_iter().map(Into::into));
        self
    }

    /// The regular files: name and content.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::File(bytes) => Some((name.as_str(), bytes.as_slice())),
            _ => None,
        })
    }

    /// Makes all of it in the work folder.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn make(&self, workdir: &Workdir) -> Result<()> {
        self.entries.iter().try_for_each(|(name, entry)| make(workdir, name, entry))
    }

    /// Removes all of it.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(&self, workdir: &Workdir) -> Result<()> {
        for (name, entry) in self.entries.iter().rev() {
            let path = workdir.path(name);
            let removed = match entry {
                Entry::Folder => std::fs::remove_dir(&path),
                _ => std::fs::remove_file(&path),
            };
            removed.during(format!("remove {}", path.display()))?;
        }
        Ok(())
    }
}

fn make(workdir: &Workdir, name: &str, entry: &Entry) -> Result<()> {
    let path = workdir.path(name);
    let what = || format!("make {}", path.display());
    match entry {
        Entry::File(bytes) => workdir.write(name, bytes).map(drop),
        Entry::Folder => std::fs::create_dir(&path).during(what()),
        Entry::Fifo => make_fifo(&path),
        Entry::Link(target) => symlink(target, &path).during(what()),
        Entry::HardLink(target) => std::fs::hard_link(target, &path).during(what()),
    }
}

fn make_fifo(path: &Path) -> Result<()> {
    let folder = path.parent().ok_or_else(|| Error::Unexpected(format!("{} has no folder", path.display())))?;
    run_tool(folder, "mkfifo", &[&path.to_string_lossy()]).map(drop)
}
