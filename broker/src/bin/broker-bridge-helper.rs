//! `broker bridge-helper` as a program of its own: the one that may be installed setuid root or with a file capability,
//! which `broker` itself must never be.

use std::process::ExitCode;

fn main() -> ExitCode {
    broker::bridge_helper::run(1)
}
