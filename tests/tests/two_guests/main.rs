//! Two real guests on one network ping each other and move 64 MiB over TCP, their cards connected in every way that
//! there is. Afterwards the network is as it was.
//!
//! With `BROKER_TESTS_BARE=1` plain QEMU opens what it can open itself, and must give the same.

mod bridges;
mod conversation;
mod datagrams;
mod helpers;
mod macvtaps;
mod taps;
