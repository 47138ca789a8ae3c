//! `emulators.toml`: where the real programs are, and the options of `broker` for starts under their names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Error, program};
use crate::administrators_file::{self, Owner};
use crate::cli;

/// The administrator's.
pub const PATH: &str = "/etc/broker/emulators.toml";

/// One's own, in the folder of one's configuration (XDG Base Directory Specification).
const OWN: &str = "broker/emulators.toml";

/// What a file may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Content {
    /// Words of broker's command line for every start.
    options: Vec<String>,
    /// What concerns one program, by its name.
    emulator: BTreeMap<String, Emulator>,
    /// What concerns one guest, by QEMU's `-name`.
    guest: BTreeMap<String, Guest>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Emulator {
    binary: Option<PathBuf>,
    options: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Guest {
    options: Vec<String>,
}

/// The files that are there, the administrator's first.
#[derive(Debug)]
pub struct Files(Vec<(PathBuf, Content)>);

/// What the files say for one start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The real program, where it is said.
    pub binary: Option<PathBuf>,
    /// Words of broker's command line; of an option that takes one value the last counts.
    pub words: Vec<String>,
}

impl Files {
    /// Reads the administrator's file, and that of an ordinary user, who may give `broker` those options anyway.
    ///
    /// # Errors
    /// A file cannot be read, may be changed by others, or says what is not understood.
    pub fn of_this_host(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let mut files = Vec::new();
        let own = own_path(environment).filter(|_| !rustix::process::geteuid().is_root());
        let paths = [(Some(PathBuf::from(PATH)), Owner::Root), (own, Owner::RootOrOneself)];
        for (path, owner) in paths {
            let Some(path) = path else { continue };
            if let Some(text) = administrators_file::read(&path, owner)? {
                let content = parse(&path, &text)?;
                files.push((path, content));
            }
        }
        Ok(Self(files))
    }

    /// What holds for a start of the program `name`: the options for all, for the program, and for the guest, of one file
    /// after the other. `guest` says its name, and is asked only where a file speaks of guests.
    ///
    /// # Errors
    /// Options that `broker` does not have, and a `binary` that is no real program.
    pub fn settings(&self, name: &str, guest: impl FnOnce() -> Option<String>) -> Result<Settings, Error> {
        let guest = if self.0.iter().any(|(_, content)| !content.guest.is_empty()) { guest() } else { None };
        let mut settings = Settings::default();
        for (path, content) in &self.0 {
            settings.add(path, "options", &content.options)?;
            if let Some(emulator) = content.emulator.get(name) {
                settings.add(path, &format!("[emulator.{name}] options"), &emulator.options)?;
                if let Some(binary) = &emulator.binary {
                    settings.binary = Some(check_binary(path, name, binary)?);
                }
            }
            if let Some((guest, own)) = guest.as_ref().and_then(|guest| content.guest.get_key_value(guest)) {
                settings.add(path, &format!("[guest.{guest}] options"), &own.options)?;
            }
        }
        Ok(settings)
    }
}

impl Settings {
    /// Adds words that are understood by themselves.
    fn add(&mut self, path: &Path, place: &str, words: &[String]) -> Result<(), Error> {
        let problem = |error| Error::Configuration { path: path.to_owned(), problem: format!("{place}: {error}") };
        cli::parse_options(words).map_err(problem)?;
        self.words.extend_from_slice(words);
        Ok(())
    }
}

fn parse(path: &Path, text: &str) -> Result<Content, Error> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let known = "it may hold options, [emulator.NAME] with binary and options, and [guest.NAME] with options";
        let problem = format!("{place}{}; {known}", error.message());
        Error::Configuration { path: path.to_owned(), problem }
    })
}

fn check_binary(path: &Path, name: &str, binary: &Path) -> Result<PathBuf, Error> {
    if !binary.is_absolute() {
        let problem = format!("[emulator.{name}] binary = {:?} is relative; give its full path", binary.display());
        return Err(Error::Configuration { path: path.to_owned(), problem });
    }
    if program::is_broker(binary)? {
        return Err(Error::Itself { path: binary.to_owned() });
    }
    Ok(binary.to_owned())
}

/// `XDG_CONFIG_HOME`, else `.config` in `HOME`; the specification has a relative one ignored.
fn own_path(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let configured = environment("XDG_CONFIG_HOME").map(PathBuf::from).and_then(absolute);
    let home = || environment("HOME").map(PathBuf::from).and_then(absolute).map(|home| home.join(".config"));
    Some(configured.or_else(home)?.join(OWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(texts: &[&str]) -> Result<Files, Error> {
        let read = |text: &&str| Ok(("/x.toml".into(), parse(Path::new("/x.toml"), text)?));
        Ok(Files(texts.iter().map(read).collect::<Result<_, Error>>()?))
    }

    fn settings(texts: &[&str]) -> Result<Settings, Error> {
        files(texts)?.settings("qemu-system-x86_64", || Some("web".into()))
    }

    #[test]
    fn options_for_all_for_the_program_and_for_the_guest_follow_each_other() {
        let administrators = "options = ['--medium-dir', '/srv/iso']\n[emulator.qemu-system-x86_64]\n\
                              binary = '/bin/true'\noptions = ['-v']\n[emulator.qemu-img]\noptions = ['--name', 'i']\n\
                              [guest.web]\noptions = ['--allow', 'commit']\n[guest.db]\noptions = ['--user', '1:1']";
        let own = "[guest.web]\noptions = ['--allow=create=/srv/new']";
        let found = settings(&[administrators, own]).unwrap();
        let words = ["--medium-dir", "/srv/iso", "-v", "--allow", "commit", "--allow=create=/srv/new"];
        assert_eq!(found, Settings { binary: Some("/bin/true".into()), words: words.map(String::from).to_vec() });
        assert_eq!(settings(&["", ""]).unwrap(), Settings::default());
    }

    #[test]
    fn mistakes_are_named_with_file_and_place() {
        for (text, parts) in [
            ("\noption = []", &["/x.toml: line 2:", "unknown field `option`"][..]),
            ("options = ['--no-such']", &["/x.toml: options:", "--no-such"]),
            ("options = ['check']", &["options:", "only options of a start"]),
            ("options = ['--', 'qemu-img']", &["options:", "only options of a start"]),
            ("options = ['--help']", &["options:", "only options of a start"]),
            ("[guest.web]\noptions = ['--open-timeout', '0']", &["[guest.web] options:", "--open-timeout"]),
            ("[emulator.qemu-system-x86_64]\nbinary = 'qemu'", &["[emulator.qemu-system-x86_64] binary", "full path"]),
            ("[emulator.qemu-system-x86_64]\nbinary = '/proc/self/exe'", &["/proc/self/exe is broker itself"]),
        ] {
            let error = settings(&[text]).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn ones_own_file_is_where_xdg_says() {
        let path = |config: &str, home: &str| {
            own_path(&|name| Some(if name == "HOME" { home.into() } else { config.into() }))
                .map(|path| path.display().to_string())
        };
        assert_eq!(path("/c", "/h").as_deref(), Some("/c/broker/emulators.toml"));
        assert_eq!(path("c", "/h").as_deref(), Some("/h/.config/broker/emulators.toml"));
        assert_eq!(path("", ""), None);
    }
}
