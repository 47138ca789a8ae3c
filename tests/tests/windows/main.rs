//! Windows that the operator allows: they look as plain QEMU's do, on the display server that the environment names, and
//! nothing else of the desktop is within reach.

mod refused;
mod server;
mod shown;
mod wayland;
