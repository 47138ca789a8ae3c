//! `broker ctl`: what an operator grants to a running guest works, and nothing else does; nobody but the operator may ask;
//! and a guest's end leaves nothing behind.

mod attacks;
mod grants;
mod guest;
mod socket;
mod user;
