//! Numbers of system calls by name, for the architecture that is built for.

use std::collections::BTreeMap;

use crate::source::Mistake;

/// Name → number.
pub type Calls = BTreeMap<&'static str, u32>;

/// The kernel's name (`include/uapi/asm-generic/unistd.h`) for what the `syscalls` crate calls
/// `fstatat` on architectures that use the generic table.
const GENERIC_FSTATAT: (&str, &str) = ("fstatat", "newfstatat");

/// Numbers from here on are looked up by nobody: the tables end at 469 (Linux 6.17). They are gone
/// through by number because the crate's own iterator leaves out the last call.
const NUMBERS: usize = 1024;

/// All system calls of an architecture (the name as Rust's `target_arch` has it).
///
/// # Errors
/// [`Mistake::Architecture`] for an architecture other than x86_64 and aarch64.
pub fn numbers(architecture: &str) -> Result<Calls, Mistake> {
    let table: Vec<(&str, usize)> = match architecture {
        "x86_64" => {
            (0..NUMBERS).filter_map(|number| Some((syscalls::x86_64::Sysno::new(number)?.name(), number))).collect()
        }
        "aarch64" => {
            (0..NUMBERS).filter_map(|number| Some((syscalls::aarch64::Sysno::new(number)?.name(), number))).collect()
        }
        other => return Err(Mistake::Architecture(other.to_owned())),
    };
    let (crate_name, kernel_name) = GENERIC_FSTATAT;
    Ok(table
        .into_iter()
        .filter_map(|(name, number)| Some((name, u32::try_from(number).ok()?)))
        .map(|(name, number)| (if name == crate_name { kernel_name } else { name }, number))
        .collect())
}
