//! Images and what lies below them.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::{Error, Named, Options, Plan};
use crate::emulator::{self, Backing, Image, Kind, Resource};
use crate::open::chain::{self, ImageRoots, Rules, Top};
use crate::open::pin::Pin;
use crate::prober::Prober;
use crate::serve::grants::{Access, Role};

impl Plan {
    /// Pins every image that the command line names, then finds what lies below each: the folders of all of them are
    /// image roots, beside those that the operator names.
    pub(super) fn plan_images(&mut self, resources: &[Resource], options: &Options) -> Result<(), Error> {
        let images: Vec<(&Resource, &Image, Pin)> = resources
            .iter()
            .filter_map(|resource| match &resource.kind {
                Kind::Image(image) => Some((resource, image)),
                _ => None,
            })
            .map(|(resource, image)| Ok((resource, image, self.pin_image(resource)?)))
            .collect::<Result<_, Error>>()?;
        self.image_roots = image_roots(options, images.iter().map(|(_, _, pin)| pin))?;
        let prober = Prober::new().map_err(Error::Prober)?;
        for (resource, image, pin) in images {
            self.plan_chain(&prober, resource, image, &pin)?;
            let access = match image.access {
                emulator::Access::ReadOnly => Access::ReadOnly,
                emulator::Access::ReadWrite => Access::ReadWrite,
            };
            // What lies under an overlay is written only to commit, however it came onto the command line.
            let role = if image.overlaid && access == Access::ReadOnly { Role::Backing } else { Role::Image };
            self.plan_block_limits(&pin)?;
            self.grant(role, access, Named::by(resource), pin)?;
        }
        Ok(())
    }

    fn pin_image(&self, resource: &Resource) -> Result<Pin, Error> {
        let pin = self.pin(resource)?;
        let found = match pin.file_type() {
            FileType::RegularFile | FileType::BlockDevice => return Ok(pin),
            FileType::Directory => "a folder",
            FileType::Fifo => "a named pipe",
            FileType::CharacterDevice => "a character device",
            FileType::Socket => "a socket",
            _ => "no file",
        };
        Err(Error::WrongType {
            option: resource.option.clone(),
            name: resource.name.clone(),
            found,
            wanted: "an image must be a regular file or a block device",
        })
    }

    fn plan_chain(&mut self, prober: &Prober, resource: &Resource, image: &Image, pin: &Pin) -> Result<(), Error> {
        // Read first what can be read at all: the prober's errors are about what an image says.
        crate::open::pin::check_access(pin.as_fd(), false).map_err(|source| Error::open(resource, source))?;
        let top = Top {
            name: &resource.name,
            pin,
            format: image.format.as_deref(),
            follows_header: image.backing == Backing::Header,
        };
        let rules = Rules { working_directory: &self.working_directory, image_roots: &self.image_roots };
        let reader = RefCell::new(prober.reader());
        let chain = chain::walk(&top, &rules, &|pin, format| reader.borrow_mut().probe(pin, format))?;
        self.notices.extend(chain.warnings);
        for member in chain.members {
            let named = Named { option: &resource.option, name: &member.name };
            self.plan_block_limits(&member.pin)?;
            self.grant(Role::Backing, Access::ReadOnly, named, member.pin)?;
        }
        Ok(())
    }

    /// Grants what QEMU reads of a block device's limits (`get_sysfs_str_val` in its block/file-posix.c).
    pub(super) fn plan_block_limits(&mut self, pin: &Pin) -> Result<(), Error> {
        let Some((major, minor)) = pin.block_device() else { return Ok(()) };
        for limit in ["max_segments", "zoned"] {
            let path = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/queue/{limit}"));
            // A partition has no queue of its own; QEMU does without.
            if let Ok(limit) = Pin::take(&path) {
                let named = Named { option: "a block device", name: path.as_os_str() };
                self.grant(Role::File, Access::ReadOnly, named, limit)?;
            }
        }
        Ok(())
    }
}

/// The folders that the operator names, and those of `images`.
fn image_roots<'a>(options: &Options, images: impl Iterator<Item = &'a Pin>) -> Result<ImageRoots, Error> {
    let named = options
        .image_roots
        .iter()
        .map(|path| path.canonicalize().map_err(|source| Error::ImageRoot { path: path.clone(), source }));
    Ok(ImageRoots { named: named.collect::<Result<_, _>>()?, implied: ImageRoots::implied_by(images) })
}
