//! CD-ROM drives and floppy drives get other media.

use std::fs;

use serde_json::json;
use tests::parity::{Cache, Form, Guest, Image, Operation, Session, Variant, with};
use tests::{During, Result};

use crate::WRITING;

const DRIVE: Variant = Variant::DRIVE;
const ON_DEVICE: Variant = Variant { medium: Image::Device, ..DRIVE };

parity! {
    change: CHANGE, DRIVE;
    change_while_the_guest_writes: CHANGE, WRITING;
    change_of_relative_names: CHANGE, Variant::RELATIVE;
    change_of_probed_format: CHANGE_PROBED, DRIVE;
    change_of_probed_format_past_the_hosts_cache: CHANGE_PROBED, Variant { cache: Cache::None, ..DRIVE };
    change_to_a_file_in_a_folder: CHANGE_TO_FOLDER, DRIVE;
    change_to_a_file_that_came_later: CHANGE_TO_LATER, DRIVE;
    change_to_a_strange_name: CHANGE_TO_LATER, Variant { folder: "a,b c é", ..DRIVE };
    change_to_a_link: CHANGE, Variant { medium: Image::Link, ..DRIVE };
    change_to_a_block_device: CHANGE_TO_DEVICE, ON_DEVICE;
    change_to_a_block_device_while_the_guest_writes: CHANGE_TO_DEVICE, Variant { guest: Guest::Writing, ..ON_DEVICE };
    change_by_people: BY_PEOPLE, DRIVE;
    eject: EJECT, DRIVE;
    tray: TRAY, DRIVE;
    insert: INSERT, Variant { form: Form::Blockdev, ..DRIVE };
    floppy: FLOPPY, DRIVE;
}

const CDROM: &[&str] = &[
    "-drive",
    "id=medium,if=none,media=cdrom,format=raw,file={media/first.img}",
    "-device",
    "ide-cd,id=cd,drive=medium",
];

const CHANGE: Operation = Operation {
    row: "`blockdev-change-medium` with `format`",
    options: "--medium PATH",
    arguments: CDROM,
    script: |guest| put_in(guest, "cd", guest.second_medium(), Some("raw")),
};

const CHANGE_PROBED: Operation = Operation {
    row: "`blockdev-change-medium` without `format`",
    script: |guest| put_in(guest, "cd", guest.second_medium(), None),
    ..CHANGE
};

const CHANGE_TO_DEVICE: Operation = Operation { row: "`blockdev-change-medium` to a block device", ..CHANGE_PROBED };

const CHANGE_TO_FOLDER: Operation =
    Operation { row: "`blockdev-change-medium` to a file in a folder of media", options: "--medium-dir DIR", ..CHANGE };

const CHANGE_TO_LATER: Operation = Operation {
    row: "`blockdev-change-medium` to a file that was put into the folder after the start",
    script: |guest| {
        let name = "media/é, later.img";
        let path = guest.path(name);
        fs::copy(guest.path("media/second.img"), &path).during(format!("copy to {}", path.display()))?;
        put_in(guest, "cd", name, Some("raw"))
    },
    ..CHANGE_TO_FOLDER
};

const BY_PEOPLE: Operation = Operation {
    row: "`change` (HMP)",
    script: |guest| {
        for name in ["media/second.img", "media/first.img"] {
            let name = guest.name(name);
            guest.hmp(&format!("change medium \"{name}\" raw"))?;
            read_medium(guest, "cd")?;
        }
        Ok(())
    },
    ..CHANGE
};

const EJECT: Operation = Operation {
    row: "`eject`, then `blockdev-change-medium`",
    script: |guest| {
        guest.qmp("eject", json!({ "id": "cd" }))?;
        put_in(guest, "cd", guest.second_medium(), Some("raw"))?;
        guest.hmp("eject medium")?;
        put_in(guest, "cd", "media/first.img", Some("raw"))
    },
    ..CHANGE
};

const TRAY: Operation = Operation {
    row: "`blockdev-open-tray`, `blockdev-close-tray`",
    options: "",
    script: |guest| {
        guest.qmp("blockdev-open-tray", json!({ "id": "cd" }))?;
        guest.qmp("blockdev-close-tray", json!({ "id": "cd" }))?;
        read_medium(guest, "cd")
    },
    ..CHANGE
};

const INSERT: Operation = Operation {
    row: "`blockdev-remove-medium`, `blockdev-add`, `blockdev-insert-medium`",
    script: |guest| {
        let name = guest.name("media/second.img");
        let node = json!({ "driver": "file", "node-name": "second", "filename": name, "read-only": true });
        guest.qmp("blockdev-add", node)?;
        guest.qmp("blockdev-open-tray", json!({ "id": "cd" }))?;
        guest.qmp("blockdev-remove-medium", json!({ "id": "cd" }))?;
        guest.qmp("blockdev-insert-medium", json!({ "id": "cd", "node-name": "second" }))?;
        guest.qmp("blockdev-close-tray", json!({ "id": "cd" }))?;
        read_medium(guest, "cd")
    },
    ..CHANGE
};

const FLOPPY: Operation = Operation {
    row: "`blockdev-change-medium` of a floppy",
    arguments: &[
        "-drive",
        "id=medium,if=none,format=raw,readonly=on,file={media/first.img}",
        "-device",
        "floppy,id=floppy,drive=medium",
    ],
    script: |guest| put_in(guest, "floppy", "media/second.img", Some("raw")),
    ..CHANGE
};

/// Puts a medium into a drive, and has it read.
fn put_in(guest: &mut Session, drive: &str, medium: &str, format: Option<&str>) -> Result<()> {
    let change = json!({ "id": drive, "filename": guest.name(medium), "read-only-mode": "read-only" });
    let format = format.map_or(json!({}), |format| json!({ "format": format }));
    guest.qmp("blockdev-change-medium", with(change, format))?;
    read_medium(guest, drive)
}

/// Expects that a drive's medium can be read, and keeps what is known of it.
fn read_medium(guest: &mut Session, drive: &str) -> Result<()> {
    guest.hmp(&format!("qemu-io -d {drive} \"read -q 0 64k\""))?;
    guest.qmp("query-block", json!({})).map(drop)
}
