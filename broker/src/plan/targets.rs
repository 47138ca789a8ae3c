//! Images that a tool makes.
//!
//! The file is made when the tool makes it, and not before: a run that fails leaves what it would have left without the
//! broker, and a second one for the same file finds nothing that the first is about to remove.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use protocol::Errno;
use rustix::fs::FileType;

use super::error::open_hint;
use super::files::wrong_type;
use super::{Error, Named, Plan};
use crate::emulator::Resource;
use crate::open::access::needs_override;
use crate::open::output;
use crate::open::pin::{Pin, check_access};
use crate::serve::folders::{Folder, NewFile, Purpose};
use crate::serve::grants::{Access, Role};

impl Plan {
    /// Plans for an image that is made, or written anew. What the tool could not open or make by itself either is for it
    /// to complain of.
    pub(super) fn plan_target(&mut self, resource: &Resource) -> Result<(), Error> {
        let path = Path::new(&resource.name);
        if resource.name.as_bytes().ends_with(b"/") {
            self.set_absent(resource, &io::Error::from_raw_os_error(libc::EISDIR));
            return Ok(());
        }
        let pinned = match Pin::take(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.plan_new(resource),
            Err(error) => {
                self.set_absent(resource, &error);
                return Ok(());
            }
            Ok(pin) => pin,
        };
        match pinned.file_type() {
            FileType::RegularFile | FileType::BlockDevice => {}
            FileType::Directory => {
                self.set_absent(resource, &io::Error::from_raw_os_error(libc::EISDIR));
                return Ok(());
            }
            _ => return Err(wrong_type(resource, "no regular file", "give a regular file, or a name that is free")),
        }
        if let Err(error) = check_access(pinned.as_fd(), true) {
            self.set_absent(resource, &error);
            return Ok(());
        }
        self.plan_block_limits(&pinned)?;
        let home = output::home(path).ok();
        self.grant(Role::Target, Access::ReadWrite, Named::by(resource), pinned)?;
        if let Some(grant) = self.grants.last_mut() {
            grant.home = home;
        }
        Ok(())
    }

    fn plan_new(&mut self, resource: &Resource) -> Result<(), Error> {
        let (folder, name) = match output::parent(Path::new(&resource.name)) {
            Ok(found) => found,
            Err(error) => {
                self.set_absent(resource, &error);
                return Ok(());
            }
        };
        // Whether a file can be made there is for the tool to find out, in its own words.
        self.keeps_override |= needs_override(folder.as_fd(), true).unwrap_or(false);
        let at = self.absolute(&resource.name);
        let at = at.parent().unwrap_or(Path::new("/")).to_owned();
        let only = Some(NewFile { name, option: resource.option.clone() });
        self.folders.push(Folder { purpose: Purpose::Creation, pin: Arc::new(folder), view: None, at, only });
        Ok(())
    }

    /// Notes that there is nothing behind the name of `resource`, and why: the program gets that errno.
    pub(super) fn set_absent(&mut self, resource: &Resource, error: &io::Error) {
        self.absent.push((resource.name.as_bytes().to_vec(), Errno::from_io(error)));
    }

    /// A file that cannot be opened is for the emulator to complain of, in words and with a status that its callers know;
    /// or to do without. It gets the errno that it would get outside.
    ///
    /// # Errors
    /// `error`, if it is anything else, or if an option of the broker would mend it.
    pub(super) fn leave_to_emulator(&mut self, resource: &Resource, error: Error) -> Result<(), Error> {
        match error {
            Error::Open { source, image, .. } if open_hint(image, &source).is_empty() => {
                self.set_absent(resource, &source);
                Ok(())
            }
            error => Err(error),
        }
    }
}
