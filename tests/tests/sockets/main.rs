//! Sockets that the command line names: they are made in the operator's network, as plain QEMU makes them, and no others.

mod bound;
mod connected;
mod names;
mod refused;
mod scene;
