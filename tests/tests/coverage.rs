//! `broker plan --coverage` knows all that the installed QEMU has.

use std::process::{Command, Output};

use serde_json::Value;
use tests::{During, Error, Result, broker_binary, need};

fn coverage(words: &[&str]) -> Result<Output> {
    let mut command = Command::new(broker_binary()?);
    command.args(["plan", "--coverage"]).args(words).env_remove("LD_LIBRARY_PATH");
    command.output().during("start broker plan --coverage")
}

/// The names of a kind that stand so.
fn names<'c>(coverage: &'c Value, kind: &str, standing: &str) -> Vec<&'c str> {
    let rows = coverage.get("names").and_then(Value::as_array).into_iter().flatten();
    let is = |row: &&Value, key: &str, text: &str| row.get(key).and_then(Value::as_str) == Some(text);
    let found = rows.filter(|row| is(row, "kind", kind) && is(row, "standing", standing));
    found.filter_map(|row| row.get("name").and_then(Value::as_str)).collect()
}

#[test]
fn nothing_of_this_qemu_is_unknown() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let output = coverage(&["--json"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let found: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| Error::Unexpected(format!("{error}: {said}")))?;
    let kinds = [
        "option",
        "accelerator",
        "block driver",
        "chardev",
        "netdev",
        "object",
        "display",
        "sound driver",
        "tpm",
        "device",
    ];
    for kind in kinds {
        assert_eq!(names(&found, kind, "unknown"), [""; 0], "{kind}");
        let all = names(&found, kind, "served").len() + names(&found, kind, "refused").len();
        assert!(all > 1, "QEMU has more than {all} of kind {kind}");
    }
    assert!(names(&found, "option", "served").len() > 80);
    assert!(names(&found, "block driver", "served").contains(&"qcow2"));
    assert!(names(&found, "block driver", "refused").contains(&"rbd"));
    assert_eq!(output.status.code(), Some(0), "{said}");
    Ok(())
}

#[test]
fn the_text_says_why_something_is_refused_and_counts() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let output = coverage(&["--", "qemu-system-x86_64"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("qemu-system-x86_64 QEMU emulator version "), "{text}");
    let row = text.lines().find(|line| line.contains(" -plugin: "));
    assert!(row.is_some_and(|row| row.starts_with("refused  option")), "{row:?}");
    assert!(text.lines().filter(|line| line.ends_with("   0 unknown")).count() == 10, "{text}");
    Ok(())
}

#[test]
fn it_is_about_an_emulator_and_nothing_else() -> Result<()> {
    need!(Broker, Qemu);
    for words in [&["--", "qemu-img"][..], &["--", "qemu-system-x86_64", "-S"], &["--", "qemu-system-nothing"]] {
        let output = coverage(words)?;
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(125), true), "{words:?}");
    }
    Ok(())
}
