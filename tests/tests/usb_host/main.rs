//! A device of the host's USB buses, taken by a guest: a stick behind a hub (`tests/vm/devices`), from which the guest
//! starts. Nothing else of the host's buses is there for the emulator.

mod hostile;
mod stick;
mod taken;
