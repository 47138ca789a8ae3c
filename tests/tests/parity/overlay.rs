//! Live snapshots: the guest goes on in a new overlay.

use serde_json::{Value, json};
use tests::parity::{Cache, Guest, Image, Operation, Session, Variant, with};
use tests::{ORDINARY_USER, Result};

use crate::{PLAIN, WRITING};

const DRIVE: Variant = Variant::DRIVE;
const BLOCKDEV: Variant = Variant::BLOCKDEV;

parity! {
    new: NEW, DRIVE;
    new_with_blockdev: NEW, BLOCKDEV;
    new_while_the_guest_writes: NEW, Variant { cache: Cache::None, ..WRITING };
    new_of_relative_names: NEW, Variant::RELATIVE;
    new_of_strange_names: NEW, Variant { folder: "a,b c é", ..DRIVE };
    new_over_a_link: NEW, Variant { image: Image::Link, ..WRITING };
    new_over_a_block_device: NEW, Variant { image: Image::Device, ..DRIVE };
    new_of_a_user: NEW, Variant { user: Some(ORDINARY_USER), ..WRITING };
    by_people: BY_PEOPLE, DRIVE;
    existing: EXISTING, DRIVE;
    existing_with_blockdev: EXISTING, BLOCKDEV;
    of_nodes: OF_NODES, BLOCKDEV;
    of_nodes_while_the_guest_writes: OF_NODES, Variant { guest: Guest::Writing, cache: Cache::None, ..BLOCKDEV };
    and_save: AND_SAVE, WRITING;
    and_commit: AND_COMMIT, DRIVE;
    and_commit_while_the_guest_writes: AND_COMMIT, Variant { guest: Guest::Writing, ..DRIVE };
    and_commit_into_a_block_device: AND_COMMIT, Variant { image: Image::Device, ..WRITING };
    and_commit_by_names: AND_COMMIT_BY_NAMES, DRIVE;
    and_commit_by_relative_names: AND_COMMIT_BY_NAMES, Variant { guest: Guest::Writing, ..Variant::RELATIVE };
    and_commit_by_strange_names: AND_COMMIT_BY_NAMES, Variant { folder: "a,b c é", ..DRIVE };
}

const CREATE: Operation = Operation { options: "--allow create=DIR", ..PLAIN };

const NEW: Operation = Operation {
    row: "`blockdev-snapshot-sync` into a new file",
    script: |guest| {
        take(guest, "overlay.qcow2", json!({}))?;
        guest.write_disk(1, 512)?;
        guest.let_guest_write()
    },
    ..CREATE
};

const BY_PEOPLE: Operation = Operation {
    row: "`snapshot_blkdev` (HMP)",
    script: |guest| {
        let name = guest.name("overlay.qcow2");
        guest.qmp(
            "human-monitor-command",
            json!({ "command-line": format!("snapshot_blkdev disk \"{name}\" qcow2") }),
        )?;
        guest.write_disk(1, 512)
    },
    ..CREATE
};

const EXISTING: Operation = Operation {
    row: "`blockdev-snapshot-sync` with `mode=existing` of a file made by `blockdev-create`",
    script: |guest| {
        let disk = guest.disk();
        create_overlay(guest, &disk)?;
        guest.qmp("blockdev-del", json!({ "node-name": "overlay-file" }))?;
        take(guest, "overlay.qcow2", json!({ "mode": "existing" }))?;
        guest.write_disk(1, 512)?;
        guest.let_guest_write()
    },
    ..CREATE
};

const OF_NODES: Operation = Operation {
    row: "`blockdev-snapshot` with a node made by `blockdev-create`",
    script: |guest| {
        let disk = guest.disk();
        create_overlay(guest, &disk)?;
        let overlay = json!({ "driver": "qcow2", "node-name": "overlay", "file": "overlay-file", "backing": null });
        guest.qmp("blockdev-add", overlay)?;
        guest.qmp("blockdev-snapshot", json!({ "node": "disk", "overlay": "overlay" }))?;
        guest.write_disk(1, 512)?;
        guest.let_guest_write()
    },
    ..CREATE
};

const AND_SAVE: Operation = Operation {
    row: "`blockdev-snapshot-sync`, then `migrate` to a descriptor and `cont`",
    script: |guest| {
        take(guest, "overlay.qcow2", json!({}))?;
        guest.let_guest_write()?;
        guest.save()?;
        guest.qmp("cont", json!({}))?;
        guest.write_disk(1, 512)?;
        guest.let_guest_write()
    },
    ..CREATE
};

const AND_COMMIT: Operation = Operation {
    row: "`blockdev-snapshot-sync`, then `block-commit` back into the image of the command line",
    script: |guest| {
        take(guest, "overlay.qcow2", json!({}))?;
        guest.write_disk(1, 512)?;
        let base = guest.disk();
        guest.qmp("block-commit", json!({ "job-id": "job", "device": "disk", "base": base }))?;
        guest.wait("BLOCK_JOB_READY")?;
        guest.write_disk(2, 576)?;
        guest.qmp("block-job-complete", json!({ "device": "job" }))?;
        guest.wait_job("job", "null")?;
        guest.write_disk(3, 640)?;
        guest.let_guest_write()
    },
    ..CREATE
};

const AND_COMMIT_BY_NAMES: Operation = Operation {
    row: "`blockdev-snapshot-sync` three times, then `block-commit` of the second file into the first, by file names",
    script: |guest| {
        for (byte, name) in [(1, "one.qcow2"), (2, "two.qcow2"), (3, "three.qcow2")] {
            take(guest, name, json!({}))?;
            guest.write_disk(byte, 512 + 32 * u32::from(byte))?;
        }
        let (top, base) = (guest.name("two.qcow2"), guest.name("one.qcow2"));
        guest.qmp("block-commit", json!({ "job-id": "job", "device": "disk", "top": top, "base": base }))?;
        guest.wait_job("job", "null")?;
        guest.write_disk(4, 704)?;
        guest.let_guest_write()
    },
    ..CREATE
};

/// Takes a live snapshot of the disk into a file.
fn take(guest: &mut Session, name: &str, more: Value) -> Result<()> {
    let file = json!({ "snapshot-file": guest.name(name), "format": "qcow2" });
    let disk = match guest.has_nodes() {
        true => json!({ "node-name": "disk", "snapshot-node-name": "overlay" }),
        false => json!({ "device": "disk" }),
    };
    guest.qmp("blockdev-snapshot-sync", with(with(file, disk), more)).map(drop)
}

/// Makes `overlay.qcow2` with the node `overlay-file` over it, and names `backing` in its header.
fn create_overlay(guest: &mut Session, backing: &str) -> Result<()> {
    let name = guest.name("overlay.qcow2");
    let file = json!({ "driver": "file", "filename": name, "size": 0 });
    guest.job("blockdev-create", json!({ "job-id": "job", "options": file }))?;
    guest.qmp("blockdev-add", json!({ "driver": "file", "node-name": "overlay-file", "filename": name }))?;
    let image = json!({
        "driver": "qcow2", "file": "overlay-file", "size": 1 << 20, "backing-file": backing, "backing-fmt": "qcow2",
    });
    guest.job("blockdev-create", json!({ "job-id": "job", "options": image }))
}
