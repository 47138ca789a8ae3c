//! Terminals: those that QEMU makes, those that it is given by name, the one that it was started on; and the pipes and
//! logs beside them.

mod caller;
mod curses;
mod fifos;
mod logs;
mod ports;
mod ptys;
mod scene;
