//! The way in which an interface will be opened: found with nothing changed, then gone.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::bridge::{self, Bridge};
use super::helper::{self, Helper};
use super::name::{self, InterfaceName};
use super::tap::{self, Found};
use super::{Interface, Wanted};
use crate::bridge_acl::{self, AccessList, Caller};

/// How long a tap may be in use. With QEMU alone the script for the end has run when QEMU's process ends, and whoever
/// starts the next guest on that tap at once finds it free; here it is free a script's time later.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is tried.
const INTERVAL: Duration = Duration::from_millis(20);

/// How the queues of an interface are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A tap is made; the name may be a pattern.
    Make(InterfaceName),
    /// A tap that is there.
    Tap(InterfaceName),
    /// A macvtap that is there.
    Macvtap {
        /// Its name.
        name: InterfaceName,
        /// Its MAC address, the only one for which it passes frames.
        address: [u8; 6],
    },
    /// A tap is made and added to a bridge, which an access list allows.
    Join {
        /// The bridge.
        bridge: Bridge,
        /// The list.
        list: PathBuf,
    },
    /// The same by a helper, which decides for itself.
    Help {
        /// The bridge, as it was named.
        bridge: InterfaceName,
        /// The index of the bridge that the operator's list allows, which must be the one that the tap is on.
        allowed: Option<u32>,
        /// The helper.
        helper: Helper,
    },
}

impl Way {
    /// To the tap or macvtap `interface`, or to a new tap. Whether it may be opened shows when it is: to try would be to
    /// take it.
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Interface`]: it cannot have so many `queues`, or may not be made.
    pub fn to_tap(interface: Option<&str>, queues: u16) -> Result<Self, Error> {
        let name = interface.map_or(Ok(InterfaceName::tap_pattern()), InterfaceName::new)?;
        let several = queues > 1;
        match tap::look_up(&name)? {
            Found::Nothing if !bridge::may_join() => {
                Err(super::Error::MayNotMake { name, multi_queue: several }.into())
            }
            Found::Nothing => Ok(Self::Make(name)),
            Found::Tap { multi_queue: false } if several => Err(super::Error::SingleQueue { name, queues }.into()),
            Found::Tap { .. } => Ok(Self::Tap(name)),
            Found::Macvtap { address } => Ok(Self::Macvtap { name, address }),
        }
    }

    /// Onto a bridge. A helper that the caller names is always taken, as by QEMU; a list that the operator names counts
    /// whoever makes the tap.
    ///
    /// # Errors
    /// [`Error`]: there is no such bridge, no right to it, or no helper.
    pub fn to_bridge(bridge: &str, helper: Option<&OsStr>, list: Option<&Path>) -> Result<Self, Error> {
        let name = InterfaceName::new(bridge)?;
        let joins = helper.is_none() && bridge::may_join();
        let mut allowed = None;
        if joins || list.is_some() {
            let bridge = bridge::look_up(&name)?;
            let list = list.unwrap_or(Path::new(bridge_acl::DEFAULT));
            AccessList::read(list)?.check(&bridge.names, &Caller::of_this_process().map_err(Error::Caller)?)?;
            if joins {
                return Ok(Self::Join { bridge, list: list.to_owned() });
            }
            allowed = Some(bridge.index);
        }
        let helper = match helper {
            Some(given) => Helper::Given(given.to_owned()),
            None => Helper::find()?,
        };
        Ok(Self::Help { bridge: name, allowed, helper })
    }

    /// Opens the queues.
    ///
    /// # Errors
    /// [`Error::Interface`], [`Error::Helper`].
    pub fn open(&self, wanted: Wanted) -> Result<Interface, Error> {
        Ok(match self {
            Self::Make(name) | Self::Tap(name) | Self::Macvtap { name, .. } => open_tap(name, wanted)?,
            Self::Join { bridge, .. } => bridge::join(bridge, wanted)?,
            Self::Help { bridge, allowed, helper } => {
                let interface = helper.run(bridge, wanted.queues)?;
                if let Some(index) = allowed {
                    bridge::check_port(&interface.name, *index, bridge)?;
                }
                interface
            }
        })
    }
}

/// Opens a tap, and waits a while for one that is in use.
fn open_tap(name: &InterfaceName, wanted: Wanted) -> Result<Interface, super::Error> {
    let end = Instant::now() + PATIENCE;
    let mut waits = false;
    loop {
        match tap::open(name, wanted) {
            Err(super::Error::Busy { .. }) if Instant::now() < end => {
                if !std::mem::replace(&mut waits, true) {
                    eprintln!("broker: waiting up to {} s for {name}, which is in use", PATIENCE.as_secs());
                }
                std::thread::sleep(INTERVAL);
            }
            other => return other,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(name) => write!(formatter, "tap {name}, to be made"),
            Self::Tap(name) => write!(formatter, "tap {name}, there already"),
            Self::Macvtap { name, .. } => write!(formatter, "macvtap {name}, there already"),
            Self::Join { bridge, list } => {
                let name = bridge.names.first().map_or("", String::as_str);
                write!(formatter, "new tap on bridge {name}, allowed by {}", list.display())
            }
            Self::Help { bridge, helper, .. } => write!(formatter, "new tap on bridge {bridge}, by helper {helper}"),
        }
    }
}

/// Why there is no way, or where it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No name.
    #[error(transparent)]
    Name(#[from] name::Invalid),
    /// The interface.
    #[error(transparent)]
    Interface(#[from] super::Error),
    /// The access list.
    #[error(transparent)]
    AccessList(#[from] bridge_acl::Error),
    /// `getgroups(2)`.
    #[error("cannot find out who asks for a bridge: {0}")]
    Caller(io::Error),
    /// The bridge helper.
    #[error(transparent)]
    Helper(#[from] helper::Error),
}
