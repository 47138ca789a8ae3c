//! `broker chain show|accept|forget`.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::change::USUAL_FORMAT;
use super::compare::record_of;
use super::store::{self, Store};
use super::{Finding, How, Memory, Record, headers, place, show};
use crate::open::pin::Pin;
use crate::paths::absolute_path;
use crate::shell;

/// What the operator wants.
#[derive(Debug)]
pub enum Wish {
    /// To see what is recorded.
    Show {
        /// The image whose chain it is; none: everything.
        image: Option<PathBuf>,
        /// As JSON.
        json: bool,
    },
    /// To record what the headers of an image and of all below it say now.
    Accept {
        /// The image.
        image: PathBuf,
        /// What it is opened as; none: [`USUAL_FORMAT`].
        format: Option<String>,
        /// Where the files may lie that headers name, beside the image's own folder.
        image_roots: Vec<PathBuf>,
    },
    /// To forget an image, so that it is taken as it is at its next start.
    Forget(PathBuf),
    /// To forget all images that are gone.
    ForgetMissing,
}

/// Does it, in the folder `chain_dir` or the usual one.
///
/// # Errors
/// [`Error`]: what failed, and what to do.
pub fn run(chain_dir: Option<&Path>, wish: &Wish) -> Result<(), Error> {
    let folder = chain_dir.map_or_else(place::default_folder, |folder| Ok(folder.to_owned()));
    let folder = folder.map_err(store::Error::from)?;
    match wish {
        Wish::Show { image, json } => {
            let store = Store::open(&folder, place::Purpose::Show)?;
            let records = image.as_deref().map_or_else(|| Ok(store.all()?), |image| chain(&store, image))?;
            print(&records, *json)
        }
        Wish::Accept { image, format, image_roots } => {
            let format = format.as_deref().unwrap_or(USUAL_FORMAT);
            // Read first: a folder is made only for what can be recorded.
            let nodes = headers::read(image, Some(format), image_roots)?;
            let records: Vec<Record> = nodes.iter().map(|node| record_of(&nodes, node)).collect();
            let mut store = Store::open(&folder, place::Purpose::Write)?;
            accept(&mut store, &records)?;
            print(&records, false)
        }
        Wish::Forget(image) => {
            let path = recorded_as(image)?;
            // Nothing is made for what is not there.
            if Store::open(&folder, place::Purpose::Show)?.of_path(&path)?.is_empty() {
                return Err(Error::NotRecorded { image: path, folder });
            }
            Store::open(&folder, place::Purpose::Write)?.forget(&path)?;
            Ok(())
        }
        Wish::ForgetMissing => {
            let is_empty = Store::open(&folder, place::Purpose::Show)?.is_empty();
            let forgotten =
                if is_empty { Vec::new() } else { Store::open(&folder, place::Purpose::Write)?.forget_missing()? };
            forgotten.iter().for_each(|image| println!("{}", shell::word(image.as_os_str())));
            Ok(())
        }
    }
}

fn accept(store: &mut Store, records: &[Record]) -> Result<(), Error> {
    let known: Result<Vec<Finding>, store::Error> =
        records.iter().map(|record| store.find(&record.image, record.file)).collect();
    let known = known?;
    store.write(records)?;
    for finding in known {
        if let Finding::Recorded(old, How::Moved) = finding {
            store.forget(&old.image)?;
        }
    }
    Ok(())
}

/// What is recorded of `image` and of all below it.
fn chain(store: &Store, image: &Path) -> Result<Vec<Record>, Error> {
    let top = recorded_as(image)?;
    let mut chain = store.of_path(&top)?;
    if chain.is_empty() {
        return Err(Error::NotRecorded { image: top, folder: store.path().to_owned() });
    }
    let mut seen = HashSet::from([top]);
    let mut looked_at = 0;
    while let Some(record) = chain.get(looked_at) {
        looked_at += 1;
        let named: Vec<PathBuf> = record.references.iter().map(|reference| reference.path.clone()).collect();
        for path in named.into_iter().filter(|path| seen.insert(path.clone())) {
            chain.extend(store.of_path(&path)?);
        }
    }
    Ok(chain)
}

/// The path by which `image` is recorded; it may be gone.
fn recorded_as(image: &Path) -> Result<PathBuf, Error> {
    let folder = std::env::current_dir().map_err(Error::WorkingDirectory)?;
    let name = absolute_path(&folder, image.as_os_str());
    if let Ok(pin) = Pin::take(image) {
        return Ok(headers::recorded_path(&pin, &name));
    }
    // The links on the way to where it was.
    let parent = name.parent().and_then(|parent| parent.canonicalize().ok());
    Ok(parent.zip(name.file_name()).map_or(name.clone(), |(parent, file)| parent.join(file)))
}

fn print(records: &[Record], json: bool) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let written = if json { show::write_json(&mut out, records) } else { show::write_words(&mut out, records) };
    written.map_err(Error::Output)
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The records cannot be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The headers cannot be read.
    #[error(transparent)]
    Headers(#[from] headers::Error),
    /// Nothing is known of it.
    #[error(
        "{} is not recorded in {}; `broker chain show` lists what is, and --chain-dir DIR looks elsewhere",
        shell::word(image.as_os_str()),
        shell::word(folder.as_os_str())
    )]
    NotRecorded {
        /// The image.
        image: PathBuf,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The current folder is gone.
    #[error("cannot find the current folder: {0}; change to one that exists")]
    WorkingDirectory(io::Error),
    /// Standard output is closed.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}
