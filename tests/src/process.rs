//! Processes as `/proc` shows them (proc(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};

use crate::error::{During, Error, Result};
use crate::workdir::names_in;

/// One process, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub u32);

/// The `Name: value` lines of one thread's `status` file.
#[derive(Debug)]
pub struct ThreadStatus(BTreeMap<String, String>);

impl ThreadStatus {
    /// The value of a field, its columns separated by one space; empty when the kernel has no such field.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Parses the text of a `status` file.
    fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        let words = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
        Self(fields.map(|(name, value)| (name.to_owned(), words(value))).collect())
    }
}

impl Process {
    /// `/proc/PID/NAME`.
    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    /// The status of its first thread; nothing once it is gone.
    #[must_use]
    pub fn status(self) -> Option<ThreadStatus> {
        fs::read_to_string(self.file("status")).ok().map(|text| ThreadStatus::parse(&text))
    }

    /// Whether it runs; a zombie does not.
    #[must_use]
    pub fn is_running(self) -> bool {
        self.status().is_some_and(|status| !status.field("State").starts_with(['Z', 'X']))
    }

    /// The status of every thread that it has at this moment.
    ///
    /// # Errors
    /// When it is gone.
    pub fn threads(self) -> Result<Vec<ThreadStatus>> {
        let mut threads = Vec::new();
        for thread in names_in(&self.file("task"))? {
            let path = self.file("task").join(thread).join("status");
            // A thread may end between the two looks.
            if let Ok(text) = fs::read_to_string(path) {
                threads.push(ThreadStatus::parse(&text));
            }
        }
        if threads.is_empty() {
            return Err(Error::Unexpected(format!("process {} is gone", self.0)));
        }
        Ok(threads)
    }

    /// What each of its descriptors refers to, by number: a path, or `socket:[INODE]` and the like.
    ///
    /// # Errors
    /// When they may not be looked at.
    pub fn descriptors(self) -> Result<BTreeMap<u32, PathBuf>> {
        let folder = self.file("fd");
        let entries = fs::read_dir(&folder).during(format!("list {}", folder.display()))?;
        let mut descriptors = BTreeMap::new();
        for entry in entries.flatten() {
            let number = entry.file_name().to_string_lossy().parse();
            if let (Ok(number), Ok(target)) = (number, fs::read_link(entry.path())) {
                descriptors.insert(number, target);
            }
        }
        Ok(descriptors)
    }

    /// The open flags (as the kernel numbers them) of each of its descriptors that refers to `file`.
    ///
    /// # Errors
    /// When they may not be looked at.
    pub fn open_flags_of(self, file: &Path) -> Result<Vec<OFlags>> {
        let wanted = fs::metadata(file).during(format!("stat {}", file.display()))?;
        let mut found = Vec::new();
        for number in self.descriptors()?.into_keys() {
            let name = number.to_string();
            let info = fs::read_to_string(self.file("fdinfo").join(&name)).unwrap_or_default();
            let same = fs::metadata(self.file("fd").join(&name))
                .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()));
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            if let (true, Some(flags)) = (same, flags) {
                let bits = u32::from_str_radix(flags.trim(), 8)
                    .map_err(|error| Error::Unexpected(format!("flags {flags:?} of descriptor {number}: {error}")))?;
                found.push(OFlags::from_bits_retain(bits));
            }
        }
        Ok(found)
    }

    /// The value of a field that the kernel tells of one of its descriptors (`fdinfo`); nothing where there is none.
    #[must_use]
    pub fn descriptor_field(self, number: u32, field: &str) -> Option<String> {
        let text = fs::read_to_string(self.file("fdinfo").join(number.to_string())).ok()?;
        ThreadStatus::parse(&text).0.remove(field)
    }

    /// What a namespace link (`mnt`, `net`, ...) of it points at.
    ///
    /// # Errors
    /// When it may not be looked at.
    pub fn namespace(self, name: &str) -> Result<PathBuf> {
        let link = self.file("ns").join(name);
        fs::read_link(&link).during(format!("read {}", link.display()))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone or belongs to somebody else.
    pub fn signal(self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).during(format!("signal process {}", self.0))
    }

    /// The session that it is in, by the number of the session's first process: the sixth field of `stat`, and
    /// the fourth after the name, which may itself hold spaces and brackets. 0 when that process is outside of
    /// the process namespace of the tests.
    ///
    /// # Errors
    /// When it is gone.
    pub fn session(self) -> Result<i32> {
        let path = self.file("stat");
        let text = fs::read_to_string(&path).during(format!("read {}", path.display()))?;
        let fields = text.rsplit_once(')').map(|(_, fields)| fields);
        let session = fields.and_then(|fields| fields.split_whitespace().nth(3)).and_then(|field| field.parse().ok());
        session.ok_or_else(|| Error::Unexpected(format!("{} tells no session: {text:?}", path.display())))
    }

    /// Its number as the system calls take it.
    fn pid(self) -> Result<Pid> {
        let pid = i32::try_from(self.0).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| Error::Unexpected(format!("{} is no process number", self.0)))
    }

    /// Whether its arguments or its first environment hold `marker`. A process that was forked and never
    /// executed anything shows those of the process it came from.
    fn is_marked(self, marker: &str) -> bool {
        let holds = |bytes: Vec<u8>| bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
        ["cmdline", "environ"].iter().any(|name| fs::read(self.file(name)).is_ok_and(holds))
    }
}

/// Every process there is.
pub(crate) fn all() -> Result<Vec<Process>> {
    let names = names_in("/proc".as_ref())?;
    Ok(names.iter().filter_map(|name| name.to_string_lossy().parse().ok().map(Process)).collect())
}

/// The processes that one start made: those whose arguments or environment hold its marker.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn marked_with(marker: &str) -> Result<BTreeSet<Process>> {
    Ok(all()?.into_iter().filter(|process| process.is_marked(marker)).collect())
}

/// The children of a process, and theirs, zombies included.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn descendants_of(ancestor: Process) -> Result<BTreeSet<Process>> {
    let mut parents = BTreeMap::new();
    for process in all()? {
        let parent = process.status().and_then(|status| status.field("PPid").parse().ok());
        if let Some(parent) = parent {
            parents.insert(process, Process(parent));
        }
    }
    let mut found = BTreeSet::new();
    loop {
        let is_new = |(child, parent): &(&Process, &Process)| {
            (**parent == ancestor || found.contains(*parent)) && !found.contains(*child)
        };
        let new: Vec<Process> = parents.iter().filter(is_new).map(|(child, _)| *child).collect();
        if new.is_empty() {
            return Ok(found);
        }
        found.extend(new);
    }
}
