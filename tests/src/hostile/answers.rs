//! What a hostile program says: a line an attempt.

use std::collections::BTreeMap;
use std::process::Command;

use super::hostile_program;
use crate::emulator::Finished;
use crate::error::{During, Error, Result};
use crate::workdir::Workdir;

/// What each attempt came to, by its name.
#[derive(Debug)]
pub struct Answers(Vec<(String, String)>);

impl Answers {
    /// Reads the lines of a hostile program that came to its end.
    ///
    /// # Errors
    /// When it did not.
    pub fn of(finished: &Finished) -> Result<Self> {
        Self::parse(&finished.stdout, "DONE").map_err(|error| Error::Unexpected(format!("{error}: {finished:?}")))
    }

    /// Reads lines of which the last is `end`.
    ///
    /// # Errors
    /// When `end` does not come, or the program said that it gave up.
    pub fn parse(text: &str, end: &str) -> Result<Self> {
        if text.contains("GAVE UP") || !text.lines().any(|line| line == end) {
            return Err(Error::Unexpected(format!("the hostile program did not finish: {text}")));
        }
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let answers = lines.filter(|(name, _)| *name != "waiting-for");
        Ok(Self(answers.map(|(name, answer)| (name.to_owned(), answer.to_owned())).collect()))
    }

    /// What the attempt `name` came to.
    ///
    /// # Errors
    /// When there was no such attempt.
    pub fn get(&self, name: &str) -> Result<&str> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, answer)| answer.as_str()).ok_or_else(|| Error::Unexpected(format!("no attempt {name}")))
    }

    /// The number that an attempt came to.
    ///
    /// # Errors
    /// When there was no such attempt, or it came to no number.
    pub fn number(&self, name: &str) -> Result<u64> {
        let text = self.get(name)?;
        text.parse().map_err(|error| Error::Unexpected(format!("{name} {text}: {error}")))
    }

    /// All answers of attempts with this name.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(found, _)| found == name).map(|(_, answer)| answer.as_str()).collect()
    }

    /// The attempts whose names start with `prefix`, which is taken off.
    #[must_use]
    pub fn beneath(&self, prefix: &str) -> Self {
        let rest = |(name, answer): &(String, String)| Some((name.strip_prefix(prefix)?.to_owned(), answer.clone()));
        Self(self.0.iter().filter_map(rest).collect())
    }

    /// All attempts but those with these names.
    #[must_use]
    pub fn except(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(name, _)| !names.contains(&name.as_str())).cloned().collect())
    }

    /// Fails unless every attempt came to the answer that is `expected` of it, and every one that is expected was
    /// made. A line of `expected` is an answer, or several separated by `|` where kernels differ, and the names of
    /// attempts that must come to it.
    ///
    /// # Panics
    /// Then, naming each attempt.
    pub fn assert(&self, expected: &[(&str, &str)]) {
        let mut left: BTreeMap<&str, &str> =
            expected.iter().flat_map(|(answer, names)| names.split_whitespace().map(|name| (name, *answer))).collect();
        let mut wrong = Vec::new();
        for (name, answer) in &self.0 {
            match left.remove(name.as_str()) {
                Some(wanted) if wanted.split('|').any(|wanted| wanted == answer) => {}
                Some(wanted) => wrong.push(format!("{name}: {answer}, not {wanted}")),
                None => wrong.push(format!("{name}: {answer}, and nothing is expected of it")),
            }
        }
        wrong.extend(left.keys().map(|name| format!("{name}: not tried")));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// Runs the hostile program outside any sandbox, each of its calls in a child under a filter: `filter` holds the
/// instructions as the kernel takes them; without any there is no filter.
///
/// # Errors
/// When it does not come to its end.
pub fn make_confined_calls(workdir: &Workdir, filter: &[u8], list: &str) -> Result<Answers> {
    let filter = workdir.write("filter", filter)?;
    let list = workdir.write("calls", list.as_bytes())?;
    let output = Command::new(hostile_program()?)
        .arg("confined")
        .args([filter, list])
        .current_dir(workdir.files())
        .output()
        .during("start the hostile program")?;
    Answers::parse(&String::from_utf8_lossy(&output.stdout), "LIST DONE")
}
