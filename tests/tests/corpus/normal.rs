//! What differs between two starts of the same program is taken out, each with its reason, and nothing else.

use serde_json::Value;
use tests::Workdir;

/// Numbers that the host gives: threads, and the blocks that a file system spends on a copy.
const PASSING: &[&str] = &["thread-id", "actual-size"];

/// Behind them, QEMU's own names of nodes and of character devices end in two random digits (`id_generate`, util/id.c).
const NAMES: [&str; 2] = ["#block", "#chr"];

/// Behind it stand six random letters, of an overlay that goes with QEMU (`create_tmp_file`, block.c).
const OVERLAY: &str = "/var/tmp/vl.";
const RANDOM_LETTERS: usize = 6;

/// Behind it stands the number of a terminal, the next one that is free on the host.
const TERMINAL: &str = "/dev/pts/";

/// Makes what one side said comparable.
#[derive(Debug)]
pub(crate) struct Normal {
    folder: String,
}

impl Normal {
    /// For what is run in this folder: each side has one of its own.
    pub(crate) fn new(workdir: &Workdir) -> Self {
        Self { folder: workdir.files().to_string_lossy().into_owned() }
    }

    pub(crate) fn value(&self, value: Value) -> Value {
        match value {
            Value::Object(object) => {
                let stays = object.into_iter().filter(|(key, _)| !PASSING.contains(&key.as_str()));
                Value::Object(stays.map(|(key, value)| (key, self.value(value))).collect())
            }
            Value::Array(values) => Value::Array(values.into_iter().map(|value| self.value(value)).collect()),
            Value::String(text) => Value::String(self.text(&text)),
            other => other,
        }
    }

    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.replace(&self.folder, "$DIR");
        for name in NAMES {
            text = without(&text, name, |rest| random_digits(rest, 2));
        }
        text = without(&text, OVERLAY, |rest| (0, RANDOM_LETTERS.min(rest.len())));
        without(&text, TERMINAL, |rest| random_digits(rest, usize::MAX))
    }

    /// A list whose order depends on random names: QEMU keeps its parts by their hash (`object_property_iter_next`).
    pub(crate) fn list(&self, value: Value) -> String {
        match self.value(value) {
            Value::Array(values) => {
                let mut texts: Vec<String> = values.iter().map(Value::to_string).collect();
                texts.sort_unstable();
                texts.join(",")
            }
            other => other.to_string(),
        }
    }
}

/// Of the digits at the beginning of `rest`, how many stay, and how many, of the last `count`, go.
fn random_digits(rest: &str, count: usize) -> (usize, usize) {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    (digits.saturating_sub(count), digits.min(count))
}

/// Replaces by a star what is random behind each `mark`: `random` says how many bytes stay, and how many behind them go.
fn without(text: &str, mark: &str, random: impl Fn(&str) -> (usize, usize)) -> String {
    let mut parts = text.split(mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (stay, go) = random(part);
        out.extend([mark, part.get(..stay).unwrap_or_default(), "*", part.get(stay + go..).unwrap_or_default()]);
    }
    out
}

#[test]
fn only_random_digits_go() {
    let workdir = Normal { folder: "/tmp/x".to_owned() };
    assert_eq!(workdir.text("/tmp/x/a #block12345 #chr017 /dev/pts/17."), "$DIR/a #block123* #chr0* /dev/pts/*.");
    assert_eq!(workdir.text("\"/var/tmp/vl.aB3xYz\""), "\"/var/tmp/vl.*\"");
    let value = serde_json::json!([{ "thread-id": 1, "node-name": "#block099" }]);
    assert_eq!(workdir.value(value), serde_json::json!([{ "node-name": "#block0*" }]));
}
