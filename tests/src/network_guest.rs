//! The Linux guests that `tests/setup/guest.sh` makes for networks: two of them, one of which has data to give and the
//! other wants them. They have no disk, and what they are is on their kernel's command line.

use std::path::{Path, PathBuf};

use crate::emulator::Finished;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::workdir::Workdir;

/// The kernel's command line. What the guest says goes to the serial port and nothing else does. On a busy host an emulated
/// timer can be too late for the kernel's check of it, and several processors cannot do without that timer.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check";

/// What the client's proof starts with (`tests/setup/guest-network-init`).
const PROOF: &str = "NETWORK-PROOF: ";

/// Memory for the kernel, the initramfs and the 64 MiB that are moved, in MiB.
const MEMORY: &str = "192";

/// The two guests' addresses, from those that are for documentation (RFC 5737).
const SERVER: &str = "192.0.2.1";
const CLIENT: &str = "192.0.2.2";

/// A guest for networks whose files are copies in a test's own folder.
#[derive(Debug)]
pub struct NetworkGuest {
    kernel: PathBuf,
    initrd: PathBuf,
}

impl NetworkGuest {
    /// Copies it into a test's folder.
    ///
    /// # Errors
    /// When a file is missing or cannot be copied.
    pub fn copy_to(workdir: &Workdir) -> Result<Self> {
        let folder = Guest::folder();
        Ok(Self {
            kernel: workdir.copy(&folder.join("vmlinuz"), "vmlinuz")?,
            initrd: workdir.copy(&folder.join("network-initrd"), "network-initrd")?,
        })
    }

    /// Arguments of the emulator that boot the one who has the data, and all but its network card.
    #[must_use]
    pub fn server(&self) -> Vec<String> {
        self.arguments(&format!("net.role=server net.address={SERVER}/24"))
    }

    /// Arguments of the emulator that boot the one who wants the data, and all but its network card.
    #[must_use]
    pub fn client(&self) -> Vec<String> {
        self.arguments(&format!("net.role=client net.address={CLIENT}/24 net.peer={SERVER}"))
    }

    fn arguments(&self, role: &str) -> Vec<String> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        [
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-accel",
            "tcg",
            "-m",
            MEMORY,
            "-no-reboot",
            "-kernel",
            &path(&self.kernel),
            "-initrd",
            &path(&self.initrd),
            "-append",
            &format!("{KERNEL_ARGUMENTS} {role}"),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// What the client printed as its proof: `ping=3/3 bytes=N sha256=ok queues=N seconds=N`.
    ///
    /// # Errors
    /// When its console holds no proof.
    pub fn proof(finished: &Finished) -> Result<&str> {
        match finished.stdout.lines().find_map(|line| line.split_once(PROOF)) {
            Some((_, proof)) => Ok(proof.trim()),
            None => Err(Error::Unexpected(format!("the client gave no proof: {finished:?}"))),
        }
    }
}
