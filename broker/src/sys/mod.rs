//! The only `unsafe` of the project: system calls that neither nix nor rustix wraps, one per block.
//!
//! Everything here is a thin, typed call. No module of this folder decides anything.

pub mod in_flight;
pub mod landlock;
pub mod mode;
pub mod mount;
pub mod net;
pub mod process;
pub mod ring;
pub mod seccomp;
pub mod shared;
pub mod tun;
