//! What must be true of a plan as a whole.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Error, Plan};
use crate::open::descriptor;
use crate::open::pin::{Pin, check_access};
use crate::serve::grants::{Grant, Role};

impl Plan {
    /// A folder of firmware is seen with all that is in it.
    pub(super) fn check_firmware_folders(&self) -> Result<(), Error> {
        let images = || self.grants.iter().filter(|grant| matches!(grant.role, Role::Image | Role::Backing));
        for folder in &self.firmware_folders {
            let real = folder.path.canonicalize().unwrap_or_else(|_| folder.path.clone());
            if let Some(image) = images().find(|grant| grant.pin.path().starts_with(&real)) {
                let (folder, image) = (folder.path.clone(), image.pin.path().to_owned());
                return Err(Error::FirmwareAmongImages { folder, image });
            }
        }
        Ok(())
    }

    /// Each path of the sandbox shows one file.
    pub(super) fn check_names(&self) -> Result<(), Error> {
        let mut seen: HashMap<PathBuf, &Grant> = HashMap::new();
        for grant in &self.grants {
            let at = self.absolute(OsStr::from_bytes(&grant.name));
            if let Some(other) = seen.insert(at, grant)
                && other.pin.identity() != grant.pin.identity()
            {
                if let Some(origin) = other.pin.origin().or(grant.pin.origin()) {
                    let name = self.absolute(OsStr::from_bytes(&grant.name));
                    return Err(descriptor::Error::Ambiguous { number: origin.number, name }.into());
                }
                let (first, second) = (other.pin.path().to_owned(), grant.pin.path().to_owned());
                return Err(Error::Ambiguous { first, second });
            }
        }
        let made = self.outputs.iter().map(|output| self.absolute(&output.name));
        for name in made {
            if let Some(origin) = seen.get(&name).and_then(|grant| grant.pin.origin()) {
                return Err(descriptor::Error::Ambiguous { number: origin.number, name }.into());
            }
        }
        Ok(())
    }
}

/// What a caller has opened may be out of this process's reach, and then it is said at once.
pub(super) fn check_descriptor(pin: &Pin, writes: bool) -> Result<(), descriptor::Error> {
    let Some(origin) = pin.origin() else { return Ok(()) };
    let wanted = if writes { "for writing" } else { "for reading" };
    check_access(pin.as_fd(), writes).map_err(|source| {
        let (number, path) = (origin.number, pin.path().to_owned());
        descriptor::Error::Anew { number, path, wanted, source }
    })
}
