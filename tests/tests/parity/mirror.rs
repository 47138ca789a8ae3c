//! The disk is copied while it is used, and the guest may go on in the copy.

use serde_json::{Value, json};
use tests::Result;
use tests::parity::{Cache, Guest, Image, Operation, Session, Variant, with};

use crate::{PLAIN, WRITING};

const DRIVE: Variant = Variant::DRIVE;
const BLOCKDEV: Variant = Variant::BLOCKDEV;

parity! {
    full: FULL, DRIVE;
    full_with_blockdev: FULL, BLOCKDEV;
    full_while_the_guest_writes: FULL, Variant { cache: Cache::None, ..WRITING };
    full_written_through: FULL, Variant { cache: Cache::Writethrough, ..DRIVE };
    full_of_relative_names: FULL, Variant::RELATIVE;
    full_of_strange_names: FULL, Variant { folder: "a,b c é", ..DRIVE };
    full_of_a_block_device: FULL, Variant { image: Image::Device, ..WRITING };
    top: TOP, DRIVE;
    top_while_the_guest_writes: TOP, WRITING;
    existing: EXISTING, DRIVE;
    cancelled: CANCELLED, DRIVE;
    cancelled_while_the_guest_writes: CANCELLED, WRITING;
    of_nodes: OF_NODES, BLOCKDEV;
    of_nodes_while_the_guest_writes: OF_NODES, Variant { guest: Guest::Writing, cache: Cache::None, ..BLOCKDEV };
}

const CREATE: Operation = Operation { options: "--allow create=DIR", ..PLAIN };

const FULL: Operation = Operation {
    row: "`drive-mirror` with `sync=full`, `block-job-complete`",
    script: |guest| {
        mirror(guest, json!({ "sync": "full", "format": "qcow2" }))?;
        pivot(guest)
    },
    ..CREATE
};

const TOP: Operation = Operation {
    row: "`drive-mirror` with `sync=top`, `block-job-complete`",
    script: |guest| {
        mirror(guest, json!({ "sync": "top", "format": "qcow2" }))?;
        pivot(guest)
    },
    ..CREATE
};

const EXISTING: Operation = Operation {
    row: "`drive-mirror` with `mode=existing` of a file that an earlier one made",
    script: |guest| {
        mirror(guest, json!({ "sync": "full", "format": "raw" }))?;
        cancel(guest)?;
        mirror(guest, json!({ "sync": "full", "format": "raw", "mode": "existing" }))?;
        pivot(guest)
    },
    ..CREATE
};

const CANCELLED: Operation = Operation {
    row: "`drive-mirror`, `block-job-cancel`",
    script: |guest| {
        mirror(guest, json!({ "sync": "full", "format": "qcow2" }))?;
        cancel(guest)?;
        guest.write_disk(3, 640)
    },
    ..CREATE
};

const OF_NODES: Operation = Operation {
    row: "`blockdev-create`, `blockdev-mirror`, `block-job-complete`",
    script: |guest| {
        let name = guest.name("copy");
        let file = json!({ "driver": "file", "filename": name, "size": 1 << 20 });
        guest.job("blockdev-create", json!({ "job-id": "job", "options": file }))?;
        guest.qmp("blockdev-add", json!({ "driver": "file", "node-name": "copy", "filename": name }))?;
        let arguments = json!({ "job-id": "job", "device": "disk", "target": "copy", "sync": "full" });
        guest.qmp("blockdev-mirror", arguments)?;
        wait_ready(guest)?;
        pivot(guest)
    },
    ..CREATE
};

/// Starts a copy, and waits until it is kept equal to the disk.
fn mirror(guest: &mut Session, how: Value) -> Result<()> {
    let job = json!({ "job-id": "job", "device": "disk", "target": guest.name("copy") });
    guest.qmp("drive-mirror", with(job, how))?;
    wait_ready(guest)
}

/// Waits until the copy is kept equal to the disk, and lets the disk be written.
fn wait_ready(guest: &mut Session) -> Result<()> {
    guest.wait("BLOCK_JOB_READY")?;
    guest.write_disk(1, 512)?;
    guest.let_guest_write()
}

/// Lets the guest go on in the copy.
fn pivot(guest: &mut Session) -> Result<()> {
    guest.qmp("block-job-complete", json!({ "device": "job" }))?;
    guest.wait_job("job", "null")?;
    guest.write_disk(2, 576)?;
    guest.let_guest_write()
}

/// Ends the copy.
fn cancel(guest: &mut Session) -> Result<()> {
    guest.qmp("block-job-cancel", json!({ "device": "job" }))?;
    guest.wait_job("job", "null")
}
