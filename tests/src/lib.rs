//! What the integration tests share: real images, a real guest, and the emulator started under the broker
//! (or, with `BROKER_TESTS_BARE=1`, without it: the same expectations must then hold for plain QEMU, which
//! is how a test is told apart from a wish).
//!
//! A test reads as: [`need!`] what the host must offer, a [`Workdir`] with images in it, a
//! [`BrokerCommand`] started, an [`Emulator`] spoken to through [`Qmp`], and at the end
//! [`Emulator::assert_nothing_left`].

mod binary;
mod boot_sector;
mod canary;
mod command;
pub mod control;
pub mod corpus;
mod emulator;
mod error;
pub mod fuse;
mod guest;
pub mod hostile;
mod huge_pages;
mod images;
mod libvirt;
mod need;
mod network;
mod network_guest;
pub mod parity;
mod process;
mod qmp;
mod random;
mod save;
mod wait;
mod workdir;

pub use binary::{broker_binary, helper_binary, setuid_bridge_helper};
pub use boot_sector::{ALIVE, WRITE_FAILED, WROTE, boot_disk};
pub use canary::Canary;
pub use command::{BrokerCommand, ORDINARY_USER, PLAIN_QEMU, is_bare};
pub use emulator::{Emulator, Finished};
pub use error::{During, Error, Result};
pub use guest::Guest;
pub use huge_pages::HugePages;
pub use images::{backing_file, qcow2_over, raw_boot_disk, run_tool, two_level_chain, writes_in};
pub use libvirt::Libvirt;
pub use need::{Need, USB_DEVICES, VIRTIOFSD, is_met, require, usb_stick};
pub use network::Network;
pub use network_guest::NetworkGuest;
pub use process::{Process, ThreadStatus, descendants_of, marked_with};
pub use qmp::Qmp;
pub use random::Random;
pub use save::save_to_descriptor;
pub use wait::{PATIENCE, until};
pub use workdir::Workdir;

/// Returns from the test, saying why, unless the host meets every [`Need`] named; panics instead when
/// `BROKER_TESTS_REQUIRE` says that the host has to.
#[macro_export]
macro_rules! need {
    ($($need:ident),+ $(,)?) => {
        if !$crate::require(&[$($crate::Need::$need),+]) {
            return Ok(());
        }
    };
}
