//! What one side has said, and what it has left on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::error::{During, Error, Result};
use crate::images::run_tool;
use crate::parity::normal::Normal;
use crate::parity::place::Place;
use crate::parity::session::Said;
use crate::parity::variant::{Guest, Variant};

/// How a qcow2 image begins (docs/interop/qcow2.txt of QEMU).
const QCOW2: &[u8] = b"QFI\xfb";

/// The sector that the guest writes, in bytes.
const GUESTS_SECTOR: std::ops::Range<usize> = 512..1024;

/// All that is compared of one side.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) said: Said,
    /// By the path beneath the folder of this side.
    pub(crate) files: BTreeMap<String, Left>,
}

/// A file that is there at the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Type, permissions and owner; of an image also what `qemu-img info` and `qemu-img check` say.
    pub(crate) about: String,
    /// Its bytes; of an image those of the disk that it stands for. Without the sector that a running guest writes.
    pub(crate) bytes: Vec<u8>,
}

impl Outcome {
    /// Looks at all files beneath the folder of this side.
    pub(crate) fn look(said: Said, place: &Place, variant: &Variant) -> Result<Self> {
        let mut files = BTreeMap::new();
        let look = Look { place, variant, normal: Normal::new(place, variant) };
        look.look_beneath(&place.workdir.files(), &mut files)?;
        Ok(Self { said, files })
    }
}

/// What looking at files takes.
struct Look<'a> {
    place: &'a Place,
    variant: &'a Variant,
    normal: Normal,
}

impl Look<'_> {
    /// All that lies in a folder, and in the folders in it.
    fn look_beneath(&self, folder: &Path, files: &mut BTreeMap<String, Left>) -> Result<()> {
        let during = || format!("list {}", folder.display());
        for entry in fs::read_dir(folder).during(during())? {
            let path = entry.during(during())?.path();
            if path.is_dir() {
                self.look_beneath(&path, files)?;
            } else {
                files.insert(self.normal.text(&path.to_string_lossy()), self.look_at(&path)?);
            }
        }
        Ok(())
    }

    /// One file.
    fn look_at(&self, path: &Path) -> Result<Left> {
        let during = || format!("look at {}", path.display());
        let metadata = path.symlink_metadata().during(during())?;
        let about = format!("mode {:o}, owner {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
        let bytes = fs::read(path).during(during())?;
        let (about, mut bytes) = match bytes.starts_with(QCOW2) {
            true => (format!("{about}, {}", self.about_image(path)?), self.disk_of(path)?),
            false => (about, bytes),
        };
        if self.variant.guest == Guest::Writing {
            bytes.get_mut(GUESTS_SECTOR).into_iter().for_each(|sector| sector.fill(0));
        }
        Ok(Left { about, bytes })
    }

    /// The disk that an image stands for, by way of its whole chain.
    fn disk_of(&self, image: &Path) -> Result<Vec<u8>> {
        let raw = self.place.workdir.aside().join("converted");
        let names = [image, &raw].map(|path| path.to_string_lossy().into_owned());
        let [image, raw] = &names;
        run_tool(&self.place.images(), "qemu-img", &["convert", "-f", "qcow2", "-O", "raw", image, raw])?;
        fs::read(raw).during(format!("read {raw}"))
    }

    /// What an image says of itself, and whether it is in order.
    fn about_image(&self, image: &Path) -> Result<String> {
        let image = image.to_string_lossy();
        let info = run_tool(&self.place.images(), "qemu-img", &["info", "--output=json", &image])?;
        let mut check = Command::new("qemu-img");
        check.args(["check", "--output=json", &image]).current_dir(self.place.images());
        let checked = check.output().during("start qemu-img")?;
        let parse = |text: &[u8]| -> Result<Value> {
            let value = serde_json::from_slice(text);
            value.map_err(|error| Error::Unexpected(format!("qemu-img said no JSON of {image}: {error}")))
        };
        let (info, result) = (parse(info.as_bytes())?, parse(&checked.stdout)?);
        Ok(format!("{}, {}, {}", self.normal.value(info), checked.status, self.normal.value(result)))
    }
}
