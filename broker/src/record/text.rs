//! How a record is written down: a small TOML file, to be read by people as well.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Identity, Record, RecordedReference, Role};

/// Bytes of a record. A chain has one for each image, and no honest image names hundreds of files.
pub const LIMIT: usize = 256 << 10;

/// The form that is written here.
const VERSION: u32 = 1;

/// Letters of a format's name; the longest of QEMU's has 10 (parallels, host_cdrom).
const FORMAT_LIMIT: usize = 32;

/// Stands at the top of each file.
const PREFACE: &str = "\
# What the header of a disk image named when broker last started a guest with it, or when that was accepted.
# A start is refused if the header names anything else. See `broker chain --help`.
# In paths %XX stands for the byte of that hexadecimal number.
";

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    version: u32,
    image: String,
    inode: String,
    born: Option<String>,
    format: String,
    #[serde(default, rename = "reference", skip_serializing_if = "Vec::is_empty")]
    references: Vec<Reference>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    role: Role,
    path: String,
    inode: String,
    born: Option<String>,
    format: String,
}

/// Writes `record` down.
///
/// # Errors
/// [`Error::TooLong`].
pub fn write(record: &Record) -> Result<String, Error> {
    let references = record.references.iter().map(|reference| Reference {
        role: reference.role,
        path: path_text(&reference.path),
        inode: reference.file.inode.to_string(),
        born: reference.file.born_text(),
        format: reference.format.clone(),
    });
    let whole = Whole {
        version: VERSION,
        image: path_text(&record.image),
        inode: record.file.inode.to_string(),
        born: record.file.born_text(),
        format: record.format.clone(),
        references: references.collect(),
    };
    let body = toml::to_string(&whole).map_err(|error| Error::Unwritable(error.to_string()))?;
    let text = format!("{PREFACE}{body}");
    if text.len() > LIMIT { Err(Error::TooLong) } else { Ok(text) }
}

/// Reads a record.
///
/// # Errors
/// [`Error`]: what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Record, Error> {
    if bytes.len() > LIMIT {
        return Err(Error::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NotText)?;
    let broken = |error: toml::de::Error| Error::NotARecord(error.message().escape_debug().to_string());
    // First: another version may have other fields.
    let Versioned { version } = toml::from_str(text).map_err(broken)?;
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let whole: Whole = toml::from_str(text).map_err(broken)?;
    let references = whole.references.into_iter().map(|reference| {
        Ok(RecordedReference {
            role: reference.role,
            path: read_path(&reference.path).ok_or(Error::Field("path"))?,
            file: Identity::read(&reference.inode, reference.born.as_deref()).ok_or(Error::Field("inode or born"))?,
            format: format_name(reference.format)?,
        })
    });
    Ok(Record {
        image: read_path(&whole.image).ok_or(Error::Field("image"))?,
        file: Identity::read(&whole.inode, whole.born.as_deref()).ok_or(Error::Field("inode or born"))?,
        format: format_name(whole.format)?,
        references: references.collect::<Result<_, Error>>()?,
    })
}

fn format_name(name: String) -> Result<String, Error> {
    if is_format(&name) { Ok(name) } else { Err(Error::Field("format")) }
}

/// Whether `name` can be that of a block driver of QEMU.
#[must_use]
pub fn is_format(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=FORMAT_LIMIT).contains(&name.len()) && name.bytes().all(is_plain)
}

/// `path` in letters that any terminal can show; every other byte, and `%`, is `%` and two digits.
#[must_use]
pub fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            // Neither control characters nor those that turn the direction of writing are among these.
            if letter != '%' && (letter.is_ascii_graphic() || letter == ' ' || letter.is_alphanumeric()) {
                text.push(letter);
            } else {
                letter.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_escaped(&mut text, byte));
            }
        }
        chunk.invalid().iter().for_each(|byte| push_escaped(&mut text, *byte));
    }
    text
}

fn push_escaped(text: &mut String, byte: u8) {
    text.push_str(&format!("%{byte:02X}"));
}

/// Reads an absolute path back.
#[must_use]
pub fn read_path(text: &str) -> Option<PathBuf> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        // from_str_radix takes a sign, too.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_number)?);
        bytes.extend(rest.as_bytes());
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    (path.is_absolute() && !path.as_os_str().as_bytes().contains(&0)).then_some(path)
}

/// Why a record cannot be written or read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Bytes that are no letters.
    #[error("it is no text")]
    NotText,
    /// It does not have the form of a record.
    #[error("{0}")]
    NotARecord(String),
    /// One that a later version of this program wrote.
    #[error("it is of version {0}, and this broker knows version {VERSION} only; use the broker that wrote it")]
    Version(u32),
    /// A value that nothing can have.
    #[error("its {0} cannot be true")]
    Field(&'static str),
    /// More than anybody needs.
    #[error("it has more than {} KiB", LIMIT >> 10)]
    TooLong,
    /// TOML cannot say it.
    #[error("it cannot be written as TOML: {0}")]
    Unwritable(String),
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::record::testing::{Random, record, reference};

    fn sample() -> Record {
        let mut record = record("/srv/vm/top.qcow2", 5, "qcow2");
        record.references.push(reference(Role::Backing, "/srv/vm/b\u{e4}se 1.raw", 6, "raw"));
        record.references.push(reference(Role::DataFile, "/srv/50%\n", 7, "raw"));
        record.references[1].file.born = None;
        record
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let text = write(&sample()).unwrap();
        assert_eq!(read(text.as_bytes()).unwrap(), sample());
        for line in [
            "version = 1",
            "image = \"/srv/vm/top.qcow2\"",
            "inode = \"5\"",
            "born = \"5.000000005\"",
            "[[reference]]",
            "role = \"data-file\"",
            "path = \"/srv/vm/b\u{e4}se 1.raw\"",
            "path = \"/srv/50%25%0A\"",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
        let alone = record("/a", 1, "raw");
        assert_eq!(read(write(&alone).unwrap().as_bytes()).unwrap(), alone);
    }

    #[test]
    fn any_path_reads_as_it_was_written() {
        let mut random = Random::default();
        for _ in 0..20_000 {
            let mut bytes = vec![b'/'];
            for _ in 0..random.below(24) {
                // Mostly what is special somewhere.
                let special = b"%\\\"'#=\n\t\x1b \x7f\xc3\xa4\xe2\x80\xae\xff";
                let byte = if random.below(2) == 0 { special[random.below(special.len())] } else { random.byte() };
                bytes.push(byte.max(1));
            }
            let path = PathBuf::from(OsString::from_vec(bytes));
            let text = path_text(&path);
            assert!(text.chars().all(|letter| !letter.is_control() && letter != '\u{202e}'), "{text:?}");
            assert_eq!(read_path(&text), Some(path.clone()), "{text:?}");
            let written = Record { image: path.clone(), ..record("/", 1, "raw") };
            assert_eq!(read(write(&written).unwrap().as_bytes()).unwrap(), written);
        }
    }

    #[test]
    fn a_path_that_was_never_written_so_is_not_read() {
        for text in ["", "a", "%", "/%", "/%4", "/%+4", "/%zz", "/%\u{e4}", "/a%00b", "%2"] {
            assert_eq!(read_path(text), None, "{text:?}");
        }
        assert_eq!(read_path("/%2f%41").as_deref(), Some(Path::new("//A")));
        assert_eq!(path_text(Path::new(OsStr::from_bytes(b"/\xc3("))), "/%C3(");
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let good = write(&sample()).unwrap();
        assert_eq!(read(good.replace("version = 1", "version = 2\nmore = 1").as_bytes()), Err(Error::Version(2)));
        assert_eq!(read(good.replace("\"5\"", "\"five\"").as_bytes()), Err(Error::Field("inode or born")));
        assert_eq!(read(good.replace("\"/srv/vm/top", "\"srv/vm/top").as_bytes()), Err(Error::Field("image")));
        assert_eq!(read(good.replace("\"raw\"", "\"raw \"").as_bytes()), Err(Error::Field("format")));
        assert_eq!(read(b"version = 1\n\xff"), Err(Error::NotText));
        assert_eq!(read(&vec![b'#'; LIMIT + 1]), Err(Error::TooLong));
        for broken in [
            String::new(),
            good.replace("version = 1", ""),
            good.replace("version = 1", "version = 1\nunknown = 1"),
            good.replace("role = \"backing\"", "role = \"parent\""),
            good.replace("[[reference]]", "[reference]"),
            good.replace("role = \"backing\"", "role = \"backing\"\nextra = \"\\u001b\""),
        ] {
            match read(broken.as_bytes()) {
                Err(Error::NotARecord(why)) => assert!(!why.contains(char::is_control), "{why}"),
                other => panic!("{other:?}: {broken}"),
            }
        }
    }

    #[test]
    fn a_record_that_nobody_could_read_is_not_written() {
        let mut long = sample();
        long.references = vec![long.references[0].clone(); 3000];
        assert_eq!(write(&long), Err(Error::TooLong));
    }
}
