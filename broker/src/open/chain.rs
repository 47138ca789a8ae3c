//! The chain of an image: every file that QEMU will open because a header names it.
//!
//! [`walk`] is the program. Whoever wrote an image's bytes wrote the names in it, so a name grants nothing: a member
//! must be a file beneath a folder that the operator declared.

pub mod name;
mod pseudo;
mod refusal;
mod roots;

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::FileType;

use super::pin::{Pin, check_access};
use crate::emulator::Program;
use crate::prober::header::{Format, Reference, ReferenceRole};
use crate::prober::{self, Found, detect};
use crate::shell;
pub use refusal::Error;
use refusal::{RebaseLine, Refusal};
use roots::Place;
pub use roots::{ImageRoots, Root, RootPaths};

/// How many images may lie below each other; QEMU itself has no limit, and is slow long before.
const DEPTH_LIMIT: usize = 200;

/// How many files may belong to one image: a disk of 2 TiB in extents of 2 GiB has 1024 (VMware's `twoGbMaxExtent`).
const MEMBER_LIMIT: usize = 2048;

/// An image that the command line names.
#[derive(Debug, Clone, Copy)]
pub struct Top<'a> {
    /// Its name, exactly as QEMU will open it.
    pub name: &'a OsStr,
    /// Its pin.
    pub pin: &'a Pin,
    /// The format that the command line states.
    pub format: Option<&'a str>,
    /// What QEMU takes from its header.
    pub follows: Follows<'a>,
    /// Whose command line it is, for messages.
    pub program: Program,
}

/// What QEMU takes from the header of a top image, and what the command line says in its place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Follows<'a> {
    /// The command line names the backing file, or says that there is none.
    pub backing_given: bool,
    /// The command line names the data file.
    pub data_file_given: bool,
    /// The formats that the command line states for the layers below, nearest first.
    pub layers: &'a [String],
}

/// Where members may lie.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The folder that relative names start from.
    pub working_directory: &'a Path,
    /// The folders that members must lie beneath.
    pub image_roots: &'a ImageRoots,
}

/// A file that QEMU opens because a header names it. It is only ever granted for reading.
#[derive(Debug)]
pub struct Member {
    /// Its name, exactly as QEMU will open it.
    pub name: OsString,
    /// Its pin: a regular file or a block device beneath an image root.
    pub pin: Pin,
    /// The format that it is opened with.
    pub format: Format,
    /// What its own header names.
    pub references: Vec<Link>,
}

/// From an image to a file that its header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// What that file is.
    pub role: ReferenceRole,
    /// Its place among the members of the chain.
    pub member: usize,
}

/// What was found out about an image.
#[derive(Debug)]
pub struct Chain {
    /// The image's own format.
    pub format: Format,
    /// Whether that was stated, or found by looking at bytes that a guest may have written.
    pub stated: bool,
    /// What its header names.
    pub references: Vec<Link>,
    /// What lies below it: each image before those that its own header names.
    pub members: Vec<Member>,
    /// Names with a prefix, at which QEMU looks as they stand too, in case they are devices (`find_hdev_driver`, block.c).
    pub prefixed: Vec<Vec<u8>>,
    /// What the operator should know, one line each.
    pub warnings: Vec<String>,
}

/// Reads one header: [`prober::Reader::probe`].
pub type Probe<'a> = &'a mut dyn FnMut(&Pin, Option<Format>) -> Result<Found, prober::Error>;

/// Finds everything that lies below `top`, reading headers by `probe`.
///
/// # Errors
/// [`Error`]: which image, which field or name, which rule, and what to do.
pub fn walk(top: &Top<'_>, rules: &Rules<'_>, probe: Probe<'_>) -> Result<Chain, Error> {
    let image = || top.name.to_owned();
    let stated = match top.format {
        Some(name) => {
            let format = Format::of_name(name);
            Some(format.ok_or_else(|| Error::Format { image: image(), format: name.to_owned() })?)
        }
        None => None,
    };
    let mut walk = Walk {
        rules,
        probe,
        layers: top.follows.layers,
        members: Vec::new(),
        prefixed: Vec::new(),
        warnings: Vec::new(),
    };
    let mut found = walk.read(top.name, top.pin, stated)?;
    if stated.is_none() {
        if found.format == Format::Raw && detect::is_dmg_name(top.name.as_bytes()) {
            found.format = Format::Dmg;
        }
        walk.warnings.push(unstated(top, found.format));
    }
    found.references.retain(|reference| !top.follows.replaces(reference.role));
    refuse_relative_to_descriptor(top, &found)?;
    let format = found.format;
    let references = walk.follow(top.name, found.references, &mut vec![top.pin.identity()])?;
    let Walk { members, prefixed, warnings, .. } = walk;
    Ok(Chain { format, stated: stated.is_some(), references, members, prefixed, warnings })
}

impl Follows<'_> {
    fn replaces(&self, role: ReferenceRole) -> bool {
        match role {
            ReferenceRole::Backing => self.backing_given,
            ReferenceRole::DataFile => self.data_file_given,
            ReferenceRole::Extent => false,
        }
    }
}

/// Relative names start from the folder of the image's name, and a descriptor has none.
fn refuse_relative_to_descriptor(top: &Top<'_>, found: &Found) -> Result<(), Error> {
    let relative = |reference: &&Reference| name::starts_from_folder(reference.role, &reference.name);
    match (top.pin.origin(), found.references.iter().find(relative)) {
        (Some(origin), Some(Reference { role, name, .. })) => {
            let name = OsString::from_vec(name.clone());
            Err(Error::RelativeToDescriptor { number: origin.number, role: *role, name })
        }
        _ => Ok(()),
    }
}

fn unstated(top: &Top<'_>, format: Format) -> String {
    let (name, format) = (top.name, format.name());
    let stating = top.program.stating(format);
    format!("image {name:?} is given without a format and is taken for {format}; state it: {stating}")
}

/// A walk that is under way.
struct Walk<'a> {
    rules: &'a Rules<'a>,
    probe: Probe<'a>,
    layers: &'a [String],
    members: Vec<Member>,
    prefixed: Vec<Vec<u8>>,
    warnings: Vec<String>,
}

impl Walk<'_> {
    /// Reads what QEMU would follow in an image.
    fn read(&mut self, name: &OsStr, pin: &Pin, format: Option<Format>) -> Result<Found, Error> {
        if let Some(format) = format.filter(|format| !format.names_files()) {
            return Ok(Found { format, encrypted: format == Format::Luks, ..Found::raw() });
        }
        // Opening a FIFO would block; other devices have side effects.
        match not_an_image(pin) {
            Some(kind) => Err(Error::Kind { image: name.to_owned(), kind }),
            None => (self.probe)(pin, format).map_err(|source| Error::Header { image: name.to_owned(), source }),
        }
    }

    /// Adds what `references` of the image `name` mean, and all below; `above` are the images on the way down to it,
    /// itself included.
    fn follow(
        &mut self,
        name: &OsStr,
        references: Vec<Reference>,
        above: &mut Vec<(u64, u64)>,
    ) -> Result<Vec<Link>, Error> {
        let mut links = Vec::new();
        for reference in references {
            let role = reference.role;
            let member = self.add(name, &reference, above).map_err(|error| match error {
                Failure::Here(refusal) => {
                    Error::Member { image: name.to_owned(), role, name: OsString::from_vec(reference.name), refusal }
                }
                Failure::Below(error) => error,
            })?;
            links.push(Link { role, member });
        }
        Ok(links)
    }

    /// Adds one member and all below it; its place among the members.
    fn add(&mut self, image: &OsStr, reference: &Reference, above: &mut Vec<(u64, u64)>) -> Result<usize, Failure> {
        let (name, format) = self.judge(image, reference, above.len())?;
        let pin = self.find(image, reference, &name)?;
        if above.contains(&pin.identity()) {
            return Err(Refusal::Loop(pin.path().to_owned()).into());
        }
        // An extent may stand in several places of a disk.
        let same = |member: &Member| member.name == name && member.pin.identity() == pin.identity();
        if let Some(known) = self.members.iter().position(|member| same(member) && member.format == format) {
            return Ok(known);
        }
        if above.len() > DEPTH_LIMIT {
            return Err(Refusal::TooDeep(DEPTH_LIMIT).into());
        }
        if self.members.len() >= MEMBER_LIMIT {
            return Err(Refusal::TooMany(MEMBER_LIMIT).into());
        }
        let found = self.read(&name, &pin, Some(format)).map_err(Failure::Below)?;
        // QEMU would take such names from the folder of the whole image, and no honest part has any.
        if reference.role != ReferenceRole::Backing && !found.references.is_empty() {
            return Err(Refusal::PartWithParts.into());
        }
        if found.encrypted {
            self.warnings.push(format!("{name:?} is encrypted: its key is backing.encrypt.key-secret of its overlay"));
        }
        if reference.name.starts_with(b"file:") {
            self.prefixed.push(reference.name.clone());
        }
        let place = self.members.len();
        above.push(pin.identity());
        self.members.push(Member { name: name.clone(), pin, format, references: Vec::new() });
        let links = self.follow(&name, found.references, above).map_err(Failure::Below)?;
        above.pop();
        if let Some(member) = self.members.get_mut(place) {
            member.references = links;
        }
        Ok(place)
    }

    /// What QEMU opens for a reference, and with which format.
    fn judge(&self, image: &OsStr, reference: &Reference, depth: usize) -> Result<(OsString, Format), Refusal> {
        let mending = || RebaseLine::of(image, OsStr::from_bytes(&reference.name));
        // The name first: what is no file needs no format.
        let (name, spoken) = match reference.role {
            ReferenceRole::DataFile => (name::resolve_data_file(&reference.name)?, None),
            ReferenceRole::Extent => (name::resolve_extent(image, &reference.name)?, None),
            ReferenceRole::Backing => match pseudo::read(&reference.name)? {
                Some(pseudo) => (name::literal(pseudo.name)?, Some(pseudo.format.into_bytes())),
                None => (name::resolve(image, &reference.name)?, None),
            },
        };
        let layer = self.layers.get(depth.saturating_sub(1)).filter(|_| reference.role == ReferenceRole::Backing);
        let stated = layer.map(|format| format.as_bytes().to_vec()).or_else(|| reference.format.clone());
        if let (Some(stated), Some(spoken)) = (&stated, &spoken)
            && stated != spoken
        {
            let of = |format: &[u8]| OsStr::from_bytes(format).to_owned();
            return Err(Refusal::TwoFormats(of(stated), of(spoken), mending()));
        }
        let stated = stated.or(spoken).ok_or_else(|| Refusal::NoFormat(mending()))?;
        let format = std::str::from_utf8(&stated).ok().and_then(Format::of_name);
        let format = format.ok_or_else(|| Refusal::Format(OsString::from_vec(stated), mending()))?;
        Ok((name, format))
    }

    /// Pins the file `name`, if it may be used.
    fn find(&self, image: &OsStr, reference: &Reference, name: &OsStr) -> Result<Pin, Refusal> {
        let path = self.rules.working_directory.join(name);
        let place = self.rules.image_roots.find(&path).map_err(|error| {
            let mending = RebaseLine::of(image, OsStr::from_bytes(&reference.name));
            let advice = match (error.kind(), reference.role) {
                (ErrorKind::PermissionDenied, _) => "give who opens images the right to go there".to_owned(),
                (_, ReferenceRole::Backing) => format!("if it was moved, {mending}, or name it on the command line"),
                (_, ReferenceRole::DataFile | ReferenceRole::Extent) => "put it back where the image has it".to_owned(),
            };
            Refusal::Missing(name.to_owned(), error, advice)
        })?;
        let pin = match place {
            Place::Beneath(pin) => pin,
            Place::Kernel(path) => return Err(Refusal::Kernel(path)),
            Place::Outside(path) => {
                let folder = shell::word(path.parent().unwrap_or(&path).as_os_str());
                return Err(Refusal::Outside { path, folder });
            }
        };
        if let Some(kind) = not_an_image(&pin) {
            return Err(Refusal::Kind(kind));
        }
        check_access(pin.as_fd(), false).map_err(|error| Refusal::Unreadable(pin.path().to_owned(), error))?;
        Ok(pin)
    }
}

/// Where something is wrong: with the reference itself, or further below.
enum Failure {
    Here(Box<Refusal>),
    Below(Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Here(Box::new(refusal))
    }
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
