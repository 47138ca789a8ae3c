//! QEMU's words for the guest and its disk.

use serde_json::json;

use crate::command::PLAIN_QEMU;
use crate::parity::place::Place;
use crate::parity::variant::{Cache, Form, Guest, Image, Variant};
use crate::parity::with;

/// The guest: its first serial port on standard output, its memory small enough to be dumped often, and no clock that
/// tells the time of day.
const GUEST: &[&str] = &["-accel", "tcg", "-serial", "stdio", "-m", "16", "-rtc", "base=2001-02-03T04:05:06,clock=vm"];

/// All words but those of the operation.
pub(super) fn arguments(variant: &Variant, place: &Place) -> Vec<String> {
    let mut words: Vec<String> = [PLAIN_QEMU, GUEST].concat().into_iter().map(str::to_owned).collect();
    if variant.guest == Guest::Stopped {
        words.push("-S".to_owned());
    }
    let disk = place.name(variant.disk());
    let format = if variant.image == Image::Device { "raw" } else { "qcow2" };
    words.extend(match variant.form {
        Form::Drive => drive(variant, format, &disk),
        Form::Blockdev => blockdev(variant, "disk", format, &disk, None),
        Form::Nodes => [
            blockdev(variant, "base", "raw", &place.name("base.raw"), None),
            blockdev(variant, "mid", "qcow2", &place.name("mid.qcow2"), Some("base")),
            blockdev(variant, "disk", "qcow2", &disk, Some("mid")),
        ]
        .concat(),
    });
    let cache = if variant.cache == Cache::Writethrough { ",write-cache=off" } else { "" };
    words.extend(["-device".to_owned(), format!("virtio-blk-pci,id=vd0,drive=disk{cache}")]);
    words
}

/// The disk as `-drive`.
fn drive(variant: &Variant, format: &str, file: &str) -> Vec<String> {
    let cache = match variant.cache {
        Cache::None => "none",
        Cache::Writeback => "writeback",
        Cache::Writethrough => "writethrough",
    };
    let file = file.replace(',', ",,");
    vec!["-drive".to_owned(), format!("id=disk,if=none,format={format},cache={cache},file={file}")]
}

/// An image as two `-blockdev`: the node `name` over the node of the file. All but the disk are read-only.
fn blockdev(variant: &Variant, name: &str, format: &str, file: &str, backing: Option<&str>) -> Vec<String> {
    let driver = if variant.image == Image::Device { "host_device" } else { "file" };
    let cache = json!({ "direct": variant.cache == Cache::None });
    let below = format!("{name}-file");
    let file = json!({
        "driver": driver, "node-name": below, "filename": file, "auto-read-only": true, "cache": cache,
    });
    let node = json!({ "driver": format, "node-name": name, "file": below, "cache": cache });
    let backing = backing.map_or(json!({}), |backing| json!({ "backing": backing }));
    let access = if name == "disk" { json!({}) } else { json!({ "read-only": true }) };
    let node = with(with(node, backing), access);
    ["-blockdev".to_owned(), file.to_string(), "-blockdev".to_owned(), node.to_string()].into()
}
