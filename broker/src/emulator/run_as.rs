//! Another user and another root for QEMU: what it would do once it has opened all, the broker does before it starts.
//!
//! Source: `os_parse_cmd_args` and `os_set_runas` in QEMU's `os-posix.c`. `-chroot` went in 9.0, `-runas` in 10.0;
//! `-run-with` has `chroot=` since 8.1 and `user=` since 9.1. All forms mean the same here, whatever QEMU is installed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use super::draft::{Draft, Group};
use super::error::Error;
use super::{process, value};

/// Who QEMU is to become (`-runas`, `-run-with user=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// The option, as typed, for messages.
    pub option: String,
    /// A name, or `UID:GID`.
    pub user: OsString,
}

/// What QEMU is to take for its root (`-chroot`, `-run-with chroot=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoot {
    /// The option, as typed, for messages.
    pub option: String,
    /// Its path, relative to the folder of the start if it is relative.
    pub folder: OsString,
}

/// Keys of `-run-with` that QEMU does not get.
const DROPPED: [&str; 2] = ["user", "chroot"];

/// `-runas`; of several users, the last.
///
/// # Errors
/// None.
pub(super) fn run_as(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    draft.line.run_as = Some(RunAs { option: option.to_owned(), user: value.to_owned() });
    drop_option(draft, draft.word);
    Ok(())
}

/// `-chroot`; of several folders, the last.
///
/// # Errors
/// None.
pub(super) fn chroot(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    draft.line.new_root = Some(NewRoot { option: option.to_owned(), folder: value.to_owned() });
    drop_option(draft, draft.word);
    Ok(())
}

/// `-run-with`.
///
/// # Errors
/// [`Error::NotServed`] for a key that neither QEMU 7.2 nor 10.0 has, and for a section of a configuration file, which
/// QEMU reads and does not follow.
pub(super) fn run_with(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let known = |key: &str| key == "async-teardown" || DROPPED.contains(&key);
    if let Some((key, _)) = group.pairs.iter().find(|(key, _)| !known(key)) {
        return Err(Error::not_known(&group.option, key, "leave it out; no QEMU up to 10.0 has it"));
    }
    if group.pairs.switch(&group.option, "async-teardown")? == Some(true) {
        process::async_teardown(draft, &group.option)?;
    }
    let (user, folder) = (group.pairs.get("user"), group.pairs.get("chroot"));
    if user.is_none() && folder.is_none() {
        return Ok(());
    }
    let Some(word) = group.word else {
        return Err(Error::not_served(&group.option, "the section", "QEMU ignores it; say -run-with instead"));
    };
    let option = &group.option;
    if let Some(user) = user {
        draft.line.run_as = Some(RunAs { option: option.clone(), user: user.to_owned() });
    }
    if let Some(folder) = folder {
        draft.line.new_root = Some(NewRoot { option: option.clone(), folder: folder.to_owned() });
    }
    keep_the_rest(draft, option, word)
}

/// Leaves of the word at `word` what is QEMU's, or nothing of the option if none of it is.
fn keep_the_rest(draft: &mut Draft<'_>, option: &str, word: usize) -> Result<(), Error> {
    let Some(typed) = draft.line.argv.get_mut(word) else { return Ok(()) };
    let mut kept = value::segments(option, typed, None)?;
    kept.retain(|(key, _)| !DROPPED.contains(&key.as_str()));
    if kept.is_empty() {
        drop_option(draft, Some(word));
    } else {
        let words: Vec<Vec<u8>> = kept.into_iter().map(|(_, bytes)| bytes).collect();
        *typed = OsString::from_vec(words.join(&b','));
    }
    Ok(())
}

/// Takes the argument at `word`, and the option before it, out of what is executed.
fn drop_option(draft: &mut Draft<'_>, word: Option<usize>) {
    if let Some(word) = word {
        draft.line.dropped.extend([word.saturating_sub(1), word]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::CommandLine;
    use super::super::testing::{assert_harmless, assert_not_served, line};

    fn executed(line: &CommandLine) -> Vec<&str> {
        line.executed().skip(1).map(|word| word.to_str().unwrap()).take_while(|word| *word != "-nic").collect()
    }

    fn user(line: &CommandLine) -> &str {
        line.run_as.as_ref().unwrap().user.to_str().unwrap()
    }

    #[test]
    fn the_user_and_the_root_are_the_brokers_to_change() {
        let found = line(&["-S", "-runas", "nobody", "-chroot", "/x", "-runas", "1:2", "-usb"]).unwrap();
        assert_eq!(user(&found), "1:2");
        assert_eq!(found.run_as.as_ref().unwrap().option, "-runas 1:2");
        assert_eq!(found.new_root.as_ref().unwrap().folder, "/x");
        assert_eq!(executed(&found), ["-S", "-usb"]);
    }

    #[test]
    fn what_else_stands_in_run_with_stays() {
        let found = line(&["-run-with", "user=a,,b,async-teardown=on,chroot=/x"]).unwrap();
        assert_eq!((user(&found), found.forks), ("a,b", true));
        assert_eq!(found.new_root.as_ref().unwrap().folder, "/x");
        assert_eq!(executed(&found), ["-run-with", "async-teardown=on"]);
        let found = line(&["-run-with", "async-teardown=off", "-S", "--run-with", "user=a,user=b"]).unwrap();
        assert_eq!((user(&found), found.forks), ("b", false));
        assert_eq!(executed(&found), ["-run-with", "async-teardown=off", "-S"]);
    }

    #[test]
    fn the_rest_of_run_with() {
        assert_harmless(&[&["-run-with", "async-teardown=on"], &["-run-with", ""], &["-async-teardown"]]);
        assert_not_served(&[&["-run-with", "exit-with-parent=on"]]);
        assert!(line(&["-run-with", "async-teardown=perhaps"]).is_err());
    }
}
