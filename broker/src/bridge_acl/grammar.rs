//! What one line of a list says.
//!
//! QEMU's helper (`parse_acl_file` in its `qemu-bridge-helper.c`, 7.2 and 10.0) cuts a line at its first space, else at
//! its first tab, and takes all that follows as one name. Here any run of both separates words, and words may follow
//! the name: `allow BRIDGE|all [user:NAME|UID] [group:NAME|GID] ...`. What QEMU takes for something else is refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Effect;
use crate::open::net::name::{InterfaceName, Invalid};

/// Bytes of a line without its end: QEMU's buffer holds 4096 with a final NUL, and it reads the rest of a longer line,
/// also of a comment, as another one.
pub const LINE_LIMIT: usize = 4095;

/// A line that is not empty.
#[derive(Debug, PartialEq, Eq)]
pub enum Statement<'l> {
    /// `allow` or `deny`.
    Rule {
        /// Which of both.
        effect: Effect,
        /// For which bridges.
        bridges: Bridges,
        /// For whom; none: for everybody.
        subjects: Vec<Subject<'l>>,
    },
    /// `include`, with an absolute path, which goes to the end of the line.
    Include(&'l Path),
}

/// Which bridges a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bridges {
    /// `all`.
    All,
    /// One, by one of its names.
    One(InterfaceName),
}

/// Whom a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'l> {
    /// `user:`.
    User(Id<'l>),
    /// `group:`.
    Group(Id<'l>),
}

/// A user or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id<'l> {
    /// Digits alone, whatever names there are.
    Number(u32),
    /// A name, to be looked up.
    Name(&'l str),
}

/// Reads a line without its line feed; nothing if it is blank or a comment.
///
/// # Errors
/// [`Fault`].
pub fn read_line(line: &[u8]) -> Result<Option<Statement<'_>>, Fault> {
    if line.len() > LINE_LIMIT {
        return Err(Fault::TooLong);
    }
    if line.contains(&0) {
        return Err(Fault::Nul);
    }
    let line = without_blanks(line);
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let end = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, b""));
    let rest = without_blanks(rest);
    match word {
        b"allow" => read_rule(Effect::Allow, rest).map(Some),
        b"deny" => read_rule(Effect::Deny, rest).map(Some),
        b"include" => read_include(rest).map(Some),
        _ => Err(Fault::Word(String::from_utf8_lossy(word).into_owned())),
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Without the blanks on both sides, and without the carriage returns of a file that was written on another system.
fn without_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\r'] = bytes {
        bytes = rest;
    }
    bytes
}

fn read_rule(effect: Effect, rest: &[u8]) -> Result<Statement<'_>, Fault> {
    let rest = std::str::from_utf8(rest).map_err(|_| Fault::NotText)?;
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let bridges = match words.next() {
        None => return Err(Fault::NoBridge),
        Some("all") => Bridges::All,
        Some(name) => Bridges::One(InterfaceName::new(name)?),
    };
    let subjects = words.map(read_subject).collect::<Result<_, _>>()?;
    Ok(Statement::Rule { effect, bridges, subjects })
}

fn read_subject(word: &str) -> Result<Subject<'_>, Fault> {
    if word.starts_with('#') {
        return Err(Fault::Comment);
    }
    match word.split_once(':') {
        Some(("user", id)) => Ok(Subject::User(read_id(word, id)?)),
        Some(("group", id)) => Ok(Subject::Group(read_id(word, id)?)),
        _ => Err(Fault::Surplus(word.to_owned())),
    }
}

fn read_id<'l>(word: &str, id: &'l str) -> Result<Id<'l>, Fault> {
    if id.is_empty() {
        return Err(Fault::Id(word.to_owned()));
    }
    if !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Id::Name(id));
    }
    // The greatest number stands for "no id" in chown(2) and setresuid(2): nobody has it.
    let number = id.parse().ok().filter(|number| *number != u32::MAX);
    number.map(Id::Number).ok_or_else(|| Fault::Id(word.to_owned()))
}

fn read_include(rest: &[u8]) -> Result<Statement<'_>, Fault> {
    if rest.is_empty() {
        return Err(Fault::NoFile);
    }
    if rest.iter().any(|byte| byte.is_ascii_control()) {
        return Err(Fault::Control);
    }
    let path = Path::new(OsStr::from_bytes(rest));
    if path.is_absolute() { Ok(Statement::Include(path)) } else { Err(Fault::RelativeInclude) }
}

/// Why a line is not understood, or not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// See `LINE_LIMIT`.
    #[error("the line has more than {LINE_LIMIT} bytes; write a rule a line")]
    TooLong,
    /// Text has none.
    #[error("the line has a zero byte in it; write the file anew as text")]
    Nul,
    /// Neither `allow` nor `deny` nor `include`.
    #[error("unknown word {0:?}; lines begin with allow, deny, include or #")]
    Word(String),
    /// A rule about nothing.
    #[error("the name of a bridge is missing; write it, or `all`")]
    NoBridge,
    /// Names of users, groups and bridges are UTF-8 here.
    #[error("the line is no UTF-8 text; write the name of the bridge in UTF-8")]
    NotText,
    /// No bridge has such a name.
    #[error(transparent)]
    Name(#[from] Invalid),
    /// QEMU takes a comment behind a name for a part of the name.
    #[error("a comment must stand on a line of its own")]
    Comment,
    /// More words than a rule has.
    #[error(
        "{0:?} is not understood; behind the bridge stand only user:NAME and group:NAME; write a rule for each bridge"
    )]
    Surplus(String),
    /// An empty name, or a number that nobody has.
    #[error("{0:?} names nobody; write user:NAME, user:UID, group:NAME or group:GID")]
    Id(String),
    /// The host does not know the name.
    #[error("there is no {what} {name:?} on this host; mend the name, or remove it")]
    Nobody {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The host could not be asked.
    #[error("cannot look up {what} {name:?}: {reason}; write the number instead")]
    LookUp {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// Of `getpwnam_r(3)` or `getgrnam_r(3)`.
        reason: String,
    },
    /// An `include` without a path.
    #[error("the file to include is missing; write its absolute path")]
    NoFile,
    /// A path with control characters, which nobody would see.
    #[error("the path to include has control characters in it; rename the file")]
    Control,
    /// QEMU would look for it in the folder of whoever asks, who could put anything there.
    #[error("the path to include is not absolute; write it from / on")]
    RelativeInclude,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule<'l>(effect: Effect, bridge: &str, subjects: &[Subject<'l>]) -> Result<Option<Statement<'l>>, Fault> {
        let bridges = if bridge == "all" { Bridges::All } else { Bridges::One(InterfaceName::new(bridge)?) };
        Ok(Some(Statement::Rule { effect, bridges, subjects: subjects.to_vec() }))
    }

    #[test]
    fn any_run_of_blanks_separates() {
        for line in ["allow br0", "allow\tbr0 ", " \tallow \t br0\t \t", "allow br0\r", "allow  br0 \r"] {
            assert_eq!(read_line(line.as_bytes()), rule(Effect::Allow, "br0", &[]), "{line:?}");
        }
        assert_eq!(read_line(b"deny all"), rule(Effect::Deny, "all", &[]));
        for line in ["", " \t", "\r", "#", " # allow br0", "#allow br0"] {
            assert_eq!(read_line(line.as_bytes()), Ok(None), "{line:?}");
        }
        assert_eq!(read_line(b"# \xff"), Ok(None));
    }

    #[test]
    fn rules_name_users_and_groups() {
        let subjects = [Subject::User(Id::Name("al:ice")), Subject::Group(Id::Number(7)), Subject::User(Id::Number(0))];
        assert_eq!(read_line(b"allow br0 user:al:ice\tgroup:7 user:00"), rule(Effect::Allow, "br0", &subjects));
        for word in ["user:", "group:", "user:4294967295", "group:4294967296", "user:99999999999999999999"] {
            assert_eq!(read_line(format!("deny all {word}").as_bytes()), Err(Fault::Id(word.into())));
        }
        for word in ["br1", "alice", "users:alice", "User:alice", "all", ":", "user"] {
            assert_eq!(read_line(format!("deny br0 {word}").as_bytes()), Err(Fault::Surplus(word.into())));
        }
    }

    #[test]
    fn a_path_goes_to_the_end_of_the_line() {
        let path = |path: &'static str| Ok(Some(Statement::Include(Path::new(path))));
        assert_eq!(read_line(b"include /etc/a b # c "), path("/etc/a b # c"));
        assert_eq!(read_line(b"include\t/etc/a\r"), path("/etc/a"));
        for (line, fault) in [
            ("include", Fault::NoFile),
            ("include \t", Fault::NoFile),
            ("include etc/a", Fault::RelativeInclude),
            ("include ./a", Fault::RelativeInclude),
            ("include /a\rb", Fault::Control),
        ] {
            assert_eq!(read_line(line.as_bytes()), Err(fault), "{line:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (line, fault) in [
            ("allow", Fault::NoBridge),
            ("deny ", Fault::NoBridge),
            ("Allow br0", Fault::Word("Allow".into())),
            ("allow\rbr0", Fault::Word("allow\rbr0".into())),
            ("allowbr0", Fault::Word("allowbr0".into())),
            ("\u{c}allow br0", Fault::Word("\u{c}allow".into())),
            ("allow br0 # mine", Fault::Comment),
            ("allow br0 #", Fault::Comment),
            ("allow br0\0", Fault::Nul),
            ("#\0", Fault::Nul),
        ] {
            assert_eq!(read_line(line.as_bytes()), Err(fault), "{line:?}");
        }
        for name in ["br0/x", "br:0", "..", "abcdefghijklmnop", "br0\u{c}", "br\r0"] {
            assert!(matches!(read_line(format!("allow {name}").as_bytes()), Err(Fault::Name(_))), "{name:?}");
        }
        assert_eq!(read_line(b"deny br\xff"), Err(Fault::NotText));
        assert_eq!(read_line(&[b' '; LINE_LIMIT]), Ok(None));
        assert_eq!(read_line(&[b'#'; LINE_LIMIT + 1]), Err(Fault::TooLong));
    }
}
