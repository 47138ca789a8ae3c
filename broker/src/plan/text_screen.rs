//! A guest's screen on the caller's terminal: the descriptions of terminals that are not everybody's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Plan, environment_files};

/// The administrator's descriptions. Those of the system are shown to every emulator.
const OF_THE_HOST: &str = "/etc/terminfo";

/// The user's, beneath `HOME`.
const OWN: &str = ".terminfo";

/// The greatest size of a description, and the numbers that one begins with, of 16 bits, the low byte first (term(5)): one
/// with numbers of 16 bits, one with numbers of 32 bits.
const LARGEST: usize = 32_768;
const BEGINNINGS: [[u8; 2]; 2] = [0o432_u16.to_le_bytes(), 0o1036_u16.to_le_bytes()];

impl Plan {
    /// Shows what ncurses finds of the caller's terminal (terminfo(5)): the administrator's folder, and of those that the
    /// environment names the terminal's own description alone.
    pub(super) fn plan_text_screen(&mut self, environment: &dyn Fn(&str) -> Option<OsString>) {
        if !self.command.curses {
            return;
        }
        self.shown.add(Path::new(OF_THE_HOST));
        let (folders, readers) = (folders(environment), self.readers());
        for file in environment("TERM").iter().flat_map(|terminal| files(&folders, terminal)) {
            if let Some(content) = environment_files::read(&file, LARGEST, readers).filter(|read| is_description(read))
            {
                self.show_text(&file, content);
            }
        }
        // ncurses asks for each folder before it asks for a file there.
        self.shown.sought.extend(folders);
    }
}

/// The folders that the environment names, there or not. What is no absolute path, as a description itself may stand in
/// `TERMINFO`, is left out.
fn folders(environment: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let of_the_user = environment("HOME").map(|home| Path::new(&home).join(OWN));
    let named = environment("TERMINFO").map(PathBuf::from);
    let list = environment("TERMINFO_DIRS").unwrap_or_default();
    let listed = std::env::split_paths(&list);
    named.into_iter().chain(of_the_user).chain(listed).filter(|path| path.is_absolute()).collect()
}

/// Where a terminal's description lies in these folders: beneath its first letter, or that letter's number. None for a name
/// that leads elsewhere, which ncurses does not look up either.
fn files(folders: &[PathBuf], terminal: &OsStr) -> Vec<PathBuf> {
    let name = terminal.as_bytes();
    let Some(first) = name.first().filter(|_| !name.contains(&b'/') && !matches!(name, b"." | b"..")) else {
        return Vec::new();
    };
    let letters = [OsString::from_vec(vec![*first]), format!("{first:02x}").into()];
    folders.iter().flat_map(|folder| letters.iter().map(|letter| folder.join(letter).join(terminal))).collect()
}

fn is_description(content: &[u8]) -> bool {
    BEGINNINGS.iter().any(|beginning| content.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_from_the_environment() {
        let environment = |name: &str| {
            let value = match name {
                "HOME" => "/home/u",
                "TERMINFO" => "hex:1a01",
                "TERMINFO_DIRS" => "/opt/terminfo::lib",
                _ => return None,
            };
            Some(OsString::from(value))
        };
        assert_eq!(folders(&environment), ["/home/u/.terminfo", "/opt/terminfo"].map(PathBuf::from));
        assert!(folders(&|_| None).is_empty());
    }

    #[test]
    fn a_terminal_has_two_files_a_folder_and_none_elsewhere() {
        let files = |terminal: &str| files(&["/a".into(), "/b".into()], OsStr::new(terminal));
        let expected = ["/a/k/kitty", "/a/6b/kitty", "/b/k/kitty", "/b/6b/kitty"].map(PathBuf::from);
        assert_eq!(files("kitty"), expected);
        for name in ["", ".", "..", "../shadow", "x/../../shadow"] {
            assert!(files(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_description_is_known_by_its_beginning() {
        assert!(is_description(b"\x1a\x01rest") && is_description(b"\x1e\x02rest"));
        assert!(!is_description(b"root:*:1") && !is_description(b"\x1a") && !is_description(b""));
    }
}
