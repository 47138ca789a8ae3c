//! Networks whose frames are datagrams of UDP or of UNIX sockets: carried by a relay, so that the emulator has no socket
//! that sends anywhere else.
//!
//! With `BROKER_TESTS_BARE=1` plain QEMU carries them itself, and must give the same.

mod devices;
mod frames;
mod hostile;
mod life;
mod refused;
mod scene;
