//! What the helper is asked for: the words of `qemu-bridge-helper`, and three of ours.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::open::net::name::{InterfaceName, Invalid};

/// Descriptors that one message can carry (`SCM_MAX_FD`, `include/net/scm.h` in the kernel). A tap can have 256.
pub const DESCRIPTORS_LIMIT: u16 = 253;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `--br=`: a name of the bridge.
    pub bridge: InterfaceName,
    /// `--fd=`: the socket on which descriptors are handed over.
    pub socket: RawFd,
    /// `--use-vnet`: `IFF_VNET_HDR`, where the kernel has it.
    pub vnet_hdr: bool,
    /// `--queues=`: how many descriptors of the tap.
    pub queues: u16,
    /// `--vhost`: behind these as many of `/dev/vhost-net`.
    pub vhost: bool,
    /// `--bridge-acl=`: the access list, if not the host's.
    pub list: Option<PathBuf>,
}

impl Arguments {
    /// Reads the words behind the program's name. Of an option that stands there twice the last one counts, as for
    /// QEMU's helper.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let (mut bridge, mut socket, mut list) = (None, None, None);
        let (mut vnet_hdr, mut queues, mut vhost) = (false, 1, false);
        for word in words {
            let word = word.into_string().map_err(|_| Error::Usage)?;
            match word.split_once('=') {
                None if word == "--use-vnet" => vnet_hdr = true,
                None if word == "--vhost" => vhost = true,
                Some(("--br", name)) => bridge = Some(InterfaceName::new(name).map_err(Error::Bridge)?),
                Some(("--fd", number)) => socket = Some(read_number(number).ok_or(Error::Socket)?),
                Some(("--queues", number)) => queues = read_number(number).ok_or(Error::Queues)?,
                Some(("--bridge-acl", path)) => list = Some(PathBuf::from(path)),
                _ => return Err(Error::Usage),
            }
        }
        let (Some(bridge), Some(socket)) = (bridge, socket) else {
            return Err(Error::Usage);
        };
        let most = if vhost { DESCRIPTORS_LIMIT / 2 } else { DESCRIPTORS_LIMIT };
        if !(1..=most).contains(&queues) {
            return Err(Error::Queues);
        }
        Ok(Self { bridge, socket, vnet_hdr, queues, vhost, list })
    }
}

/// Digits alone: no sign, no blank, nothing behind them.
fn read_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// Why the words are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Also for `-help`, as QEMU's helper.
    #[error(
        "usage: broker-bridge-helper [--use-vnet] [--queues=N] [--vhost] [--bridge-acl=FILE] --br=BRIDGE --fd=SOCKET"
    )]
    Usage,
    /// No interface can have the name.
    #[error("--br=: {0}")]
    Bridge(Invalid),
    /// Not a number.
    #[error("--fd= takes the number of an open UNIX socket")]
    Socket,
    /// Not a number, none, or too many.
    #[error("--queues= takes a number from 1 to {DESCRIPTORS_LIMIT}, with --vhost to {}", DESCRIPTORS_LIMIT / 2)]
    Queues,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, Error> {
        Arguments::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn takes_what_qemu_and_libvirt_say() {
        let bridge = InterfaceName::new("br0").unwrap();
        let plain = Arguments { bridge, socket: 7, vnet_hdr: true, queues: 1, vhost: false, list: None };
        assert_eq!(read("--use-vnet --fd=7 --br=br0"), Ok(plain.clone()));
        assert_eq!(read("--use-vnet --br=br1 --br=br0 --fd=8 --fd=7"), Ok(plain.clone()));
        let more = Arguments { vnet_hdr: false, queues: 126, vhost: true, list: Some("/l".into()), ..plain };
        assert_eq!(read("--br=br0 --fd=7 --queues=126 --vhost --bridge-acl=/l"), Ok(more));
        assert_eq!(read("--br=br0 --fd=7 --queues=253").unwrap().queues, 253);
    }

    #[test]
    fn refuses_everything_else() {
        for line in [
            "",
            "-help",
            "--help",
            "--br=br0",
            "--fd=7",
            "--br br0 --fd 7",
            "--use-vnet=on --br=b --fd=7",
            "--br=b --fd=7 x",
        ] {
            assert_eq!(read(line), Err(Error::Usage), "{line}");
        }
        for number in ["", "-1", "+7", "7x", "2147483648", "0x7"] {
            assert_eq!(read(&format!("--br=b --fd={number}")), Err(Error::Socket), "{number}");
        }
        for line in ["--queues=0", "--queues=254", "--queues=127 --vhost", "--queues=", "--queues=65537"] {
            assert_eq!(read(&format!("--br=b --fd=7 {line}")), Err(Error::Queues), "{line}");
        }
        for name in ["", "br0/x", "a-name-of-16-bytes", "../br0"] {
            assert!(matches!(read(&format!("--fd=7 --br={name}")), Err(Error::Bridge(_))), "{name}");
        }
    }
}
