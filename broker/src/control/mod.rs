//! `broker ctl`: the operator's way to a guest that runs.
//!
//! - [`message`]: what is said over the control socket;
//! - [`place`]: where that socket is;
//! - [`holder`]: the process that holds what is granted later;
//! - [`client`]: the program `broker ctl`;
//! - [`granted`]: what it hands over;
//! - [`tap`]: the network interface that it hands over, on a monitor ([`qmp`]).

pub mod client;
pub mod granted;
pub mod holder;
pub mod message;
pub mod place;
pub mod qmp;
pub mod tap;
