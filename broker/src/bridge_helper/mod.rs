//! `broker bridge-helper`, which takes the place of `qemu-bridge-helper`: it makes a tap, adds it to a bridge if the
//! access list allows that to its caller, and hands it over on a socket that it was given.
//!
//! Its file may give it rights that its caller lacks. Then the caller is the adversary: arguments, environment,
//! descriptors, limits and signals are the caller's choice, so all rights but one are laid down before any of them is
//! looked at.

pub mod arguments;
mod life;
mod privileges;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

pub use life::Error;

use crate::another_name;
use crate::readable::readable;

/// The word that makes `broker` the helper.
const COMMAND: &str = "bridge-helper";

/// Before all messages. QEMU and libvirt show them as they are.
const PREFIX: &str = "broker-bridge-helper";

/// What `broker` says with rights of its own.
const PRIVILEGED: &str = "broker must not be setuid, setgid or have file capabilities; take them off its file (chmod \
                          ug-s, setcap -r), and give them to broker-bridge-helper";

/// The helper's life. Its arguments are behind the first `skipped` words of the command line.
#[must_use]
pub fn run(skipped: usize) -> ExitCode {
    let words = || std::env::args_os().skip(skipped);
    match privileges::lay_down().map_err(Error::from).and_then(|rights| life::live(rights, words())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(PREFIX, &error);
            ExitCode::FAILURE
        }
    }
}

/// The first step of `broker`: the whole life of a helper, or the refusal to do anything with rights that its own file
/// gave it; else nothing.
#[must_use]
pub fn come_first() -> Option<ExitCode> {
    let laid_down = match privileges::are_gained() {
        Ok(false) => None,
        Ok(true) => Some(privileges::lay_down().map(|_| ())),
        Err(error) => Some(Err(error)),
    };
    if let Some(Err(error)) = laid_down {
        tell("broker", &error);
        return Some(ExitCode::from(125));
    }
    // Under the name of one of QEMU's programs the word is an argument of that.
    let is_named = std::env::args_os().next().is_some_and(|name| another_name::of(&name).is_some());
    if !is_named && std::env::args_os().nth(1) == Some(OsString::from(COMMAND)) {
        return Some(run(2));
    }
    laid_down.map(|_| {
        tell("broker", &PRIVILEGED);
        ExitCode::from(125)
    })
}

/// Says it in one line. The caller may have closed standard error, or its other end.
fn tell(who: &str, what: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "{who}: {}", readable(what.to_string().as_bytes()));
}
