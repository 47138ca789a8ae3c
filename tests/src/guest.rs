//! The Linux guest that `tests/setup/guest.sh` makes: Debian's kernel, busybox, and a root file system at
//! the bottom of a two-level chain.

use std::path::{Path, PathBuf};

use crate::emulator::Finished;
use crate::error::{Error, Result};
use crate::workdir::Workdir;

/// The kernel's command line. What the guest says goes to the serial port and nothing else does.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 mitigations=off";

/// What the guest's proof starts with; `tests/setup/guest.sh` writes the program that prints it.
const PROOF: &str = "GUEST-PROOF: ";

/// A guest whose files are copies in a test's own folder.
#[derive(Debug)]
pub struct Guest {
    /// The top of its chain, `top.qcow2`, which it writes.
    pub top: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Guest {
    /// Where `tests/setup/guest.sh` puts its files: `BROKER_TESTS_GUEST`, or `target/guest` of the
    /// repository.
    #[must_use]
    pub fn folder() -> PathBuf {
        match std::env::var_os("BROKER_TESTS_GUEST") {
            Some(folder) => folder.into(),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guest"),
        }
    }

    /// Whether the guest has been made.
    #[must_use]
    pub fn is_there() -> bool {
        Self::folder().join("complete").exists()
    }

    /// Copies the guest, its chain never booted, into a test's folder.
    ///
    /// # Errors
    /// When a file is missing or cannot be copied.
    pub fn copy_to(workdir: &Workdir) -> Result<Self> {
        let folder = Self::folder();
        for name in ["base.qcow2", "mid.qcow2"] {
            workdir.copy(&folder.join(name), name)?;
        }
        Ok(Self {
            top: workdir.copy(&folder.join("top.qcow2"), "top.qcow2")?,
            kernel: workdir.copy(&folder.join("vmlinuz"), "vmlinuz")?,
            initrd: workdir.copy(&folder.join("initrd"), "initrd")?,
        })
    }

    /// Arguments of the emulator that boot the guest with its disk on `top.qcow2`, named as `disk`.
    #[must_use]
    pub fn arguments(&self, disk: &str) -> Vec<String> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        [
            "-m",
            "256",
            "-nographic",
            "-nic",
            "none",
            "-no-reboot",
            "-drive",
            &format!("file={disk},if=virtio,format=qcow2"),
            "-kernel",
            &path(&self.kernel),
            "-initrd",
            &path(&self.initrd),
            "-append",
            KERNEL_ARGUMENTS,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// What the guest printed as its proof: `boots=N base=...`.
    ///
    /// # Errors
    /// When its console holds no proof.
    pub fn proof(finished: &Finished) -> Result<&str> {
        match finished.stdout.lines().find_map(|line| line.split_once(PROOF)) {
            Some((_, proof)) => Ok(proof.trim()),
            None => Err(Error::Unexpected(format!("the guest gave no proof: {finished:?}"))),
        }
    }
}
