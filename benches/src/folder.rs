//! A folder with images and the probe, removed at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result, printed, succeeded};

/// The folder that everything is measured in.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes `top.qcow2` over `base.qcow2`, `image.raw`, and the probe.
    pub(crate) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("broker-bench-{}", std::process::id()));
        let folder = Self { path };
        fs::create_dir(&folder.path)
            .map_err(|source| Error::Start { program: folder.path.display().to_string(), source })?;
        let images: [&[&str]; 3] = [
            &["-f", "qcow2", "base.qcow2", "64M"],
            &["-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"],
            &["-f", "raw", "image.raw", "1M"],
        ];
        images.iter().try_for_each(|image| folder.make_image(image))?;
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/probe/probe.c");
        succeeded(
            "cc",
            folder.command("cc").args(["-O2", "-pthread", "-Wall", "-Wextra", "-o", "probe", source]).status(),
        )?;
        Ok(folder)
    }

    fn make_image(&self, words: &[&str]) -> Result<()> {
        let mut tool = self.command("qemu-img");
        succeeded("qemu-img", tool.args(["create", "-q"]).args(words).status())
    }

    /// Makes a chain of `depth` qcow2 images for `owner`; the name of its top.
    pub(crate) fn make_chain(&self, owner: &str, depth: usize) -> Result<String> {
        let name = |level: usize| format!("{owner}-{depth}-{level}.qcow2");
        self.make_image(&["-f", "qcow2", &name(1), "1M"])?;
        for level in 2..=depth {
            // -u: not to open all that is below each time.
            self.make_image(&["-u", "-f", "qcow2", "-b", &name(level - 1), "-F", "qcow2", &name(level), "1M"])?;
        }
        Ok(name(depth))
    }

    /// The kind of file system that it is on.
    pub(crate) fn file_system(&self) -> String {
        let found = self.command("findmnt").args(["--noheadings", "--output", "FSTYPE", "--target", "."]).output();
        printed("findmnt", found).map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
    }

    /// A command that runs in the folder.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.path);
        command
    }

    /// The probe.
    pub(crate) fn probe(&self) -> PathBuf {
        self.path.join("probe")
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A temporary folder that stays harms nobody.
        let _ = fs::remove_dir_all(&self.path);
    }
}
