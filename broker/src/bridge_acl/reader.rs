//! A list and all that it includes, as one row of rules.

use std::io;
use std::path::Path;

use super::error::{Error, FileFault};
use super::grammar::{self, Fault, Id, Statement, Subject};
use super::host::Host;
use super::{Place, Rule};

/// Bytes of a file: some thousand rules. A host has some hundred bridges at most.
pub const FILE_LIMIT: u64 = 64 << 10;

/// Files in all, each counted as often as it is included: two that include the next one twice would otherwise be read
/// 2^depth times.
pub const FILES_LIMIT: usize = 64;

/// Files that are included in each other. One folder of files, included by the list, makes two; more than some is a
/// mistake, and reading them takes stack.
pub const DEPTH_LIMIT: usize = 8;

/// Letters of a rule that a message shows; a rule of honest length has less.
const SHOWN: usize = 120;

/// Reads the list at `path`.
///
/// # Errors
/// [`Error`]: nothing of the list counts.
pub fn read<H: Host>(host: &H, path: &Path) -> Result<Vec<Rule>, Error> {
    if !path.is_absolute() {
        return Err(Error::Relative(path.to_owned()));
    }
    let mut reading = Reading { host, rules: Vec::new(), files: 0, open: Vec::new() };
    reading.read_file(path, None)?;
    Ok(reading.rules)
}

/// How far reading has come.
struct Reading<'h, H> {
    host: &'h H,
    rules: Vec<Rule>,
    /// Files that were read.
    files: usize,
    /// The files in which the reading stands, the list first, by device and inode: names can lead to the same file.
    open: Vec<(u64, u64)>,
}

impl<H: Host> Reading<'_, H> {
    fn read_file(&mut self, path: &Path, from: Option<&Place>) -> Result<(), Error> {
        let refuse = |fault| Error::of_file(path, from, fault);
        if self.open.len() >= DEPTH_LIMIT {
            return Err(refuse(FileFault::TooDeep));
        }
        if self.files >= FILES_LIMIT {
            return Err(refuse(FileFault::TooMany));
        }
        let text = self.host.read(path).map_err(refuse)?;
        if self.open.contains(&text.identity) {
            return Err(refuse(FileFault::Loop));
        }
        self.files += 1;
        self.open.push(text.identity);
        for (index, line) in text.bytes.split(|byte| *byte == b'\n').enumerate() {
            self.read_line(line, Place { file: path.to_owned(), line: index + 1 })?;
        }
        self.open.pop();
        Ok(())
    }

    fn read_line(&mut self, line: &[u8], place: Place) -> Result<(), Error> {
        match grammar::read_line(line) {
            Ok(None) => Ok(()),
            Ok(Some(Statement::Include(path))) => self.read_file(path, Some(&place)),
            Ok(Some(Statement::Rule { effect, bridges, subjects })) => {
                let text: String = String::from_utf8_lossy(line).trim().chars().take(SHOWN).collect();
                let mut rule = Rule { effect, bridges, users: Vec::new(), groups: Vec::new(), place, text };
                match self.add_subjects(&mut rule, &subjects) {
                    Ok(()) => self.rules.push(rule),
                    Err(fault) => return Err(Error::Line { place: rule.place, fault }),
                }
                Ok(())
            }
            Err(fault) => Err(Error::Line { place, fault }),
        }
    }

    fn add_subjects(&self, rule: &mut Rule, subjects: &[Subject<'_>]) -> Result<(), Fault> {
        for subject in subjects {
            match *subject {
                Subject::User(id) => rule.users.push(look_up("user", id, |name| self.host.user(name))?),
                Subject::Group(id) => rule.groups.push(look_up("group", id, |name| self.host.group(name))?),
            }
        }
        Ok(())
    }
}

fn look_up(what: &'static str, id: Id<'_>, ask: impl FnOnce(&str) -> io::Result<Option<u32>>) -> Result<u32, Fault> {
    match id {
        Id::Number(number) => Ok(number),
        Id::Name(name) => match ask(name) {
            Ok(Some(number)) => Ok(number),
            Ok(None) => Err(Fault::Nobody { what, name: name.to_owned() }),
            Err(error) => Err(Fault::LookUp { what, name: name.to_owned(), reason: error.to_string() }),
        },
    }
}
