//! `-readconfig`: options from a file, in sections.
//!
//! Source: `qemu_config_foreach` in QEMU's `util/qemu-config.c`. A line is a comment (`#`), a section
//! (`[drive "disk0"]`, `[machine]`) or `key = "value"`; there are no escapes. QEMU cuts lines at 1023 bytes;
//! longer ones are refused here.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::device;
use super::draft::{Draft, Group, OpenedBy, ReadGroup};
use super::error::Error;
use super::resource::Kind;
use super::table::{self, Meaning};
use super::value::Pairs;

/// The longest line QEMU reads whole, with its end (`char line[1024]`).
const MAX_LINE: usize = 1022;

/// Sections that are not called like their option.
const SECTIONS: &[(&str, &str)] = &[
    ("memory", "m"),
    ("smp-opts", "smp"),
    ("boot-opts", "boot"),
    ("acpi", "acpitable"),
    ("M", ""), // an option, but no section
];

/// The option that a section, or a group in `-set`, stands for.
pub(super) fn option_of(section: &str) -> &str {
    let renamed = SECTIONS.iter().find(|(name, _)| *name == section);
    renamed.map_or(section, |(_, option)| option)
}

/// `-readconfig`.
///
/// # Errors
/// [`Error::ReadConfig`] if the file cannot be read, [`Error::Malformed`] with the line that QEMU would
/// not understand either, [`Error::NotServed`] for sections that reach outside.
pub(super) fn read(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    let text = match (draft.read_config)(Path::new(name)) {
        // For QEMU to complain of. A file that is there in the next moment has not been understood, and is not granted.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return draft.file(option, name, Kind::NoFile, OpenedBy::Plain);
        }
        text => text.map_err(|source| Error::ReadConfig { option: option.to_owned(), source })?,
    };
    draft.read_only(option, name)?;
    let mut section: Option<Section> = None;
    for (index, line) in text.split(|b| *b == b'\n').enumerate() {
        let problem = |what: &str| Error::malformed(option, format!("line {}: {what}", index + 1));
        if line.len() > MAX_LINE {
            return Err(problem("longer than QEMU reads; shorten it"));
        }
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if let Some(next) = Section::parse(line) {
            close(draft, option, section.replace(next))?;
            continue;
        }
        let (key, value) = pair(line).ok_or_else(|| problem("not a section and not key = \"value\""))?;
        let open = section.as_mut().ok_or_else(|| problem("no [section] stands before it"))?;
        open.pairs.push(key, value);
    }
    close(draft, option, section)
}

/// One section while it is being read.
struct Section {
    name: String,
    pairs: Pairs,
}

impl Section {
    /// `[name "id"]` or `[name]`.
    fn parse(line: &[u8]) -> Option<Self> {
        let inner = line.strip_prefix(b"[")?;
        let end = inner.iter().position(|b| *b == b']')?;
        let inner = std::str::from_utf8(inner.get(..end)?).ok()?;
        let mut pairs = Pairs::default();
        let name = match inner.split_once(char::is_whitespace) {
            Some((name, id)) => {
                pairs.push("id", id.trim().strip_prefix('"')?.strip_suffix('"')?);
                name
            }
            None => inner,
        };
        Some(Self { name: name.to_owned(), pairs })
    }
}

/// `key = "value"`; what follows the closing quote is ignored, as QEMU does.
fn pair(line: &[u8]) -> Option<(String, OsString)> {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace)?;
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_ascii_start().strip_prefix(b"=")?;
    let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
    let close = rest.iter().position(|b| *b == b'"')?;
    let value = OsString::from_vec(rest.get(..close)?.to_vec());
    Some((String::from_utf8(key.to_vec()).ok()?, value))
}

fn close(draft: &mut Draft<'_>, option: &str, section: Option<Section>) -> Result<(), Error> {
    let Some(section) = section else {
        return Ok(());
    };
    let option = format!("{option} [{}]", section.name);
    let Some((name, read)) = meaning(&option, &section.name)? else {
        return Ok(());
    };
    draft.groups.push(Group { name, option, pairs: section.pairs, read, from_file: true, word: None });
    Ok(())
}

/// How a section is understood; `None` if it names nothing outside.
fn meaning(option: &str, section: &str) -> Result<Option<(&'static str, ReadGroup)>, Error> {
    if section == "global" {
        return Ok(Some(("global", device::read_global)));
    }
    let row = table::row(option_of(section));
    match row.map(|row| (row.name, &row.meaning)) {
        Some((name, Meaning::Keyed(_, read))) => Ok(Some((name, *read))),
        Some((_, Meaning::Harmless)) => Ok(None),
        Some((_, Meaning::Later(instead))) => Err(Error::not_served(option, "the section", *instead)),
        _ => Err(Error::malformed(option, "QEMU has no such section; check its spelling")),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::resource::{Backing, CommandLine, Kind};
    use super::super::testing::{image, images, line, line_with, names, ro, rw};
    use super::*;

    fn config(text: &str) -> Result<CommandLine, Error> {
        line_with(&["-readconfig", "f.cfg"], &|path| {
            assert_eq!(path, Path::new("f.cfg"));
            Ok(text.as_bytes().to_vec())
        })
    }

    #[test]
    fn sections_are_read_like_their_options() {
        let found = config(
            "# a comment\n\n[drive \"d0\"]\n  file = \"a,b.img\"\n\tformat=  \"raw\"\n  media = \"cdrom\" # rest\n\
             [chardev \"c\"]\n backend = \"file\"\n path = \"out\"\n[memory]\n size = \"1G\"\n[device]\n driver = \"e1000\"\n\
             [object \"s\"]\n qom-type = \"secret\"\n file = \"key\"\n[name]\n guest = \"vm\"\n",
        );
        // format=... has no blank before the equals sign: QEMU does not read that line.
        assert!(found.is_err());
        let found = config(
            "[drive \"d0\"]\n  file = \"a,b.img\"\n\tformat =  \"raw\"\n  media = \"cdrom\" # rest\n\
             [chardev \"c\"]\n backend = \"file\"\n path = \"out\"\n[memory]\n size = \"1G\"\n\
             [object \"s\"]\n qom-type = \"secret\"\n file = \"key\"\n[name]\n guest = \"vm\"",
        )
        .unwrap();
        assert_eq!(images(&found), [image("a,b.img", Some("raw"), ro(), Backing::Ignored)]);
        assert_eq!(names(&found)[..1], [("f.cfg", &Kind::ReadOnlyFile)]);
        assert!(names(&found).contains(&("out", &Kind::OutputFile { append: false })));
        assert!(names(&found).contains(&("key", &Kind::ReadOnlyFile)));
        assert_eq!(found.guest_name.as_deref(), Some("vm"));
    }

    #[test]
    fn the_default_network_stays_on_beside_a_configured_one() {
        let found = config("[netdev \"n\"]\n type = \"hubport\"\n hubid = \"0\"\n").unwrap();
        assert!(found.argv.ends_with(&["-nic".into(), "none".into(), "-display".into(), "none".into()]));
    }

    #[test]
    fn set_reaches_into_sections() {
        let words = ["-readconfig", "f", "-set", "drive.d.file=x"];
        let found = line_with(&words, &|_| Ok(b"[drive \"d\"]\n if = \"none\"\n".to_vec())).unwrap();
        assert_eq!(images(&found), [image("x", None, rw(), Backing::Header)]);
    }

    #[test]
    fn sections_that_reach_outside_are_refused() {
        for text in [
            "[netdev \"n\"]\n type = \"user\"\n",
            "[global]\n driver = \"vfio-pci\"\n property = \"sysfsdev\"\n value = \"/x\"\n",
            "[fsdev \"f\"]\n path = \"/\"\n",
            "[chardev \"c\"]\n backend = \"braille\"\n",
        ] {
            assert!(matches!(config(text), Err(Error::NotServed { .. })), "{text}");
        }
    }

    #[test]
    fn what_qemu_would_not_read_is_refused() {
        let long = format!("[drive]\n file = \"{}\"\n", "x".repeat(1100));
        for text in ["file = \"x\"\n", "[drive]\nfile=x\n", "[kernel]\n", "[odd]\n a = \"b\"\n", "[M]\n", &long] {
            assert!(matches!(config(text), Err(Error::Malformed { .. })), "{text}");
        }
        let missing = line(&["-readconfig", "none"]).unwrap();
        assert_eq!(missing.resources[0].kind, Kind::NoFile);
        let gone = line_with(&["-readconfig", "x"], &|_| Err(io::ErrorKind::PermissionDenied.into()));
        assert!(gone.unwrap_err().to_string().contains("-readconfig x"));
    }
}
