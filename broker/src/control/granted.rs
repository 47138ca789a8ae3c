//! What `broker ctl NAME grant` hands over: the file, and with a stated format all that lies below it. What is found in
//! headers is compared and recorded as at a start: from now on the guest may write there.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::client::{Error, absolute, name_of, pin};
use super::holder::Holding;
use crate::administrator::Policy;
use crate::emulator::Program;
use crate::open::chain::{self, Follows, ImageRoots, Rules, Top};
use crate::open::pin::Pin;
use crate::paths::absolute_path;
use crate::prober::Prober;
use crate::record::store::{self, Store};
use crate::record::{self, Finding, Identity, Memory, Node, headers, place};
use crate::serve::grants::{Access, Role};

/// What the operator wants to grant.
#[derive(Debug)]
pub struct Wanted {
    /// The file.
    pub path: PathBuf,
    /// For writing too.
    pub write: bool,
    /// Its format, if what lies below it is to be granted with it.
    pub format: Option<String>,
    /// Where that may lie beside the file's own folder.
    pub image_roots: Vec<PathBuf>,
    /// Where the chains of images are recorded, if not in the usual place.
    pub chain_dir: Option<PathBuf>,
}

/// Finds what is to be held, and the absolute path of the file.
///
/// # Errors
/// [`Error`]: the file, something below it, or what was recorded of them.
pub fn find(wanted: &Wanted) -> Result<(PathBuf, Vec<Holding>), Error> {
    let path = absolute(&wanted.path)?;
    let access = if wanted.write { Access::ReadWrite } else { Access::ReadOnly };
    let top = pin(&path, wanted.write)?;
    // The chain first, so that the image is never there without it.
    let mut holdings = match &wanted.format {
        Some(format) => find_below(wanted, &path, &top, format)?,
        None => Vec::new(),
    };
    if wanted.write && wanted.format.is_none() {
        record_as_raw(wanted, &path, &top)?;
    }
    let name = name_of(&path)?;
    holdings.push(Holding { pin: Arc::new(top), name, access, role: Role::Image });
    Ok((path, holdings))
}

/// What lies below an image whose format the operator states.
fn find_below(wanted: &Wanted, path: &Path, top: &Pin, format: &str) -> Result<Vec<Holding>, Error> {
    let prober = Prober::new().map_err(Error::Prober)?;
    let roots = ImageRoots::new(&wanted.image_roots, std::iter::once(top), Policy::of_this_host()?.strict_roots);
    let image_roots = roots.map_err(|(path, source)| Error::Open { path, source })?;
    let root = Path::new("/");
    let rules = Rules { working_directory: root, image_roots: &image_roots };
    let program = Program::System;
    let image = Top { name: path.as_os_str(), pin: top, format: Some(format), follows: Follows::default(), program };
    let mut reader = prober.reader();
    let chain = chain::walk(&image, &rules, &mut |pin, format| reader.probe(pin, format))?;
    record(wanted, &headers::nodes(&image, &chain, true, root)?)?;
    for warning in chain.warnings {
        eprintln!("broker: {warning}");
    }
    let members = chain.members.into_iter().map(|member| {
        let path = absolute_path(root, &member.name);
        let (pin, name) = (Arc::new(member.pin), name_of(&path)?);
        Ok(Holding { pin, name, access: Access::ReadOnly, role: Role::Backing })
    });
    members.collect()
}

/// Compares what was found with what is recorded, and renews that.
fn record(wanted: &Wanted, nodes: &[Node]) -> Result<(), Error> {
    let folder = folder(wanted)?;
    let verdict = record::compare(nodes, &Store::open(&folder, place::Purpose::Decide)?, wanted.chain_dir.as_deref())?;
    if let Some(change) = verdict.refusals.first() {
        return Err(Error::Changed(Box::new(change.clone())));
    }
    if !verdict.renewals.is_empty() || !verdict.removals.is_empty() {
        Store::open(&folder, place::Purpose::Write)?.renew(&verdict)?;
    }
    Ok(())
}

/// Without a format nothing below the file is granted. Whatever header the guest writes into it, it is a raw disk until
/// the operator accepts something else.
fn record_as_raw(wanted: &Wanted, path: &Path, top: &Pin) -> Result<(), Error> {
    let folder = folder(wanted)?;
    let identity = Identity::of(top.as_fd()).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    let path = headers::recorded_path(top, path);
    if Store::open(&folder, place::Purpose::Decide)?.find(&path, identity)? != Finding::Unknown {
        return Ok(());
    }
    let node = Node { path, identity, format: "raw".to_owned(), follows_header: true, references: Vec::new() };
    let record = record::compare::record_of(std::slice::from_ref(&node), &node);
    Ok(Store::open(&folder, place::Purpose::Write)?.write(&[record])?)
}

fn folder(wanted: &Wanted) -> Result<PathBuf, Error> {
    match &wanted.chain_dir {
        Some(folder) => Ok(folder.clone()),
        None => Ok(place::default_folder().map_err(store::Error::from)?),
    }
}
