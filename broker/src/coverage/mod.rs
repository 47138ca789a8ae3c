//! `broker plan --coverage`: of all that an installed emulator has, what `broker` serves, what it refuses and why, and what
//! it does not know.
//!
//! The emulator says itself what it has, asked under the broker. How `broker` stands to a name is found by reading a
//! command line that uses it: what is printed cannot differ from what a start would do.

mod lists;
mod samples;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use serde::Serialize;

use crate::emulator::{self, Standing};
use lists::Kind;

/// The emulator that is asked where none is named.
const EMULATOR: &str = "qemu-system-x86_64";

/// One name, and how it stands.
#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    name: String,
    standing: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<String>,
}

/// All that is printed.
#[derive(Debug, Serialize)]
struct Coverage {
    emulator: String,
    version: String,
    names: Vec<Row>,
}

/// Asks the emulator of `words` for all that it has, and prints how each stands. It is a failure if something is unknown.
///
/// # Errors
/// The emulator cannot be asked, or more is named than the emulator.
pub fn run(words: &[OsString], json: bool) -> Result<ExitCode, lists::Error> {
    let emulator = match words {
        [] => OsStr::new(EMULATOR),
        [emulator] if emulator::Program::of(emulator) == emulator::Program::System => emulator,
        _ => return Err(lists::Error::Words),
    };
    let mut names = Vec::new();
    for kind in &lists::KINDS {
        let found = lists::ask(emulator, kind)?;
        names.extend(found.into_iter().map(|name| row(kind, name)));
    }
    let version = lists::version(emulator)?;
    let coverage = Coverage { emulator: emulator.to_string_lossy().into_owned(), version, names };
    if json {
        print_json(&coverage)
    } else {
        print_text(&coverage)
    }
    let unknown = coverage.names.iter().any(|row| row.standing == "unknown");
    Ok(if unknown { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn row(kind: &Kind, name: String) -> Row {
    let found = match kind.option {
        None => emulator::option_standing(&name),
        Some(option) => emulator::standing(&samples::words(option, &name)),
    };
    let (standing, instead) = match found {
        Standing::Served => ("served", None),
        Standing::Refused(instead) => ("refused", Some(instead)),
        Standing::Unknown => ("unknown", None),
    };
    Row { kind: kind.name, name, standing, instead }
}

fn print_json(coverage: &Coverage) {
    // Strings and lists of strings can always be written.
    println!("{}", serde_json::to_string_pretty(coverage).unwrap_or_default());
}

fn print_text(coverage: &Coverage) {
    println!("{} {}", coverage.emulator, coverage.version);
    for row in &coverage.names {
        let instead = row.instead.as_ref().map(|instead| format!(": {instead}")).unwrap_or_default();
        println!("{:<8} {:<16} {}{instead}", row.standing, row.kind, row.name);
    }
    for kind in &lists::KINDS {
        let count =
            |standing| coverage.names.iter().filter(|row| row.kind == kind.name && row.standing == standing).count();
        let (served, refused, unknown) = (count("served"), count("refused"), count("unknown"));
        println!("{:<16} {served:>4} served, {refused:>3} refused, {unknown:>3} unknown", kind.name);
    }
}
