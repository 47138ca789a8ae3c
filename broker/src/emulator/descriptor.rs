//! Images that the caller opened: the name `fd:N` stands for inherited descriptor N.
//!
//! QEMU knows no such protocol. Where it takes a name literally (`filename=`), it opens `fd:N` as if that were a file in
//! its folder, and the broker answers with the descriptor's inode. Where it would look for a protocol (`-drive file=`),
//! the word is changed to `./fd:N`, which is a file name to QEMU and means the same one.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;

use super::blockdev::Keys;
use super::draft::{Draft, Group};
use super::error::Error;
use super::value;

/// Standard input, output and error.
const STANDARD: std::ops::RangeInclusive<RawFd> = 0..=2;

/// The number in `fd:N`, written without a sign or leading zeros.
pub(super) fn number(name: &OsStr) -> Option<RawFd> {
    let digits = name.to_str()?.strip_prefix("fd:")?;
    let number: RawFd = digits.parse().ok()?;
    (number >= 0 && number.to_string() == digits).then_some(number)
}

/// `fd:N` as a name that has no protocol.
pub(super) fn as_file(name: &OsStr) -> OsString {
    [OsStr::new("./"), name].into_iter().collect()
}

/// Checks what must be true of a descriptor that is named as an image.
///
/// # Errors
/// [`Error::Malformed`]: a standard stream; an image whose format is not stated.
pub(super) fn check(option: &str, number: RawFd, has_format: bool) -> Result<(), Error> {
    if STANDARD.contains(&number) {
        let problem = format!("fd:{number} is a standard stream of the emulator; hand the image over as 3 or higher");
        return Err(Error::malformed(option, problem));
    }
    if !has_format {
        let problem = format!(
            "the format of fd:{number} is not stated, and is never guessed; say -drive file=fd:{number},format=qcow2 \
             (or raw, ...), or name it below a -blockdev node of that driver"
        );
        return Err(Error::malformed(option, problem));
    }
    Ok(())
}

/// Changes `file=fd:N` to `file=./fd:N` in the word of a `-drive`; every other byte of it stays.
///
/// # Errors
/// As [`check`]. [`Error::NotServed`] where the name stands in a file, which stays as it is.
pub(super) fn rewrite(draft: &mut Draft<'_>, group: &Group, number: RawFd, has_format: bool) -> Result<(), Error> {
    check(&group.option, number, has_format)?;
    let word = group.word.and_then(|at| draft.line.argv.get_mut(at));
    let word = word.ok_or_else(|| {
        let instead = format!("write file.filename = \"fd:{number}\" there, which needs no change");
        Error::not_served(&group.option, format!("file = \"fd:{number}\" in a file"), instead)
    })?;
    *word = value::with_prefix(word, "file", &format!("fd:{number}"), "./");
    Ok(())
}

/// Refuses `-set drive.ID.file=fd:N`.
///
/// # Errors
/// [`Error::NotServed`].
pub(super) fn refuse_in_set(option: &str, id: &str, value: &OsStr) -> Result<(), Error> {
    let Some(number) = number(value) else { return Ok(()) };
    let instead = format!("say -set drive.{id}.file.filename=fd:{number}, or file=fd:{number} in the -drive itself");
    Err(Error::not_served(option, "file=fd:N", instead))
}

/// What `cache=` of a `-drive` says of the host's cache (`bdrv_parse_cache_mode` in QEMU's `block.c`).
pub(super) fn cache_mode(keys: &Keys) -> Option<bool> {
    let mode = keys.get("cache")?;
    Some(["none", "off", "directsync"].iter().any(|direct| mode == direct))
}

/// Whether the options say anything of the host's cache.
pub(super) fn says_cache(keys: &Keys) -> bool {
    keys.keys().any(|key| key == "cache" || key.ends_with("cache.direct"))
}

#[cfg(test)]
mod tests {
    use super::super::resource::{Access, Backing, CommandLine, Descriptor, Image, Kind};
    use super::super::testing::{line, line_with};
    use super::*;

    fn image(line: &CommandLine) -> (&str, &Image) {
        match &line.resources[0].kind {
            Kind::Image(image) => (line.resources[0].name.to_str().unwrap(), image),
            other => panic!("{other:?}"),
        }
    }

    fn word(line: &CommandLine) -> &str {
        line.argv[2].to_str().unwrap()
    }

    #[test]
    fn one_word_is_changed_and_nothing_else_of_it() {
        for (typed, executed) in [
            ("file=fd:4,format=qcow2", "file=./fd:4,format=qcow2"),
            ("if=none,format=raw,file=fd:44", "if=none,format=raw,file=./fd:44"),
            ("id=d,,file=fd:4,file=fd:4,format=raw,serial=a,,b", "id=d,,file=fd:4,file=./fd:4,format=raw,serial=a,,b"),
            ("file=fd:4,file=fd:5,driver=raw", "file=fd:4,file=./fd:5,driver=raw"),
            ("file.locking=off,file=fd:4,format=raw,snapshot", "file.locking=off,file=./fd:4,format=raw,snapshot"),
        ] {
            let found = line(&["-drive", typed]).unwrap();
            assert_eq!(word(&found), executed);
            let (name, image) = image(&found);
            let descriptor = image.descriptor.unwrap();
            assert_eq!(name, format!("./fd:{}", descriptor.number));
            assert!(found.descriptors.is_empty(), "the emulator does not get it");
        }
    }

    #[test]
    fn literal_names_stay_as_they_are() {
        for (option, typed) in [
            ("-drive", "driver=qcow2,file.driver=file,file.filename=fd:4"),
            ("-drive", "driver=qcow2,file.filename=fd:4,if=none"),
            ("-drive", "file=file:fd:4,format=qcow2"),
            ("-drive", "file=json:{\"driver\":\"qcow2\",,\"file\":{\"driver\":\"file\",,\"filename\":\"fd:4\"}}"),
            ("-blockdev", "driver=qcow2,node-name=d,file.driver=file,file.filename=fd:4"),
            ("-blockdev", r#"{"driver":"qcow2","file":{"driver":"file","filename":"fd:4"}}"#),
        ] {
            let found = line(&[option, typed]).unwrap();
            assert_eq!(word(&found), typed);
            let (name, image) = image(&found);
            let wanted = Descriptor { number: 4, direct: false, silent_word: None };
            let descriptor = image.descriptor.map(|descriptor| Descriptor { silent_word: None, ..descriptor });
            assert_eq!((name, descriptor, image.format.as_deref()), ("fd:4", Some(wanted), Some("qcow2")));
        }
        for typed in ["driver=file,filename=fd:4", "driver=file,filename=./fd:4"] {
            let found = line(&["-blockdev", typed]).unwrap();
            assert_eq!(image(&found).1.descriptor.is_some(), !typed.contains("./"), "{typed}");
        }
        assert!(image(&line(&["-drive", "file=./fd:4,format=raw"]).unwrap()).1.descriptor.is_none());
    }

    #[test]
    fn named_backing_nodes_may_be_descriptors() {
        let words = ["-drive", "file=top,format=qcow2,backing.driver=raw,backing.file.filename=fd:7"];
        let found = line(&words).unwrap();
        let Kind::Image(base) = &found.resources[1].kind else { panic!("{found:?}") };
        assert_eq!((base.access, base.backing, base.overlaid), (Access::ReadOnly, Backing::Ignored, true));
        assert_eq!(found.image_descriptors().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn the_format_must_be_stated_and_the_number_be_one() {
        for words in [
            ["-drive", "file=fd:4"],
            ["-hda", "fd:4"],
            ["-cdrom", "fd:4"],
            ["-drive", "file.filename=fd:4"],
            ["-drive", "file=x,format=qcow2,backing.file.filename=fd:4"],
        ] {
            let text = line(&words).unwrap_err().to_string();
            assert!(text.contains("format="), "{text}");
        }
        for number in ["0", "1", "2"] {
            let text = line(&["-drive", &format!("file=fd:{number},format=raw")]).unwrap_err().to_string();
            assert!(text.contains("standard stream"), "{text}");
        }
        for name in ["fd:", "fd:x", "fd:-4", "fd:+4", "fd:04", "fd:4x", "fd:99999999999"] {
            let result = line(&["-drive", &format!("file={name},format=raw")]);
            assert!(matches!(result, Err(Error::NotServed { .. })), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_rewritten_is_refused() {
        let text = "[drive \"d\"]\n file = \"fd:4\"\n format = \"raw\"\n";
        let config = |text: &'static str| line_with(&["-readconfig", "f"], &move |_| Ok(text.into()));
        assert!(config(text).unwrap_err().to_string().contains("file.filename = \"fd:4\""));
        assert!(config("[drive \"d\"]\n file.filename = \"fd:4\"\n format = \"raw\"\n").is_ok());
        let set = |pair| line(&["-drive", "id=d,format=raw,file=x", "-set", pair]);
        assert!(set("drive.d.file=fd:4").unwrap_err().to_string().contains("drive.d.file.filename=fd:4"));
        let words = ["-drive", "id=d,format=raw", "-set", "drive.d.file.filename=fd:4"];
        assert_eq!(line(&words).unwrap().image_descriptors().count(), 1);
        // What -set puts in its place is what counts.
        let found = line(&["-drive", "id=d,format=raw,file=fd:4", "-set", "drive.d.file=x"]).unwrap();
        assert_eq!((found.image_descriptors().count(), word(&found)), (0, "id=d,format=raw,file=fd:4"));
    }

    #[test]
    fn what_is_said_of_the_cache_is_known() {
        let silent = line(&["-drive", "file=fd:4,format=raw"]).unwrap();
        assert_eq!(image(&silent).1.descriptor.unwrap().silent_word, Some(2));
        for (cache, direct) in
            [("cache=none", true), ("cache=directsync", true), ("cache=writeback", false), ("cache.direct=on", true)]
        {
            let found = line(&["-drive", &format!("file=fd:4,format=raw,{cache}")]).unwrap();
            let descriptor = image(&found).1.descriptor.unwrap();
            assert_eq!((descriptor.direct, descriptor.silent_word), (direct, None));
        }
        let node = r#"{"driver":"raw","file":{"driver":"file","filename":"fd:4","cache":{"direct":true}}}"#;
        assert!(image(&line(&["-blockdev", node]).unwrap()).1.descriptor.unwrap().direct);
    }
}
