//! What differs between two runs of the same program is taken out, and nothing else.

use serde_json::Value;

use crate::parity::place::Place;
use crate::parity::variant::{Guest, Variant};

/// Times, what depends on the order of parallel writes, and numbers that the host gives.
const PASSING: &[&str] = &[
    "actual-size",
    "date-nsec",
    "date-sec",
    "fragmented-clusters",
    "icount",
    "image-end-offset",
    "thread-id",
    "timestamp",
    "vm-clock-nsec",
    "vm-clock-sec",
    "vm-state-size",
];

/// What depends on how much a running guest has written, and when.
const PROGRESS: &[&str] = &["allocated-clusters", "current-progress", "len", "offset", "total-progress"];

/// QEMU's own names for nodes end in two random digits (`id_generate`, util/id.c).
const NODE: &str = "#block";
const RANDOM_DIGITS: usize = 2;

/// The names of temporary files end in random letters (`create_tmp_file`, block.c).
const TEMPORARY: &str = "/vl.";
const RANDOM_LETTERS: usize = 6;

/// Makes values and texts of one side comparable with those of the other.
#[derive(Debug)]
pub(crate) struct Normal {
    replaced: Vec<(String, &'static str)>,
    progress_counts: bool,
}

impl Normal {
    /// For the files of this place.
    pub(crate) fn new(place: &Place, variant: &Variant) -> Self {
        let folders = [(place.workdir.files(), "FILES"), (place.workdir.aside(), "ASIDE")].into_iter();
        let devices = place.devices.iter().map(|(name, device)| (device.clone(), *name));
        let replaced = folders.chain(devices).map(|(path, name)| (path.to_string_lossy().into_owned(), name)).collect();
        Self { replaced, progress_counts: variant.guest == Guest::Stopped }
    }

    /// A value without what passes.
    pub(crate) fn value(&self, value: Value) -> Value {
        match value {
            Value::Object(object) => {
                // What is the size of a file here is that of a disk elsewhere.
                let is_file = object.get("format").and_then(Value::as_str) == Some("file");
                let progresses = |key: &str| PROGRESS.contains(&key) || (is_file && key == "virtual-size");
                let stays = |key: &str| !PASSING.contains(&key) && (self.progress_counts || !progresses(key));
                let entries = object.into_iter().filter(|(key, _)| stays(key));
                Value::Object(entries.map(|(key, value)| (key, self.value(value))).collect())
            }
            Value::Array(values) => Value::Array(values.into_iter().map(|value| self.value(value)).collect()),
            Value::String(text) => Value::String(self.text(&text)),
            other => other,
        }
    }

    /// A text with the place and random parts of names replaced.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, name) in &self.replaced {
            text = text.replace(path, name);
        }
        let text = shorten(&text, NODE, |rest| {
            rest.bytes()
                .take_while(u8::is_ascii_digit)
                .count()
                .checked_sub(RANDOM_DIGITS)
                .map(|kept| (kept, RANDOM_DIGITS))
        });
        shorten(&text, TEMPORARY, |rest| {
            let letters = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            (letters >= RANDOM_LETTERS).then_some((0, RANDOM_LETTERS))
        })
    }
}

/// Replaces by `*` a random part behind each `mark`: `random` says how many bytes after the mark are kept, and how many
/// follow that are random.
fn shorten(text: &str, mark: &str, random: impl Fn(&str) -> Option<(usize, usize)>) -> String {
    let mut parts = text.split(mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(mark);
        let pieces = random(part).and_then(|(kept, count)| Some((part.get(..kept)?, part.get(kept + count..)?)));
        match pieces {
            Some((kept, rest)) => out.extend([kept, "*", rest]),
            None => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_parts_of_names_are_taken_out_and_nothing_else() {
        let normal = Normal { replaced: vec![("/tmp/x".to_owned(), "FILES")], progress_counts: true };
        assert_eq!(normal.text("node #block12345 of /tmp/x/a.raw"), "node #block123* of FILES/a.raw");
        assert_eq!(normal.text("#block1 and #block"), "#block1 and #block");
        assert_eq!(normal.text("/var/tmp/vl.aB3xYz: gone"), "/var/tmp/vl.*: gone");
    }

    #[test]
    fn values_lose_times_at_any_depth() {
        let normal = Normal { replaced: Vec::new(), progress_counts: false };
        let value = serde_json::json!([{ "timestamp": 1, "data": { "len": 5, "actual-size": 3, "device": "disk" } }]);
        assert_eq!(normal.value(value), serde_json::json!([{ "data": { "device": "disk" } }]));
    }
}
