//! The grant table: every name that stands for a file of this guest. It is made from names that the command line and
//! headers hold and from inodes that were pinned; no path is looked up here.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::{Errno, Name, OpenFlags};

use super::grants::{Access, Grant, Role};
use super::links::{LinkId, Once};
use crate::paths::absolute;

/// Number of an entry of the table, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u64);

/// A file that another process holds, which `broker ctl` began.
#[derive(Debug)]
pub struct Held {
    /// The process.
    pub link: LinkId,
    /// The file's name there, which is its absolute path.
    pub name: Name,
    /// The file that the operator named; another one where this is a member of its chain.
    pub granted_with: Name,
    /// The greatest access.
    pub access: Access,
    /// What it is.
    pub role: Role,
    /// For one use only.
    pub once: Option<Once>,
}

/// Where a granted file is.
#[derive(Debug)]
pub enum File {
    /// Pinned by this process.
    Pinned(Arc<Grant>),
    /// Held by another one.
    Held(Held),
}

/// One granted file.
#[derive(Debug)]
pub struct Slot {
    /// Where it is.
    pub file: File,
    /// The permission to write it although it is a backing file, given while the guest runs.
    pub commit: Option<Held>,
    names: Vec<Vec<u8>>,
}

impl Slot {
    /// What the file is.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.file {
            File::Pinned(grant) => grant.role,
            File::Held(held) => held.role,
        }
    }

    /// The greatest access.
    #[must_use]
    pub fn access(&self) -> Access {
        match &self.file {
            File::Pinned(grant) => grant.access,
            File::Held(held) => held.access,
        }
    }

    /// What granted it, as the operator typed it.
    #[must_use]
    pub fn option(&self) -> &str {
        match &self.file {
            File::Pinned(grant) => &grant.option,
            File::Held(_) => "broker ctl grant",
        }
    }

    /// Its name, as the emulator spells it, or as the operator did.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.names.first().map_or(&[], Vec::as_slice)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Slot(SlotId),
    Absent(Errno),
}

/// What a name stands for.
#[derive(Debug)]
pub enum Found<'a> {
    /// A file.
    Slot(SlotId, &'a mut Slot),
    /// Nothing, for which this errno is the answer.
    Absent(Errno),
}

/// The grants of one guest, by name.
#[derive(Debug)]
pub struct Table {
    working_directory: PathBuf,
    slots: BTreeMap<SlotId, Slot>,
    /// What each name stands for: the last of these, and what comes before it once that is taken back.
    by_name: HashMap<Vec<u8>, Vec<Entry>>,
    next: u64,
}

impl Table {
    /// A table of `grants`; of two for the same name the wider one counts. `absent` names are known and have nothing
    /// behind them; they answer with their errno.
    #[must_use]
    pub fn new(working_directory: PathBuf, mut grants: Vec<Grant>, absent: Vec<(Vec<u8>, Errno)>) -> Self {
        let by_name = absent.into_iter().map(|(name, errno)| (name, vec![Entry::Absent(errno)])).collect();
        let mut table = Self { working_directory, slots: BTreeMap::new(), by_name, next: 0 };
        grants.sort_by_key(|grant| grant.access);
        let mut images: HashMap<(u64, u64), SlotId> = HashMap::new();
        for grant in grants {
            let image = matches!(grant.role, Role::Image | Role::Backing | Role::Medium);
            let identity = grant.pin.identity();
            match images.get(&identity).copied().filter(|_| image) {
                Some(id) => table.merge(id, grant),
                None => {
                    let id = table.pin(Arc::new(grant));
                    if image {
                        images.insert(identity, id);
                    }
                }
            }
        }
        table
    }

    /// Adds a file that this process has pinned.
    pub fn pin(&mut self, grant: Arc<Grant>) -> SlotId {
        let names = spellings(&self.working_directory, &grant.name, grant.pin.path());
        self.add(File::Pinned(grant), names)
    }

    /// Adds another grant of the file of slot `id`, with no less access: one file, by whatever name, has one slot.
    fn merge(&mut self, id: SlotId, mut grant: Grant) {
        let names = spellings(&self.working_directory, &grant.name, grant.pin.path());
        let Some(slot) = self.slots.get_mut(&id) else { return };
        // What is only read but lies under an overlay can be committed into.
        if grant.access == Access::ReadOnly && slot.role() == Role::Backing {
            grant.role = Role::Backing;
        }
        slot.file = File::Pinned(Arc::new(grant));
        for name in names {
            let entries = self.by_name.entry(name.clone()).or_default();
            if entries.last() != Some(&Entry::Slot(id)) {
                entries.push(Entry::Slot(id));
                slot.names.push(name);
            }
        }
    }

    /// Adds a file that another process holds, with every link of its name resolved at `resolved`.
    pub fn hold(&mut self, held: Held, resolved: &Path) -> SlotId {
        let names = spellings(&self.working_directory, held.name.as_bytes(), resolved);
        self.add(File::Held(held), names)
    }

    fn add(&mut self, file: File, names: Vec<Vec<u8>>) -> SlotId {
        let id = SlotId(self.next);
        self.next += 1;
        for name in &names {
            self.by_name.entry(name.clone()).or_default().push(Entry::Slot(id));
        }
        self.slots.insert(id, Slot { file, commit: None, names });
        id
    }

    /// Takes a grant back; its names stand for what they stood for before.
    pub fn remove(&mut self, id: SlotId) -> Option<Slot> {
        let slot = self.slots.remove(&id)?;
        for name in &slot.names {
            if let Some(entries) = self.by_name.get_mut(name) {
                entries.retain(|entry| *entry != Entry::Slot(id));
                if entries.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
        Some(slot)
    }

    /// Every grant, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots.iter().map(|(id, slot)| (*id, slot))
    }

    /// Every grant from number `first` on.
    pub fn from(&self, first: u64) -> impl Iterator<Item = (u64, &Slot)> {
        self.slots.range(SlotId(first)..).map(|(id, slot)| (id.0, slot))
    }

    /// Every grant, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SlotId, &mut Slot)> {
        self.slots.iter_mut().map(|(id, slot)| (*id, slot))
    }

    /// How many grants there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What a name stands for as spelled, or else as it reads from the directory that the emulator was started in; a
    /// daemon that has changed its directory since still means that one.
    pub fn look_up(&mut self, name: &[u8]) -> Option<Found<'_>> {
        let as_spelled = self.by_name.get(name);
        let entry = as_spelled.or_else(|| self.by_name.get(&self.absolute(name)));
        match *entry?.last()? {
            Entry::Absent(errno) => Some(Found::Absent(errno)),
            Entry::Slot(id) => self.slots.get_mut(&id).map(|slot| Found::Slot(id, slot)),
        }
    }

    /// Whether some granted file lies beneath the absolute path `name`.
    #[must_use]
    pub fn leads_to(&self, name: &[u8]) -> bool {
        let beneath = |known: &Vec<u8>| known.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"/"));
        name == b"/" || self.slots.values().any(|slot| slot.names.iter().any(beneath))
    }

    /// `name` as an absolute path, read from the directory that the emulator was started in.
    #[must_use]
    pub fn absolute(&self, name: &[u8]) -> Vec<u8> {
        absolute(&self.working_directory, name)
    }
}

/// All the ways to spell a name that are understood: as given, made absolute, and with links resolved.
fn spellings(working_directory: &Path, name: &[u8], resolved: &Path) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let mut names = vec![name.to_vec(), absolute(working_directory, name), resolved.as_os_str().as_bytes().to_vec()];
    names.dedup();
    names
}

impl Held {
    /// Whether an open with `flags` is within this permission; one for a single use is used up by it as [`Once`] says.
    pub fn admits(&mut self, flags: OpenFlags) -> bool {
        let access = self.access;
        access.allows(flags) && self.once.as_mut().is_none_or(|once| once.admit(access, flags))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::open::pin::Pin;

    fn grant(name: &str, role: Role, access: Access) -> Grant {
        let pin = Arc::new(Pin::take(Path::new("/proc/self/exe")).unwrap());
        let (option, name) = (name.to_owned(), name.as_bytes().to_vec());
        Grant { role, option, access, pin, view: None, name, home: None, opened: AtomicBool::new(false) }
    }

    fn slot(table: &mut Table, name: &str) -> Option<SlotId> {
        match table.look_up(name.as_bytes()) {
            Some(Found::Slot(id, _)) => Some(id),
            _ => None,
        }
    }

    #[test]
    fn one_image_by_two_names_is_one_slot_with_the_wider_access() {
        let first = grant("a", Role::Backing, Access::ReadOnly);
        let second = grant("/elsewhere/b", Role::Image, Access::ReadOnly);
        let mut table = Table::new(PathBuf::from("/w"), vec![first, second], Vec::new());
        assert_eq!(table.len(), 1);
        let found = slot(&mut table, "a");
        assert!(found.is_some() && ["/w/a", "/elsewhere/b"].iter().all(|name| slot(&mut table, name) == found));
        assert!(table.iter().all(|(_, slot)| slot.role() == Role::Backing), "it may be committed into");
        let wider = vec![grant("b", Role::Image, Access::ReadWrite), grant("a", Role::Backing, Access::ReadOnly)];
        let table = Table::new(PathBuf::from("/w"), wider, Vec::new());
        assert!(table.iter().all(|(_, slot)| slot.access() == Access::ReadWrite && slot.role() == Role::Image));
    }

    #[test]
    fn what_is_taken_back_leaves_what_came_before_in_any_order() {
        let mut table = Table::new(PathBuf::from("/w"), vec![grant("a", Role::Image, Access::ReadOnly)], Vec::new());
        let start = slot(&mut table, "a");
        let [first, second] = [0, 1].map(|_| table.pin(Arc::new(grant("a", Role::Image, Access::ReadWrite))));
        assert_eq!(slot(&mut table, "a"), Some(second));
        table.remove(first);
        assert_eq!(slot(&mut table, "a"), Some(second));
        table.remove(second);
        assert_eq!(slot(&mut table, "a"), start);
    }
}
