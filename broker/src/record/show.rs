//! Records as the operator reads them.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::text::path_text;
use super::{Identity, Record};
use crate::shell;

/// One image a line, and beneath it what it may name.
pub fn write_words(out: &mut impl Write, records: &[Record]) -> io::Result<()> {
    for record in records {
        writeln!(out, "{} {}", shell::word(record.image.as_os_str()), record.format)?;
        for reference in &record.references {
            let path = shell::word(reference.path.as_os_str());
            writeln!(out, "  {} {path} {}", reference.role.name(), reference.format)?;
        }
    }
    Ok(())
}

/// The same as JSON, with paths as in the records themselves.
pub fn write_json(out: &mut impl Write, records: &[Record]) -> io::Result<()> {
    let records: Vec<Value> = records.iter().map(value).collect();
    serde_json::to_writer_pretty(&mut *out, &records)?;
    writeln!(out)
}

fn value(record: &Record) -> Value {
    let references: Vec<Value> = record
        .references
        .iter()
        .map(|reference| {
            let (inode, born) = numbers(reference.file);
            json!({
                "role": reference.role, "path": path_text(&reference.path), "inode": inode, "born": born,
                "format": reference.format,
            })
        })
        .collect();
    let (inode, born) = numbers(record.file);
    json!({
        "image": path_text(&record.image), "inode": inode, "born": born, "format": record.format,
        "references": references,
    })
}

fn numbers(file: Identity) -> (u64, Option<String>) {
    (file.inode, file.born_text())
}
