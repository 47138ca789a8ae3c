//! Checks the file of mounts, device nodes, absent names and Landlock rights.

use std::collections::BTreeSet;

use crate::check::reason;
use crate::source::Mistake;
use crate::source_mounts::{Absent, Base, Grant, Handled, Mount, Mounts, Sought, SoughtIn};

/// Checks the whole file and drops the entries of other architectures.
///
/// # Errors
/// The first [`Mistake`] found.
pub fn mounts(mut file: Mounts, architecture: &str) -> Result<Mounts, Mistake> {
    file.mount.retain(|mount| mount.arch.as_deref().is_none_or(|arch| arch == architecture));
    file.mount.iter().try_for_each(mount)?;
    unique(file.mount.iter().map(|mount| format!("{:?} {}", mount.base, mount.path)))?;
    for named in file.device.iter().chain(&file.private) {
        reason(&named.path, &named.reason)?;
        absolute(&named.path)?;
    }
    unique(file.device.iter().chain(&file.private).map(|named| named.path.clone()))?;
    file.absent.iter().try_for_each(absent)?;
    unique(file.absent.iter().flat_map(|entry| entry.path.iter().chain(&entry.prefix).cloned()))?;
    file.sought.iter().try_for_each(sought)?;
    unique(file.sought.iter().map(|entry| format!("{:?} {}", entry.base, entry.path)))?;
    file.handled.iter().try_for_each(|handled| reason(&handled.right, &handled.reason))?;
    unique(file.handled.iter().map(|handled| handled.right.clone()))?;
    file.grant.iter().try_for_each(|grant| self::grant(grant, &file.handled))?;
    unique(file.grant.iter().flat_map(|grant| grant.rights.iter().map(|right| format!("{:?} {right}", grant.place))))?;
    Ok(file)
}

fn mount(mount: &Mount) -> Result<(), Mistake> {
    reason(&mount.path, &mount.reason)?;
    if mount.base == Base::System {
        return absolute(&mount.path);
    }
    relative(&mount.path)
}

fn sought(entry: &Sought) -> Result<(), Mistake> {
    reason(&entry.path, &entry.reason)?;
    if entry.base == SoughtIn::System { absolute(&entry.path) } else { relative(&entry.path) }
}

fn relative(path: &str) -> Result<(), Mistake> {
    if path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(wrong(path, "a path beneath another one is relative and has no `..`"));
    }
    Ok(())
}

fn absolute(path: &str) -> Result<(), Mistake> {
    let mut parts = path.split('/');
    if parts.next() != Some("") || parts.any(|part| matches!(part, "" | "." | "..")) {
        return Err(wrong(path, "the path must be absolute, with no `//`, `.`, `..` or final `/`"));
    }
    Ok(())
}

fn absent(entry: &Absent) -> Result<(), Mistake> {
    let name = match (&entry.path, &entry.prefix) {
        (Some(name), None) | (None, Some(name)) if !name.is_empty() => name,
        _ => return Err(wrong(&entry.reason, "give either `path` or `prefix`")),
    };
    reason(name, &entry.reason)
}

/// A right that the ruleset does not handle is everybody's, so granting it would be a mistake.
fn grant(grant: &Grant, handled: &[Handled]) -> Result<(), Mistake> {
    let place = format!("{:?}", grant.place);
    reason(&place, &grant.reason)?;
    for right in &grant.rights {
        if !handled.iter().any(|known| known.right == *right) {
            return Err(wrong(right, "a right that is granted must be among those handled"));
        }
    }
    Ok(())
}

fn unique(names: impl Iterator<Item = String>) -> Result<(), Mistake> {
    let mut seen = BTreeSet::new();
    for name in names {
        if seen.contains(&name) {
            return Err(wrong(&name, "it is there twice; keep one"));
        }
        seen.insert(name);
    }
    Ok(())
}

fn wrong(entry: &str, what: &'static str) -> Mistake {
    Mistake::Entry { entry: entry.to_owned(), what }
}
