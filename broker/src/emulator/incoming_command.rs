//! `-incoming` from a command, which the broker runs outside of the sandbox.
//!
//! Source: `incoming_option_parse` in QEMU's `system/vl.c` and `exec_start_incoming_migration` in its `migration/exec.c`;
//! the channel of pairs or of JSON is `MigrationChannel` in `qapi/migration.json`, since 10.0.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::draft::Draft;
use super::error::Error;
use super::json;
use super::resource::IncomingCommand;
use super::value::Pairs;

/// Notes the command that `value` names, in the place of one that was named before; false if it names another source.
///
/// # Errors
/// [`Error::Malformed`] for a channel without a program.
pub(super) fn read(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<bool, Error> {
    draft.line.incoming = None;
    let words = match value.as_bytes().strip_prefix(b"exec:") {
        Some(command) => vec!["/bin/sh".into(), "-c".into(), OsStr::from_bytes(command).to_owned()],
        None => match channel(option, value)? {
            Some(words) => words,
            None => return Ok(false),
        },
    };
    if words.is_empty() {
        return Err(Error::malformed(option, "the channel names no program; give it as the first of addr.args"));
    }
    let Some(word) = draft.word else { return Ok(false) };
    draft.line.incoming = Some(IncomingCommand { option: option.to_owned(), words, word });
    Ok(true)
}

/// The words of a main channel that is a command.
fn channel(option: &str, value: &OsStr) -> Result<Option<Vec<OsString>>, Error> {
    let pairs = if value.as_bytes().starts_with(b"{") {
        json::pairs(option, value)?
    } else {
        Pairs::parse(option, value, Some("channel-type"))?
    };
    let is = |key, wanted: &str| pairs.get(key).is_some_and(|value| value == wanted);
    if !is("channel-type", "main") || !is("addr.transport", "exec") {
        return Ok(None);
    }
    Ok(Some((0..).map_while(|place| pairs.get(&format!("addr.args.{place}")).map(OsStr::to_owned)).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_not_served, line};

    fn words(value: &str) -> Vec<String> {
        let found = line(&["-S", "-incoming", value]).unwrap().incoming.unwrap();
        assert_eq!((found.word, found.option), (3, format!("-incoming {value}")));
        found.words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_command_is_the_shells() {
        assert_eq!(words("exec:zcat x | cat, y=z"), ["/bin/sh", "-c", "zcat x | cat, y=z"]);
        assert_eq!(words("exec:"), ["/bin/sh", "-c", ""]);
    }

    #[test]
    fn a_channel_gives_its_words() {
        let json = "{'channel-type':'main','addr':{'transport':'exec','args':['/bin/cat','a,b']}}";
        assert_eq!(words(json), ["/bin/cat", "a,b"]);
        assert_eq!(words("main,addr.transport=exec,addr.args.0=/bin/cat,addr.args.1=a,,b"), ["/bin/cat", "a,b"]);
        assert!(line(&["-incoming", "main,addr.transport=exec"]).is_err());
        assert_not_served(&[&["-incoming", "cpr,addr.transport=exec,addr.args.0=/bin/cat"]]);
    }

    #[test]
    fn the_last_source_counts() {
        assert_eq!(line(&["-incoming", "exec:a", "-incoming", "defer"]).unwrap().incoming, None);
        let found = line(&["-incoming", "defer", "-incoming", "exec:a", "-incoming", "exec:b"]).unwrap();
        assert_eq!(found.incoming.unwrap().words[2], "b");
    }
}
