//! Files of command lines.
//!
//! A line is `NAME | WHAT IS TRUE OF IT | THE COMMAND LINE`, in the shell's quoting. `$DIR` stands for the folder in which
//! it is run; each name of a [`crate::fixtures`] in it stands for that file, which is made. A line that begins with `#` is a
//! comment: it names the source of those below it. In the middle stand, separated by semicolons:
//!
//! | word | means |
//! |---|---|
//! | nothing | both sides greet, and are alike; or both end, with the same status and output |
//! | `wrong` | both end with the same status other than 0, and QEMU's own message |
//! | `named TEXT` | QEMU fails, and its message names TEXT; the broker finds out before, and names TEXT too |
//! | `refused TEXT` | the broker refuses the line, in one line with TEXT in it; QEMU is not tried |
//! | `removed` | it has an option that a later QEMU lacks, which then fails alike on both sides |
//! | `options WORDS` | options of the broker |
//! | `network` | in a network namespace with a bridge `br0` and a tap `tap0` |
//! | `locked NAME` | another process holds QEMU's lock on that file |

use crate::words;
use tests::{Error, Result};

/// What is to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The same on both sides.
    Alike,
    /// The same failure on both sides.
    Wrong,
    /// Failures of each side's own that name the same.
    Named(String),
    /// A refusal by the broker.
    Refused(String),
}

/// One command line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// What it is called in messages.
    pub(crate) name: String,
    /// What is to be seen.
    pub(crate) expected: Expected,
    /// Whether a later QEMU fails.
    pub(crate) removed: bool,
    /// Options of the broker.
    pub(crate) options: Vec<String>,
    /// Whether it is run in a network namespace of its own.
    pub(crate) network: bool,
    /// A file that another process has locked.
    pub(crate) locked: Option<String>,
    /// The words as they stand, the program first.
    pub(crate) words: Vec<String>,
}

/// Reads the lines of a file.
pub(crate) fn read(file: &str, text: &str) -> Result<Vec<Line>> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(line, number)| read_line(line).map_err(|error| at(file, number, &error))).collect()
}

fn at(file: &str, number: u32, error: &Error) -> Error {
    Error::Unexpected(format!("{file}, line {number}: {error}"))
}

fn read_line(text: &str) -> Result<Line> {
    let mut parts = text.splitn(3, '|').map(str::trim);
    let (Some(name), Some(facts), Some(command)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::Unexpected("write NAME | WHAT IS TRUE OF IT | THE COMMAND LINE".to_owned()));
    };
    let mut line = Line {
        name: name.to_owned(),
        expected: Expected::Alike,
        removed: false,
        options: Vec::new(),
        network: false,
        locked: None,
        words: words::split(command)?,
    };
    for fact in facts.split(';').map(str::trim).filter(|fact| !fact.is_empty()) {
        let (word, rest) = fact.split_once(' ').unwrap_or((fact, ""));
        match (word, rest) {
            ("wrong", "") => line.expected = Expected::Wrong,
            ("named", text) if !text.is_empty() => line.expected = Expected::Named(text.to_owned()),
            ("refused", text) if !text.is_empty() => line.expected = Expected::Refused(text.to_owned()),
            ("options", text) => line.options = words::split(text)?,
            ("removed", "") => line.removed = true,
            ("network", "") => line.network = true,
            ("locked", name) if !name.is_empty() => line.locked = Some(name.to_owned()),
            _ => return Err(Error::Unexpected(format!("{fact:?} is nothing that can be true of a line"))),
        }
    }
    Ok(line)
}

#[test]
fn a_line_is_read_with_all_that_is_true_of_it() {
    let text = "# source\n\nx | wrong; options --allow 'commit=a b'; locked d; network | qemu-system-x86_64 -m '1 2'\n";
    let lines = read("f", text).unwrap();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((line.name.as_str(), &line.expected, line.network), ("x", &Expected::Wrong, true));
    assert_eq!(line.options, ["--allow", "commit=a b"]);
    assert_eq!((line.locked.as_deref(), line.words.len()), (Some("d"), 3));
    for text in ["x | y", "x | odd | q", "x | named | q", "x | | 'q"] {
        assert!(read("f", text).is_err(), "{text}");
    }
}
