//! Folders that are shared with a guest: what the guest does in them by 9p, with each way to keep owners and modes, and
//! what it cannot do.

mod device;
mod guest;
mod models;
mod refused;
