//! What a start finds, beside what is recorded.
//!
//! A header may name what was recorded of its image, and what could be read through that then: commit and stream make
//! chains shorter. Whatever else it names is a change, and the operator's to accept.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::change::{Accept, Change, What};
use super::journal::Told;
use super::store::Error;
use super::{Finding, How, Identity, Node, NodeReference, Record, RecordedReference, Role};
use crate::shell;

/// Images whose records are looked at to find out what could be read through one; a chain has 201 at most.
const CLOSURE_LIMIT: usize = 256;

/// What is known from earlier starts.
pub trait Memory {
    /// What is known about `file`, which is found at `image`.
    ///
    /// # Errors
    /// [`Error`]: the records cannot be read.
    fn find(&self, image: &Path, file: Identity) -> Result<Finding, Error>;
}

/// What a comparison came to.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// Why the start must not go on. If there are any, nothing is to be written.
    pub refusals: Vec<Change>,
    /// Records that are new, or say something new.
    pub renewals: Vec<Record>,
    /// Records of images that have moved, which are known by their new path after the renewals.
    pub removals: Vec<Record>,
    /// What the operator should know, one line each.
    pub notices: Vec<String>,
}

/// Compares all images of a start with what is known of them. `chain_dir` is the folder of the records if the operator
/// named it.
///
/// # Errors
/// [`Error`]: the records cannot be read.
pub fn compare(nodes: &[Node], memory: &impl Memory, chain_dir: Option<&Path>) -> Result<Verdict, Error> {
    let mut verdict = Verdict::default();
    for node in nodes {
        let finding = memory.find(&node.path, node.identity)?;
        let changes = changes(nodes, node, &finding, memory)?;
        if changes.is_empty() {
            renew(&mut verdict, nodes, node, finding);
        }
        let command = || accept(nodes, node, chain_dir);
        let changes = changes.into_iter().map(|what| Change { image: node.path.clone(), what, command: command() });
        verdict.refusals.extend(changes);
    }
    if !verdict.refusals.is_empty() {
        verdict.renewals.clear();
        verdict.removals.clear();
    }
    Ok(verdict)
}

/// What `node` is and says beyond what is known of it.
fn changes(nodes: &[Node], node: &Node, finding: &Finding, memory: &impl Memory) -> Result<Vec<What>, Error> {
    if let Finding::Recorded(record, _) = finding
        && record.format != node.format
    {
        // What a header of another format names needs no further word.
        return Ok(vec![What::Format { old: record.format.clone(), new: node.format.clone() }]);
    }
    let mut changes = Vec::new();
    for reference in &node.references {
        // What leads nowhere is nothing that could be opened.
        let Some(target) = nodes.get(reference.target).filter(|_| node.follows_header) else { continue };
        let new = || (target.path.clone(), reference.format.clone());
        match finding {
            Finding::Unknown => {}
            Finding::Created(told) if created_may_name(told, reference, target) => {}
            Finding::Created(_) => changes.push(What::Created { role: reference.role, new: new() }),
            Finding::Recorded(record, _) if may_name(record, reference, target, memory)? => {}
            Finding::Recorded(record, _) => {
                let old = record.references.iter().filter(|old| old.role == reference.role);
                let old = old.map(|old| (old.path.clone(), old.format.clone())).collect();
                changes.push(What::Reference { role: reference.role, old, new: new() });
            }
        }
    }
    Ok(changes)
}

/// Whether the image of `record` may name `target`.
fn may_name(record: &Record, reference: &NodeReference, target: &Node, memory: &impl Memory) -> Result<bool, Error> {
    if record.references.iter().any(|old| is_that(old, reference, target)) {
        return Ok(true);
    }
    // What is written with the image must be its own: through a backing file the guest could only read.
    if reference.role != Role::Backing {
        return Ok(false);
    }
    is_below(record, reference, target, memory)
}

/// Whether `target` was to be read, in the same format, through what `record` names.
fn is_below(record: &Record, reference: &NodeReference, target: &Node, memory: &impl Memory) -> Result<bool, Error> {
    let mut seen: HashSet<PathBuf> = HashSet::from([record.image.clone()]);
    let mut next = record.references.clone();
    while let Some(named) = next.pop() {
        if is_that(&named, reference, target) {
            return Ok(true);
        }
        if seen.len() >= CLOSURE_LIMIT || !seen.insert(named.path.clone()) {
            continue;
        }
        // What is opened as raw shows its bytes, and not the files that they would name as qcow2.
        if let Finding::Recorded(below, _) = memory.find(&named.path, named.file)?
            && below.format == named.format
        {
            next.extend(below.references);
        }
    }
    Ok(false)
}

/// Whether `reference`, which leads to `target`, is the recorded one.
fn is_that(old: &RecordedReference, reference: &NodeReference, target: &Node) -> bool {
    old.role == reference.role
        && old.format == reference.format
        && (old.path == target.path || old.file.is_surely(target.identity))
}

/// Whether a file that the guest of this journal created may name `target`: what the guest was granted, for reading, and
/// what it created itself, in any format.
fn created_may_name(told: &Told, reference: &NodeReference, target: &Node) -> bool {
    let is_granted = told
        .images
        .iter()
        .any(|listed| listed.is_at(&target.path, target.identity) && listed.format == reference.format);
    (reference.role == Role::Backing && is_granted) || is_created(told, target)
}

fn is_created(told: &Told, target: &Node) -> bool {
    told.created.iter().any(|created| told.is_that(created, &target.path, target.identity))
}

/// Adds to `verdict` what is to be recorded of a node that may be what it is.
fn renew(verdict: &mut Verdict, nodes: &[Node], node: &Node, finding: Finding) {
    let image = shell::word(node.path.as_os_str());
    let mut record = record_of(nodes, node);
    if let Finding::Recorded(old, how) = finding {
        if !node.follows_header {
            // Nobody has read what the header says.
            record.references.clone_from(&old.references);
        }
        keep_births(&mut record, &old);
        if old == record {
            return;
        }
        match how {
            How::Same | How::Linked => {}
            How::Replaced => verdict.notices.push(format!(
                "{image} is another file than the one recorded, and names nothing else; it is recorded in its place"
            )),
            How::Moved => {
                let before = shell::word(old.image.as_os_str());
                verdict.notices.push(format!("{image} was {before} when it was recorded; its record goes with it"));
                verdict.removals.push(old);
            }
        }
    }
    if !verdict.renewals.contains(&record) {
        verdict.renewals.push(record);
    }
}

/// Keeps the times of birth that another host saw, where this one sees none: over NFS not every kernel tells them.
fn keep_births(record: &mut Record, old: &Record) {
    let keep = |file: &mut Identity, path: &Path, old_file: Identity, old_path: &Path| {
        if file.born.is_none() && path == old_path && file.may_be(old_file) {
            *file = old_file;
        }
    };
    keep(&mut record.file, &record.image, old.file, &old.image);
    for (new, old) in record.references.iter_mut().zip(&old.references) {
        keep(&mut new.file, &new.path, old.file, &old.path);
    }
}

/// What a node says, as it is recorded.
#[must_use]
pub fn record_of(nodes: &[Node], node: &Node) -> Record {
    let references = node.references.iter().filter_map(|reference| {
        let target = nodes.get(reference.target)?;
        let (path, format) = (target.path.clone(), reference.format.clone());
        Some(RecordedReference { role: reference.role, path, file: target.identity, format })
    });
    let references = references.collect();
    Record { image: node.path.clone(), file: node.identity, format: node.format.clone(), references }
}

/// The command that accepts `node` as it is: with the folders of all that lies below it, where those are not beneath its
/// own.
#[must_use]
pub fn accept(nodes: &[Node], node: &Node, chain_dir: Option<&Path>) -> Accept {
    let own = node.path.parent().unwrap_or(Path::new("/"));
    let mut image_roots: Vec<PathBuf> = Vec::new();
    let mut seen = HashSet::new();
    let mut next: Vec<&NodeReference> = node.references.iter().collect();
    while let Some(reference) = next.pop() {
        let Some(target) = nodes.get(reference.target).filter(|_| seen.insert(reference.target)) else { continue };
        next.extend(&target.references);
        let folder = target.path.parent().unwrap_or(Path::new("/"));
        if !folder.starts_with(own) && !image_roots.iter().any(|root| folder.starts_with(root)) {
            image_roots.push(folder.to_owned());
        }
    }
    Accept {
        image: node.path.clone(),
        format: node.format.clone(),
        image_roots,
        chain_dir: chain_dir.map(Path::to_owned),
    }
}

#[cfg(test)]
mod tests;
