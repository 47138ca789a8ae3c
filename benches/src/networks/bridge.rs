//! A bridge, a tap that waits on it, and the access list that lets everybody on it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, printed};

/// Its name.
pub(super) const NAME: &str = "br0";

/// A tap that is there before any emulator, and stays.
pub(super) const TAP: &str = "tap7";

/// Where the stock helper reads its access list (bridge.conf of QEMU, as Debian builds it).
pub(super) const STOCK_FOLDER: &str = "/etc/qemu";

/// How long a carrier may take to come or to go: the kernel looks at links once a second where nothing is urgent
/// (`net/core/link_watch.c`).
const LIMIT: Duration = Duration::from_secs(10);

/// The pause between two looks at the carrier.
const PAUSE: Duration = Duration::from_micros(200);

/// A bridge without any port that has a carrier.
pub(super) struct Bridge {
    carrier: File,
}

/// The access list that the broker is given.
pub(super) fn access_list(folder: &Path) -> PathBuf {
    folder.join("bridge.conf")
}

impl Bridge {
    /// Makes it in this network namespace, and the stock helper's access list in this mount namespace.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        for line in [
            format!("link add {NAME} type bridge"),
            format!("link set {NAME} up"),
            format!("tuntap add dev {TAP} mode tap vnet_hdr"),
            format!("link set {TAP} master {NAME} up"),
        ] {
            run("ip", &line.split(' ').collect::<Vec<_>>())?;
        }
        let list = format!("allow {NAME}\n");
        write(&access_list(folder), &list)?;
        run("mount", &["-t", "tmpfs", "tmpfs", STOCK_FOLDER])?;
        write(&Path::new(STOCK_FOLDER).join("bridge.conf"), &list)?;
        // What /sys shows is the network namespace of whoever mounted it. The file is kept, the mount is not.
        let system = folder.join("sys");
        fs::create_dir(&system).map_err(about(&system.display().to_string()))?;
        let text = system.display().to_string();
        run("mount", &["-t", "sysfs", "sysfs", &text])?;
        let path = system.join(format!("class/net/{NAME}/carrier"));
        let carrier = File::open(&path).map_err(about(&path.display().to_string()))?;
        run("umount", &["--lazy", &text])?;
        Ok(Self { carrier })
    }

    /// Waits until the bridge has a port with a carrier, or (`false`) none.
    pub(super) fn wait(&self, wanted: bool) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let mut byte = [0];
            self.carrier.read_at(&mut byte, 0).map_err(about("carrier"))?;
            if (byte == *b"1") == wanted {
                return Ok(());
            }
            if Instant::now() > end {
                let text = format!("carrier {} for {} s", String::from_utf8_lossy(&byte), LIMIT.as_secs());
                return Err(Error::Figures { program: NAME.into(), text });
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    printed(program, Command::new(program).args(words).output()).map(drop)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(about(&path.display().to_string()))
}

fn about(what: &str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Start { program: what.to_owned(), source }
}
