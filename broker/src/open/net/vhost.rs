//! `/dev/vhost-net`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};

use super::Error;

/// Where vhost-net is (admin-guide/devices.txt: character device 10:238).
const DEVICE: &str = "/dev/vhost-net";

/// Opens `/dev/vhost-net` once for each of `count` queues.
///
/// # Errors
/// [`Error::NoVhost`]: it is missing (no module); [`Error::Vhost`]: it may not be opened.
pub fn open(count: u16) -> Result<Vec<OwnedFd>, Error> {
    (0..count).map(|_| open_one().map_err(explain)).collect()
}

/// As QEMU opens it, which sets `O_NONBLOCK` afterwards (net_init_tap_one in net/tap.c).
fn open_one() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::openat(CWD, DEVICE, flags, Mode::empty())?)
}

fn explain(source: io::Error) -> Error {
    match source.raw_os_error() {
        // Without the module there is no node, or one that udev made from the module's alias.
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Error::NoVhost { source },
        Some(libc::EMFILE | libc::ENFILE) => Error::Descriptors { device: DEVICE.to_owned(), source },
        Some(libc::EACCES) => Error::Vhost { source, remedy: who_may() },
        _ => Error::Vhost { source, remedy: "let the device be used here (a container's device rules?)".to_owned() },
    }
}

/// How to be among those who may open it.
fn who_may() -> String {
    match rustix::fs::stat(DEVICE) {
        Ok(status) if status.st_mode & 0o060 == 0o060 && status.st_gid != 0 => {
            format!("put user {} into group {}", rustix::process::geteuid().as_raw(), status.st_gid)
        }
        _ => format!("as root: chgrp kvm {DEVICE} && chmod 0660 {DEVICE}, and be in that group"),
    }
}
