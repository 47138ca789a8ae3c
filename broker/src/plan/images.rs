//! Images and what lies below them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use protocol::Errno;
use rustix::fs::FileType;

use super::checks::check_descriptor;
use super::{Error, Named, Options, Plan};
use crate::emulator::{self, Backing, CommitInto, Descriptor, Image, Kind, Resource};
use crate::open::chain::{self, Chain, Follows, ImageRoots, Link, Member, Rules, Top};
use crate::open::descriptor::Images;
use crate::open::pin::{Pin, check_access};
use crate::prober::Prober;
use crate::prober::header::ReferenceRole;
use crate::serve::grants::{Access, Role};

impl Plan {
    /// Pins every image that the command line names, then finds what lies below each: the folders of all of them are
    /// image roots, beside those that the operator names.
    pub(super) fn plan_images(
        &mut self,
        resources: &[Resource],
        handed: &Images,
        options: &Options,
    ) -> Result<(), Error> {
        let mut images: Vec<(&Resource, &Image, Pin)> = Vec::new();
        for resource in resources {
            let Kind::Image(image) = &resource.kind else { continue };
            match self.pin_image(resource, image, handed) {
                Ok(pin) => images.push((resource, image, pin)),
                Err(error) => self.leave_to_emulator(resource, error)?,
            }
        }
        // What a descriptor's file lies beside is no business of its caller's.
        let by_path = images.iter().map(|(_, _, pin)| pin).filter(|pin| pin.origin().is_none());
        let image_roots = ImageRoots::new(&options.image_roots, by_path, options.strict_roots)
            .map_err(|(path, source)| Error::ImageRoot { path, source })?;
        self.image_roots = image_roots.paths();
        let prober = Prober::new().map_err(Error::Prober)?;
        for (resource, image, pin) in images {
            self.plan_chain(&prober, &image_roots, resource, image, &pin)?;
            if let Some(descriptor) = &image.descriptor {
                self.plan_direct(resource, *descriptor, handed);
            }
            let writable = pin.origin().is_none_or(|origin| origin.writable) && self.may_write(&pin);
            let access = match image.access {
                emulator::Access::ReadWrite if writable => Access::ReadWrite,
                emulator::Access::ReadOnly | emulator::Access::ReadWrite => Access::ReadOnly,
            };
            // What lies under an overlay is written only to commit, however it came onto the command line.
            let role = if image.overlaid && access == Access::ReadOnly { Role::Backing } else { Role::Image };
            self.plan_block_limits(&pin)?;
            self.grant(role, access, Named::by(resource), pin)?;
        }
        Ok(())
    }

    /// Whether the user who opens images may write `pin`. The broker's own capabilities must not give more than that.
    pub(super) fn may_write(&self, pin: &Pin) -> bool {
        self.image_user.is_none() || check_access(pin.as_fd(), true).is_ok()
    }

    /// A descriptor that bypasses the host's cache is meant to be used so.
    fn plan_direct(&mut self, resource: &Resource, descriptor: Descriptor, handed: &Images) {
        let Descriptor { number, direct, silent_word } = descriptor;
        if direct || !handed.is_direct(number) {
            return;
        }
        let option = &resource.option;
        let word = silent_word.and_then(|at| self.command.argv.get_mut(at));
        self.notices.push(match word {
            Some(word) => {
                // In front: behind a comma that ends the word it would belong to the last value.
                *word = [OsStr::new("cache.direct=on,"), word].into_iter().collect();
                format!("descriptor {number} has O_DIRECT, so cache.direct=on was added to `{option}`")
            }
            None => format!(
                "descriptor {number} has O_DIRECT, but `{option}` goes through the host's cache; say cache.direct=on \
                 there if it is to be bypassed"
            ),
        });
    }

    fn pin_image(&self, resource: &Resource, image: &Image, handed: &Images) -> Result<Pin, Error> {
        let pin = match image.descriptor {
            Some(descriptor) => handed.pin(descriptor.number).map_err(|source| Error::open(resource, source))?,
            None => self.pin(resource)?,
        };
        let found = match pin.file_type() {
            FileType::RegularFile | FileType::BlockDevice => {
                check_descriptor(&pin, false)?;
                // Read first what can be read at all: the prober's errors are about what an image says.
                check_access(pin.as_fd(), false).map_err(|source| Error::open(resource, source))?;
                return Ok(pin);
            }
            FileType::Directory => {
                return Err(Error::open(resource, io::Error::from_raw_os_error(libc::EISDIR)));
            }
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

    fn plan_chain(
        &mut self,
        prober: &Prober,
        image_roots: &ImageRoots,
        resource: &Resource,
        image: &Image,
        pin: &Pin,
    ) -> Result<(), Error> {
        let shown = image.backing == Backing::Shown;
        let top = Top {
            name: &resource.name,
            pin,
            format: image.format.as_deref(),
            follows: Follows {
                backing_given: image.backing == Backing::Ignored,
                data_file_given: image.data_file_given,
                layers: &image.layers,
            },
            program: self.command.program,
        };
        let rules = Rules { working_directory: &self.working_directory, image_roots };
        let mut reader = prober.reader();
        let mut chain = match chain::walk(&top, &rules, &mut |pin, format| reader.probe(pin, format)) {
            // There is nothing that could be opened.
            Err(error) if shown && error.is_missing_member() => return Ok(()),
            other => other?,
        };
        refuse_to_write(resource, image, &chain)?;
        // What is only printed may be found out by a look at the header.
        if !shown {
            self.notices.append(&mut chain.warnings);
            self.note_headers(&top, &chain)?;
        }
        let nothing = Errno::from_io(&io::Error::from_raw_os_error(libc::ENOENT));
        self.absent.extend(chain.prefixed.drain(..).map(|name| (name, nothing)));
        let written = self.committed_into(resource, image, &chain);
        for (place, member) in chain.members.into_iter().enumerate() {
            let named = Named { option: &resource.option, name: &member.name };
            let access = if written == Some(place) { Access::ReadWrite } else { Access::ReadOnly };
            self.plan_block_limits(&member.pin)?;
            self.grant(Role::Backing, access, named, member.pin)?;
        }
        Ok(())
    }

    /// Which member `qemu-img commit` writes.
    fn committed_into(&self, resource: &Resource, image: &Image, chain: &Chain) -> Option<usize> {
        let below =
            |links: &[Link]| links.iter().find(|link| link.role == ReferenceRole::Backing).map(|link| link.member);
        let nearest = below(&chain.references)?;
        let CommitInto::Named(base) = image.commit.as_ref()? else { return Some(nearest) };
        let (mut overlay, mut next) = (resource.name.as_os_str(), Some(nearest));
        while let Some((place, member)) = next.and_then(|place| Some((place, chain.members.get(place)?))) {
            if self.is_base(base, overlay, member) {
                return Some(place);
            }
            (overlay, next) = (&member.name, below(&member.references));
        }
        None
    }

    /// Whether `base` names `member`, which lies below `overlay`.
    fn is_base(&self, base: &OsStr, overlay: &OsStr, member: &Member) -> bool {
        let by_overlay = chain::name::resolve(overlay, base.as_bytes()).ok();
        let spellings = [Some(base.to_owned()), by_overlay].into_iter().flatten();
        let same = |name: OsString| {
            let pin = Pin::take(&self.working_directory.join(name));
            pin.is_ok_and(|pin| pin.identity() == member.pin.identity())
        };
        *base == member.name || spellings.into_iter().any(same)
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

/// What only a header names is granted for reading, and QEMU would write an image's data file and extents with it.
fn refuse_to_write(resource: &Resource, image: &Image, chain: &Chain) -> Result<(), Error> {
    let written = |link: &&Link| link.role != ReferenceRole::Backing;
    match chain.references.iter().find(written).filter(|_| image.access == emulator::Access::ReadWrite) {
        Some(link) => Err(Error::NamedByHeader {
            option: resource.option.clone(),
            name: resource.name.clone(),
            role: link.role,
            file: chain.members.get(link.member).map(|member| member.name.clone()).unwrap_or_default(),
        }),
        None => Ok(()),
    }
}
