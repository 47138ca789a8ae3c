//! The backing chain of an image: every file that QEMU will open because a header names it.
//!
//! [`walk`] is the program. Whoever wrote an image's bytes wrote the names in it, so a name grants nothing: a member
//! must be a file beneath a folder that the operator declared.

mod name;
mod refusal;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::pin::{Pin, check_access};
use crate::prober::header::{Format, Reference, ReferenceRole};
use crate::prober::{self, Found, detect};
pub use refusal::Error;
use refusal::{RebaseLine, Refusal, ShellWord};

/// How many backing files an image may have; QEMU itself has no limit, and is slow long before.
const DEPTH_LIMIT: usize = 200;

/// An image that the command line names.
#[derive(Debug, Clone, Copy)]
pub struct Top<'a> {
    /// Its name, exactly as QEMU will open it.
    pub name: &'a OsStr,
    /// Its pin.
    pub pin: &'a Pin,
    /// The format that the command line states.
    pub format: Option<&'a str>,
    /// Whether QEMU takes the backing file from the header, or was given another one (or none) on the command line.
    pub follows_header: bool,
}

/// Where members may lie.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The folder that relative names start from.
    pub working_directory: &'a Path,
    /// The folders that members must lie beneath.
    pub image_roots: &'a ImageRoots,
}

/// Folders that hold images, every link resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageRoots {
    /// Those that the operator names: all beneath them may be read.
    pub named: Vec<PathBuf>,
    /// Those in which images of the command line lie: regular files beneath them may be read, but nothing whose name, or whose
    /// folder's, begins with a dot. A home folder that holds an image holds keys too.
    pub implied: Vec<PathBuf>,
}

impl ImageRoots {
    /// The folders of `images`. An image in the root folder, or a device, implies none: what lies beside it are not images.
    pub fn implied_by<'a>(images: impl Iterator<Item = &'a Pin>) -> Vec<PathBuf> {
        let files = images.filter(|pin| pin.file_type() == FileType::RegularFile);
        let folders = files.filter_map(|pin| pin.path().parent()).filter(|folder| *folder != Path::new("/"));
        let mut implied: Vec<PathBuf> = folders.map(Path::to_owned).collect();
        implied.sort();
        implied.dedup();
        implied
    }

    fn admit(&self, pin: &Pin) -> bool {
        let path = pin.path();
        let visible = |root: &PathBuf| {
            let beneath = path.strip_prefix(root).ok();
            beneath.is_some_and(|rest| rest.iter().all(|part| !part.as_bytes().starts_with(b".")))
        };
        self.named.iter().any(|root| path.starts_with(root))
            || (pin.file_type() != FileType::BlockDevice && self.implied.iter().any(visible))
    }
}

/// A file that QEMU opens because a header names it. It is only ever granted for reading.
#[derive(Debug)]
pub struct Member {
    /// Its name, exactly as QEMU will open it.
    pub name: OsString,
    /// Its pin: a regular file or a block device beneath an image root.
    pub pin: Pin,
    /// The format that its overlay states.
    pub format: Format,
}

/// What was found out about an image.
#[derive(Debug)]
pub struct Chain {
    /// The image's own format.
    pub format: Format,
    /// What lies below it, nearest first.
    pub members: Vec<Member>,
    /// What the operator should know, one line each.
    pub warnings: Vec<String>,
}

/// Reads one header: [`prober::Reader::probe`].
pub type Probe<'a> = &'a dyn Fn(&Pin, Option<Format>) -> Result<Found, prober::Error>;

/// Finds everything that lies below `top`, reading headers by `probe`.
///
/// # Errors
/// [`Error`]: which image, which field or name, which rule, and what to do.
pub fn walk(top: &Top<'_>, rules: &Rules<'_>, probe: Probe<'_>) -> Result<Chain, Error> {
    let (found, warnings) = match top.format {
        Some(stated) => (start(top, stated, probe)?, Vec::new()),
        None => start_unstated(top, probe)?,
    };
    let mut chain = Chain { format: found.format, members: Vec::new(), warnings };
    let mut seen = HashSet::from([top.pin.identity()]);
    let mut overlay = top.name.to_owned();
    let mut next = backing_of(found);
    while let Some(backing) = next {
        let member = next_member(&overlay, &backing, rules, &mut seen).map_err(|refusal| Error::Member {
            image: overlay.clone(),
            backing: OsString::from_vec(backing.name),
            refusal: Box::new(refusal),
        })?;
        let found = follow(&member.name, &member.pin, member.format, probe)?;
        if found.encrypted {
            let name = &member.name;
            chain.warnings.push(format!("{name:?} is encrypted: its key is backing.encrypt.key-secret of its overlay"));
        }
        next = backing_of(found);
        overlay.clone_from(&member.name);
        chain.members.push(member);
    }
    Ok(chain)
}

/// The format called `name`, if its chain is followed.
fn served(name: &str) -> Option<Format> {
    Format::of_name(name).filter(|format| matches!(format, Format::Raw | Format::Qcow2))
}

fn backing_of(found: Found) -> Option<Reference> {
    found.references.into_iter().find(|reference| reference.role == ReferenceRole::Backing)
}

fn has_data_file(found: &Found) -> bool {
    found.references.iter().any(|reference| reference.role != ReferenceRole::Backing)
}

/// What QEMU follows in the header of `top`, whose format is stated.
fn start(top: &Top<'_>, stated: &str, probe: Probe<'_>) -> Result<Found, Error> {
    let format =
        served(stated).ok_or_else(|| Error::Format { image: top.name.to_owned(), format: stated.to_owned() })?;
    if top.follows_header { follow(top.name, top.pin, format, probe) } else { Ok(Found { format, ..Found::raw() }) }
}

/// The same where no format is stated and QEMU guesses it; and a warning about that.
fn start_unstated(top: &Top<'_>, probe: Probe<'_>) -> Result<(Found, Vec<String>), Error> {
    let image = || top.name.to_owned();
    let found = read_header(top.name, top.pin, None, probe)?;
    let is_dmg = found.format == Format::Raw && detect::is_dmg_name(top.name.as_bytes());
    let format = if is_dmg { Format::Dmg } else { found.format };
    let name = format.name();
    if served(name).is_none() {
        return Err(Error::Format { image: image(), format: name.to_owned() });
    }
    if top.follows_header {
        refuse_data_file(top.name, has_data_file(&found))?;
        if let Some(backing) = backing_of(found) {
            return Err(Error::ProbedOverlay { image: image(), backing: OsString::from_vec(backing.name) });
        }
    }
    let warning = format!(
        "image {:?} is given without a format and is taken for {name}; state it: -drive file=...,format={name}",
        top.name
    );
    Ok((Found { format, ..Found::raw() }, vec![warning]))
}

/// Reads the header of an image whose format is stated.
fn follow(name: &OsStr, pin: &Pin, format: Format, probe: Probe<'_>) -> Result<Found, Error> {
    let found = read_header(name, pin, Some(format), probe)?;
    refuse_data_file(name, has_data_file(&found))?;
    Ok(found)
}

fn read_header(name: &OsStr, pin: &Pin, format: Option<Format>, probe: Probe<'_>) -> Result<Found, Error> {
    // Opening a FIFO would block; other devices have side effects.
    match not_an_image(pin) {
        Some(kind) if format != Some(Format::Raw) => Err(Error::Kind { image: name.to_owned(), kind }),
        _ => probe(pin, format).map_err(|source| Error::Header { image: name.to_owned(), source }),
    }
}

fn refuse_data_file(name: &OsStr, has_data_file: bool) -> Result<(), Error> {
    if has_data_file { Err(Error::DataFile { image: name.to_owned() }) } else { Ok(()) }
}

/// Pins the file that `backing` means in the image that QEMU opens as `overlay`, if it may be used.
fn next_member(
    overlay: &OsStr,
    backing: &Reference,
    rules: &Rules<'_>,
    seen: &mut HashSet<(u64, u64)>,
) -> Result<Member, Refusal> {
    let mending = || RebaseLine::of(overlay, OsStr::from_bytes(&backing.name));
    // The name first: what is no file needs no format.
    let name = name::resolve(overlay, &backing.name)?;
    let stated = backing.format.as_deref().ok_or_else(|| Refusal::NoFormat(mending()))?;
    let format = std::str::from_utf8(stated).ok().and_then(served);
    let format = format.ok_or_else(|| Refusal::Format(OsStr::from_bytes(stated).to_owned(), mending()))?;
    let pin = Pin::take(&rules.working_directory.join(&name))
        .map_err(|error| Refusal::Missing(name.clone(), error, mending()))?;
    check_place(&pin, rules)?;
    check_access(pin.as_fd(), false).map_err(|error| Refusal::Unreadable(pin.path().to_owned(), error))?;
    if !seen.insert(pin.identity()) {
        return Err(Refusal::Loop(pin.path().to_owned()));
    }
    // The top is seen too, and is no backing file.
    if seen.len() > DEPTH_LIMIT + 1 {
        return Err(Refusal::TooDeep(DEPTH_LIMIT));
    }
    Ok(Member { name, pin, format })
}

/// Checks what was pinned, and where it is: links are resolved, and the pin cannot be exchanged any more.
fn check_place(pin: &Pin, rules: &Rules<'_>) -> Result<(), Refusal> {
    let path = pin.path();
    if ["/proc", "/sys"].iter().any(|kernel| path.starts_with(kernel)) {
        return Err(Refusal::Kernel(path.to_owned()));
    }
    if !rules.image_roots.admit(pin) {
        let folder = path.parent().unwrap_or(path);
        return Err(Refusal::Outside {
            path: path.to_owned(),
            folder: ShellWord::of(folder.as_os_str(), "with its folder"),
        });
    }
    // Last, so that nobody learns what kind of thing lies elsewhere.
    not_an_image(pin).map_or(Ok(()), |kind| Err(Refusal::Kind(kind)))
}

/// What `pin` holds, if that cannot be a disk image.
fn not_an_image(pin: &Pin) -> Option<&'static str> {
    match pin.file_type() {
        FileType::RegularFile | FileType::BlockDevice => None,
        FileType::Directory => Some("a directory"),
        FileType::CharacterDevice => Some("a character device"),
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        _ => Some("no file"),
    }
}

#[cfg(test)]
mod tests;
