//! What this start finds in headers, beside what was recorded at earlier ones.

use std::path::{Path, PathBuf};

use super::{Error, Options, Plan};
use crate::emulator::Program;
use crate::open::chain::{Chain, Top};
use crate::record::headers::{self, Named};
use crate::record::journal::Listed;
use crate::record::store::Store;
use crate::record::{self, Finding, Memory, Node, Verdict, place};
use crate::serve::folders::Folder;

/// An image of the command line with all that lies below it.
#[derive(Debug)]
pub(super) struct Seen {
    /// The image comes first.
    nodes: Vec<Node>,
    /// The command line states its format.
    stated: bool,
    /// What its header names, for a message.
    names: Vec<Named>,
}

/// What is to be written down when the start goes on.
#[derive(Debug)]
pub struct Recording {
    /// The folder of the records.
    pub folder: PathBuf,
    /// What is new.
    pub verdict: Verdict,
    /// What images that the guest creates may name.
    pub images: Vec<Listed>,
}

impl Plan {
    /// Remembers what the headers of `top` and of all below it say.
    pub(super) fn note_headers(&mut self, top: &Top<'_>, chain: &Chain) -> Result<(), Error> {
        // A file that no path leads to is no other start's image.
        if !top.pin.is_shown() {
            return Ok(());
        }
        // An image whose backing file the command line names still has the data file that its header names.
        let follows_header = !top.follows.backing_given || !chain.references.is_empty();
        let nodes = headers::nodes(top, chain, follows_header, &self.working_directory)?;
        self.seen.push(Seen { nodes, stated: chain.stated, names: headers::named(chain) });
        Ok(())
    }

    /// Compares all that was found with what is recorded; what has changed stops the start.
    pub(super) fn plan_records(&mut self, options: &Options) -> Result<(), Error> {
        let seen = std::mem::take(&mut self.seen);
        let creates = self.folders.iter().any(Folder::is_for_new_files);
        if seen.is_empty() && !creates {
            return Ok(());
        }
        let chain_dir = options.chain_dir.as_deref();
        let folder = chain_dir.map_or_else(place::default_folder, |folder| Ok(folder.to_owned()));
        let folder = folder.map_err(record::store::Error::from)?;
        self.refuse_records_among_new_files(&folder)?;
        let store = Store::open(&folder, place::Purpose::Decide)?;
        let program = self.command.program;
        seen.iter().try_for_each(|seen| refuse_guessed_overlay(seen, &store, chain_dir, program))?;
        let nodes = join(seen);
        let verdict = record::compare(&nodes, &store, chain_dir)?;
        if let Some((change, others)) = verdict.refusals.split_first() {
            return Err(Error::Changed { change: Box::new(change.clone()), others: others.len() });
        }
        // What a tool is used on once and never started would be remembered for ever.
        if self.command.program.is_brief() && !creates {
            return Ok(());
        }
        self.notices.extend(verdict.notices.iter().cloned());
        let listed = |node: Node| Listed { path: node.path, file: node.identity, format: node.format };
        self.recording = Some(Recording { folder, verdict, images: nodes.into_iter().map(listed).collect() });
        Ok(())
    }

    /// A guest that creates files where the records are could write its own.
    fn refuse_records_among_new_files(&self, folder: &Path) -> Result<(), Error> {
        let there = folder.ancestors().find_map(|folder| folder.canonicalize().ok());
        let made_in = self.folders.iter().filter(|folder| folder.is_for_new_files());
        for made_in in made_in.map(|folder| folder.pin.path()) {
            if there.as_ref().is_some_and(|there| there.starts_with(made_in)) {
                return Err(Error::RecordsAmongNewFiles { records: folder.to_owned(), folder: made_in.to_owned() });
            }
        }
        Ok(())
    }
}

/// A guest can write any header into its raw disk, and so would choose what it is given at its next start. Only an image
/// that is known by now is an overlay without the operator's word.
fn refuse_guessed_overlay(seen: &Seen, store: &Store, chain_dir: Option<&Path>, program: Program) -> Result<(), Error> {
    let Seen { nodes, stated: false, names } = seen else { return Ok(()) };
    let (Some(top), Some(named)) = (nodes.first(), names.first()) else { return Ok(()) };
    if store.find(&top.path, top.identity)? != Finding::Unknown {
        return Ok(());
    }
    Err(Error::GuessedOverlay {
        image: top.path.clone(),
        stating: program.stating(&top.format),
        role: named.role,
        named: named.name.clone(),
        accept: Box::new(record::compare::accept(nodes, top, chain_dir)),
    })
}

/// All nodes of a start in one list.
fn join(seen: Vec<Seen>) -> Vec<Node> {
    let mut all: Vec<Node> = Vec::new();
    for mut nodes in seen.into_iter().map(|seen| seen.nodes) {
        let before = all.len();
        nodes.iter_mut().flat_map(|node| &mut node.references).for_each(|reference| reference.target += before);
        all.append(&mut nodes);
    }
    all
}
