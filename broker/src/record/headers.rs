//! What the headers of an image and of all below it say now, read as a start would read them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::{Identity, Node, NodeReference, Role};
use crate::administrator::{self, Policy};
use crate::emulator::Program;
use crate::open::chain::{self, Chain, Follows, ImageRoots, Link, Rules, Top};
use crate::open::pin::{Pin, check_access};
use crate::paths::absolute_path;
use crate::prober::Prober;
use crate::prober::header::{Format, ReferenceRole};
use crate::shell;

/// Walks the chain of `image`, which is opened as `format` (none: what QEMU would take it for). What headers name may lie
/// beneath `roots` and, if the administrator has nothing against it, in the image's own folder. The image comes first.
///
/// # Errors
/// [`Error`].
pub fn read(image: &Path, format: Option<&str>, roots: &[PathBuf]) -> Result<Vec<Node>, Error> {
    let working_directory = std::env::current_dir().map_err(Error::WorkingDirectory)?;
    let open = |source| Error::Open { path: image.to_owned(), source };
    let pin = Pin::take(image).map_err(open)?;
    check_access(pin.as_fd(), false).map_err(open)?;
    let image_roots = ImageRoots::new(roots, std::iter::once(&pin), Policy::of_this_host()?.strict_roots)
        .map_err(|(path, source)| Error::Root { path, source })?;
    let rules = Rules { working_directory: &working_directory, image_roots: &image_roots };
    let prober = Prober::new().map_err(Error::Prober)?;
    let mut reader = prober.reader();
    let top = Top { name: image.as_os_str(), pin: &pin, format, follows: Follows::default(), program: Program::System };
    let chain = chain::walk(&top, &rules, &mut |pin, format| reader.probe(pin, format))?;
    nodes(&top, &chain, true, &working_directory)
}

/// What was found in the headers of `top` and of all below it, as it is compared and recorded. The first is that of `top`
/// itself, whose header was followed or, if not `follows_header`, the command line.
///
/// # Errors
/// [`Error::Open`]: a file server has lost one of them meanwhile.
pub fn nodes(top: &Top<'_>, chain: &Chain, follows_header: bool, working_directory: &Path) -> Result<Vec<Node>, Error> {
    let node = |pin: &Pin, name: &OsStr, format: Format, follows_header, links: &[Link]| {
        let path = recorded_path(pin, &absolute_path(working_directory, name));
        let identity = Identity::of(pin.as_fd()).map_err(|source| Error::Open { path: path.clone(), source })?;
        // The members come behind the top.
        let references = links.iter().filter_map(|link| {
            let format = chain.members.get(link.member)?.format.name().to_owned();
            Some(NodeReference { role: link.role.into(), target: link.member + 1, format })
        });
        let references = references.collect();
        Ok::<_, Error>(Node { path, identity, format: format.name().to_owned(), follows_header, references })
    };
    let mut nodes = vec![node(top.pin, top.name, chain.format, follows_header, &chain.references)?];
    for member in &chain.members {
        nodes.push(node(&member.pin, &member.name, member.format, true, &member.references)?);
    }
    Ok(nodes)
}

/// A file that the header of a top image names, for messages.
#[derive(Debug, Clone)]
pub struct Named {
    /// What for.
    pub role: ReferenceRole,
    /// As QEMU opens it.
    pub name: OsString,
}

/// What the header of the top image of `chain` names.
#[must_use]
pub fn named(chain: &Chain) -> Vec<Named> {
    let named = |link: &Link| {
        let member = chain.members.get(link.member)?;
        Some(Named { role: link.role, name: member.name.clone() })
    };
    chain.references.iter().filter_map(named).collect()
}

impl From<ReferenceRole> for Role {
    fn from(role: ReferenceRole) -> Self {
        match role {
            ReferenceRole::Backing => Self::Backing,
            ReferenceRole::DataFile => Self::DataFile,
            ReferenceRole::Extent => Self::Extent,
        }
    }
}

/// The path by which what `pin` holds is recorded, if the operator or a header calls it `name` (absolute).
#[must_use]
pub fn recorded_path(pin: &Pin, name: &Path) -> PathBuf {
    if pin.file_type() == FileType::BlockDevice { name.to_owned() } else { pin.path().to_owned() }
}

/// Why the headers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image cannot be opened.
    #[error("cannot open {}: {source}", shell::word(path.as_os_str()))]
    Open {
        /// The image.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// An image root that is not there.
    #[error("cannot find --image-root {}: {source}", shell::word(path.as_os_str()))]
    Root {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The administrator's policy.
    #[error(transparent)]
    Administrator(#[from] administrator::Error),
    /// The current folder is gone.
    #[error("cannot find the current folder: {0}; change to one that exists")]
    WorkingDirectory(io::Error),
    /// The prober cannot be made.
    #[error("cannot prepare to read image headers: {0}")]
    Prober(crate::confine::seccomp::Error),
    /// A chain that no start would take.
    #[error(transparent)]
    Chain(#[from] chain::Error),
}
