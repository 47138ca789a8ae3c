//! Options as `getopt_long(3)` reads them, which all tools beside the emulator use: short ones may be bundled
//! (`-qf raw`, `-fraw`), long ones may be cut where that is not ambiguous, `--name=value` is one word, options may
//! stand behind operands, and `--` ends them.
//!
//! A table holds the options of QEMU 7.2 and of 10.0; what only one of them has the other one refuses itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::super::error::Error;

/// One option of a tool, and what it means there.
#[derive(Debug)]
pub(in super::super) struct Opt<M: 'static> {
    /// Its letter; 0 if it has none.
    pub(in super::super) letter: u8,
    /// Its long name; empty if it has none.
    pub(in super::super) name: &'static str,
    pub(in super::super) takes_argument: bool,
    pub(in super::super) meaning: M,
}

/// An option without an argument.
pub(in super::super) const fn flag<M>(letter: u8, name: &'static str, meaning: M) -> Opt<M> {
    Opt { letter, name, takes_argument: false, meaning }
}

/// An option with one.
pub(in super::super) const fn value<M>(letter: u8, name: &'static str, meaning: M) -> Opt<M> {
    Opt { letter, name, takes_argument: true, meaning }
}

/// An option as it was given.
#[derive(Debug)]
pub(in super::super) struct Given<M> {
    pub(in super::super) meaning: M,
    /// As typed, with its argument, for messages.
    pub(in super::super) typed: String,
    /// Empty for an option that takes none.
    pub(in super::super) argument: OsString,
}

/// A command line, sorted.
#[derive(Debug)]
pub(in super::super) struct Sorted<M> {
    pub(in super::super) options: Vec<Given<M>>,
    pub(in super::super) operands: Vec<OsString>,
}

/// Where options end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Order {
    /// At `--` only.
    Permuted,
    /// At the first operand, too (`+` in the string of letters).
    OperandsLast,
}

/// Sorts `words` by `table`. `context` stands before an option in messages: the tool's name or a command.
///
/// # Errors
/// [`Error::UnknownOption`], [`Error::MissingArgument`]; [`Error::Malformed`] for a cut name that could be several
/// options, and for an argument where there can be none.
pub(in super::super) fn sort<M: Copy>(
    context: &str,
    table: &[Opt<M>],
    words: &[OsString],
    order: Order,
) -> Result<Sorted<M>, Error> {
    let mut sorted = Sorted { options: Vec::new(), operands: Vec::new() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            sorted.operands.extend(words.cloned());
            break;
        }
        if let Some(long) = bytes.strip_prefix(b"--") {
            sorted.options.push(read_long(context, table, long, &mut words)?);
        } else if let Some(letters) = bytes.strip_prefix(b"-").filter(|letters| !letters.is_empty()) {
            read_letters(context, table, letters, &mut words, &mut sorted.options)?;
        } else {
            sorted.operands.push(word.clone());
            if order == Order::OperandsLast {
                sorted.operands.extend(words.cloned());
                break;
            }
        }
    }
    Ok(sorted)
}

fn read_long<'w, M: Copy>(
    context: &str,
    table: &[Opt<M>],
    word: &[u8],
    words: &mut impl Iterator<Item = &'w OsString>,
) -> Result<Given<M>, Error> {
    let end = word.iter().position(|byte| *byte == b'=').unwrap_or(word.len());
    let (name, attached) = word.split_at(end);
    let attached = attached.strip_prefix(b"=").map(OsStr::from_bytes);
    let typed = format!("{context} --{}", String::from_utf8_lossy(name));
    let option = find_long(&typed, table, name)?;
    match (option.takes_argument, attached) {
        (true, Some(argument)) => Ok(given(option, typed, argument)),
        (true, None) => {
            let argument = words.next().ok_or_else(|| Error::MissingArgument { option: typed.clone() })?;
            Ok(given(option, typed, argument))
        }
        (false, None) => Ok(given(option, typed, OsStr::new(""))),
        (false, Some(_)) => Err(Error::malformed(&typed, "it takes no argument; leave out what stands behind `=`")),
    }
}

/// The option of this name, or the only one whose name begins so.
fn find_long<'t, M>(typed: &str, table: &'t [Opt<M>], name: &[u8]) -> Result<&'t Opt<M>, Error> {
    let named = || table.iter().filter(|option| !option.name.is_empty());
    if let Some(exact) = named().find(|option| option.name.as_bytes() == name) {
        return Ok(exact);
    }
    let mut cut = named().filter(|option| option.name.as_bytes().starts_with(name));
    match (cut.next(), cut.next()) {
        (Some(option), None) => Ok(option),
        (Some(_), Some(_)) => Err(Error::malformed(typed, "several options begin so; write its name in full")),
        (None, _) => Err(Error::UnknownOption { option: typed.to_owned() }),
    }
}

/// A word of letters: the first that takes an argument has the rest of the word, or the next word.
fn read_letters<'w, M: Copy>(
    context: &str,
    table: &[Opt<M>],
    letters: &[u8],
    words: &mut impl Iterator<Item = &'w OsString>,
    options: &mut Vec<Given<M>>,
) -> Result<(), Error> {
    let mut rest = letters;
    while let Some((letter, after)) = rest.split_first() {
        let typed = format!("{context} -{}", char::from(*letter).escape_default());
        let option = table.iter().find(|option| option.letter == *letter && *letter != 0);
        let option = option.ok_or_else(|| Error::UnknownOption { option: typed.clone() })?;
        if !option.takes_argument {
            options.push(given(option, typed, OsStr::new("")));
            rest = after;
            continue;
        }
        let argument = if after.is_empty() {
            words.next().ok_or_else(|| Error::MissingArgument { option: typed.clone() })?.as_os_str()
        } else {
            OsStr::from_bytes(after)
        };
        options.push(given(option, typed, argument));
        break;
    }
    Ok(())
}

fn given<M: Copy>(option: &Opt<M>, typed: String, argument: &OsStr) -> Given<M> {
    let typed = if option.takes_argument { super::shortened(&typed, argument) } else { typed };
    Given { meaning: option.meaning, typed, argument: argument.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: &[Opt<char>] = &[
        flag(b'q', "", 'q'),
        flag(b'p', "", 'p'),
        value(b'f', "format", 'f'),
        value(0, "object", 'o'),
        flag(0, "image-opts", 'i'),
        flag(0, "image-other", 'j'),
    ];

    fn sorted(words: &[&str], order: Order) -> Result<(String, Vec<String>), Error> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let sorted = sort("x", TABLE, &words, order)?;
        let options = sorted.options.iter().map(|given| format!("{}{}", given.meaning, given.argument.display()));
        let operands = sorted.operands.iter().map(|word| word.to_str().unwrap().to_owned());
        Ok((options.collect::<Vec<_>>().join(" "), operands.collect()))
    }

    #[test]
    fn letters_are_bundled_and_take_what_is_left_of_the_word() {
        for (words, options) in [
            (&["-q", "-p", "-f", "raw"][..], "q p fraw"),
            (&["-qpf", "raw"], "q p fraw"),
            (&["-qfraw"], "q fraw"),
            (&["-fq"], "fq"),
            (&["-f", "-q"], "f-q"),
            (&["-f", "--"], "f--"),
            (&["-f=raw"], "f=raw"),
        ] {
            assert_eq!(sorted(words, Order::Permuted).unwrap(), (options.to_owned(), vec![]), "{words:?}");
        }
    }

    #[test]
    fn long_names_may_be_cut_and_hold_their_argument() {
        for (words, options) in [
            (&["--format", "raw"][..], "fraw"),
            (&["--format=raw"], "fraw"),
            (&["--fo=a=b"], "fa=b"),
            (&["--format="], "f"),
            (&["--image-opts", "--obj", "--object"], "i o--object"),
        ] {
            assert_eq!(sorted(words, Order::Permuted).unwrap(), (options.to_owned(), vec![]), "{words:?}");
        }
    }

    #[test]
    fn operands_stand_anywhere_unless_they_come_last() {
        let words = ["a", "-q", "-", "--", "-p", "--format"];
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(sorted(&words, Order::Permuted).unwrap(), ("q".to_owned(), all(&["a", "-", "-p", "--format"])));
        let last = sorted(&words, Order::OperandsLast).unwrap();
        assert_eq!(last, (String::new(), all(&["a", "-q", "-", "--", "-p", "--format"])));
    }

    #[test]
    fn what_no_version_knows_is_refused_by_name() {
        for (words, text) in [
            (&["-x"][..], "x -x: unknown option"),
            (&["-qx"], "x -x: unknown option"),
            (&["--formats"], "x --formats: unknown option"),
            (&["--image"], "x --image: several options begin so"),
            (&["--image-opts=x"], "x --image-opts: it takes no argument"),
            (&["-f"], "x -f: its argument is missing"),
            (&["--object"], "x --object: its argument is missing"),
            (&["-\u{e4}"], "x -\\u{c3}: unknown option"),
            (&["-\0"], "x -\\u{0}: unknown option"),
        ] {
            let error = sorted(words, Order::Permuted).unwrap_err().to_string();
            assert!(error.starts_with(text), "{words:?}: {error}");
        }
    }
}
