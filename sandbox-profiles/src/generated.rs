//! The profile files as constants; written by the build script (`build/emit.rs`).

// The libc crate gives its constants different integer types, of which some are u64 already.
#![allow(clippy::unnecessary_cast)]

use crate::model::{Action, Comparison, Condition, Feature, Operand, ProfileData, Rule, Width};
use crate::mounts::{
    Absent, Base, Device, Grant, Handled, LandlockRight, Mount, MountKind, Place, PrivateFolder, Sought, SoughtIn,
};

include!(concat!(env!("OUT_DIR"), "/profiles.rs"));
