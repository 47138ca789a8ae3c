//! Where the files of one side lie, and how QEMU is told of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{During, Result};
use crate::parity::variant::{Names, Variant};
use crate::workdir::Workdir;

/// Names without a folder lie in the folder of the images; these in that of the media.
const MEDIA: &str = "media/";

/// The folders of one side, and the kind of names that QEMU gets.
#[derive(Debug)]
pub(crate) struct Place {
    /// The folder that QEMU is started in is its part for files.
    pub(crate) workdir: Workdir,
    /// The files that are reached by way of a block device, by their names, with the device's path.
    pub(crate) devices: BTreeMap<&'static str, PathBuf>,
    folder: &'static str,
    names: Names,
    second_medium: &'static str,
}

impl Place {
    /// Empty folders for images and media.
    pub(crate) fn new(variant: &Variant) -> Result<Self> {
        let place = Self {
            workdir: Workdir::new()?,
            devices: BTreeMap::new(),
            folder: variant.folder,
            names: variant.names,
            second_medium: variant.second_medium(),
        };
        for folder in [place.images(), place.media()] {
            fs::create_dir_all(&folder).during(format!("mkdir {}", folder.display()))?;
        }
        Ok(place)
    }

    /// The folder of the images.
    pub(crate) fn images(&self) -> PathBuf {
        self.workdir.path(self.folder)
    }

    /// The folder of the media.
    pub(crate) fn media(&self) -> PathBuf {
        self.workdir.path(MEDIA)
    }

    /// Where a file is: behind a block device, in the folder of the media if its name begins so, or beside the images.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match self.devices.get(name) {
            Some(device) => device.clone(),
            None if name.starts_with(MEDIA) => self.workdir.path(name),
            None => self.images().join(name),
        }
    }

    /// How QEMU and the broker are told of a path.
    fn told(&self, path: &Path) -> String {
        let files = self.workdir.files();
        let told = match (self.names, path.strip_prefix(&files)) {
            (Names::Relative, Ok(relative)) if relative == Path::new("") => Path::new("."),
            (Names::Relative, Ok(relative)) => relative,
            _ => path,
        };
        told.to_string_lossy().into_owned()
    }

    /// How QEMU is told of a file.
    pub(crate) fn name(&self, name: &str) -> String {
        self.told(&self.path(name))
    }

    /// A word for QEMU, in which `{NAME}` becomes the name of that file as a value of an option, whose commas are
    /// doubled.
    pub(crate) fn word(&self, pattern: &str) -> String {
        match pattern.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
            Some((before, (name, after))) => {
                format!("{before}{}{}", self.name(name).replace(',', ",,"), self.word(after))
            }
            None => pattern.to_owned(),
        }
    }

    /// The broker's options of an operation, in which the folders and files of this side take the place of the
    /// words that stand for them.
    pub(crate) fn options(&self, pattern: &str) -> Vec<String> {
        let word = |word: &str| match word {
            "create=DIR" => format!("create={}", self.told(&self.images())),
            "commit=PATH" => format!("commit={}", self.name("base.raw")),
            "DIR" => self.told(&self.media()),
            "PATH" => self.name(self.second_medium),
            other => other.to_owned(),
        };
        pattern.split_whitespace().map(word).collect()
    }
}
