//! Everything that is opened before the emulator exists.

pub mod access;
pub mod chain;
pub mod descriptor;
pub mod inherited;
pub mod net;
pub mod output;
pub mod pin;
pub mod private;
pub mod render_node;
pub mod terminal;
