//! The stick, and what lies beside it on the host's buses.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tests::{During, PATIENCE, Result, USB_DEVICES, boot_disk, until, usb_stick};

/// One test at a time has the stick; whether it has been written.
static TURN: Mutex<bool> = Mutex::new(false);

/// The stick, with a disk on it that boots. No other test has it until this is dropped.
pub struct Stick {
    /// Its name in sysfs: `1-2.1`.
    pub name: String,
    /// The numbers of its bus and of itself there.
    pub bus: u32,
    pub address: u32,
    _turn: MutexGuard<'static, bool>,
}

impl Stick {
    /// Waits for this test's turn.
    pub fn take() -> Result<Self> {
        let mut turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = until(PATIENCE, "the stick", || Ok(usb_stick()))?;
        if !*turn {
            let disk = until(PATIENCE, "the stick's disk", || Ok(disk_of(&name)))?;
            fs::write(&disk, boot_disk()).during(format!("write {}", disk.display()))?;
            *turn = true;
        }
        let number = |of: &str| -> Result<u32> {
            let path = Path::new(USB_DEVICES).join(&name).join(of);
            let text = fs::read_to_string(&path).during(format!("read {}", path.display()))?;
            text.trim().parse().map_err(std::io::Error::other).during(format!("read a number from {}", path.display()))
        };
        Ok(Self { bus: number("busnum")?, address: number("devnum")?, name, _turn: turn })
    }

    /// Its node.
    pub fn node(&self) -> PathBuf {
        format!("/dev/bus/usb/{:03}/{:03}", self.bus, self.address).into()
    }

    /// The ports that lead to it.
    pub fn port(&self) -> &str {
        self.name.split_once('-').map_or("", |(_, port)| port)
    }

    /// Gives its node to a user.
    pub fn give_to(&self, user: u32) -> Result<()> {
        chown(self.node(), Some(user), None).during("give the node away")
    }

    /// The properties of `usb-host` that name it, in each of the ways that there are.
    pub fn spellings(&self) -> [String; 5] {
        let (bus, address, port) = (self.bus, self.address, self.port());
        [
            format!("hostdevice={}", self.node().display()),
            format!("hostbus={bus},hostaddr={address}"),
            format!("hostbus={bus},hostport={port}"),
            "vendorid=0x46f4,productid=0x0001".into(),
            format!("hostbus={bus},vendorid=0x46f4,hostport={port}"),
        ]
    }
}

/// The disk that the kernel makes of the device of this name while nobody has taken it.
fn disk_of(name: &str) -> Option<PathBuf> {
    let devices = fs::read_dir("/sys/block").ok()?.flatten();
    let of_it =
        |path: &Path| path.canonicalize().is_ok_and(|real| real.components().any(|part| part.as_os_str() == name));
    let disk = devices.map(|entry| entry.path()).find(|path| of_it(path))?;
    Some(Path::new("/dev").join(disk.file_name()?))
}
