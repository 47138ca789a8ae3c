//! A guest's screen on the caller's terminal: the descriptions of terminals that are not everybody's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Plan;

/// The administrator's descriptions. Those of the system are shown to every emulator.
const OF_THE_HOST: &str = "/etc/terminfo";

/// The user's, beneath `HOME`.
const OWN: &str = ".terminfo";

impl Plan {
    /// Shows the folders in which ncurses looks for the caller's terminal (terminfo(5)).
    pub(super) fn plan_text_screen(&mut self, environment: &dyn Fn(&str) -> Option<OsString>) {
        if !self.command.curses {
            return;
        }
        let is_shown = |path: &Path, plan: &Self| plan.installation.trees.iter().any(|tree| path.starts_with(tree));
        for path in description_folders(environment) {
            if !is_shown(&path, self) {
                self.shown.add(&path);
            }
        }
    }
}

/// Where descriptions may lie, there or not. What is no absolute path, as a description itself may stand in `TERMINFO`,
/// is left out.
fn description_folders(environment: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let of_the_user = environment("HOME").map(|home| Path::new(&home).join(OWN));
    let named = environment("TERMINFO").map(PathBuf::from);
    let list = environment("TERMINFO_DIRS").unwrap_or_default();
    let listed = std::env::split_paths(&list);
    let all = named.into_iter().chain(of_the_user).chain(listed).chain([PathBuf::from(OF_THE_HOST)]);
    all.filter(|path| path.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_from_the_environment_and_from_the_host() {
        let environment = |name: &str| {
            let value = match name {
                "HOME" => "/home/u",
                "TERMINFO" => "hex:1a01",
                "TERMINFO_DIRS" => "/opt/terminfo::lib",
                _ => return None,
            };
            Some(OsString::from(value))
        };
        let expected = ["/home/u/.terminfo", "/opt/terminfo", "/etc/terminfo"].map(PathBuf::from);
        assert_eq!(description_folders(&environment), expected);
        assert_eq!(description_folders(&|_| None), [PathBuf::from("/etc/terminfo")]);
    }
}
