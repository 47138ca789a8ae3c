//! Copies of the disk as it was at one moment, and images that are made for them.

use serde_json::{Value, json};
use tests::Result;
use tests::parity::{Cache, Operation, Session, Variant, with};

use crate::{PLAIN, WRITING};

const DRIVE: Variant = Variant::DRIVE;
const BLOCKDEV: Variant = Variant::BLOCKDEV;

parity! {
    full: FULL, DRIVE;
    full_with_blockdev: FULL, BLOCKDEV;
    full_of_strange_names: FULL, Variant { folder: "a,b c é", ..DRIVE };
    full_past_the_hosts_cache: FULL, Variant { cache: Cache::None, ..DRIVE };
    in_a_transaction: IN_TRANSACTION, DRIVE;
    of_nodes: OF_NODES, BLOCKDEV;
    of_nodes_while_the_guest_writes: OF_NODES, WRITING;
    create_raw: CREATE_RAW, DRIVE;
    create_qcow2: CREATE_QCOW2, DRIVE;
    create_again: CREATE_AGAIN, DRIVE;
}

const CREATE: Operation = Operation { options: "--allow create=DIR", ..PLAIN };

const FULL: Operation = Operation {
    row: "`drive-backup`",
    script: |guest| {
        let target = guest.name("backup.qcow2");
        let arguments = json!({
            "job-id": "job", "device": "disk", "target": target, "sync": "full", "format": "qcow2",
        });
        guest.qmp("drive-backup", arguments)?;
        guest.write_disk(1, 128)?;
        guest.wait_job("job", "null")
    },
    ..CREATE
};

const IN_TRANSACTION: Operation = Operation {
    row: "`transaction` of `drive-backup` and `block-dirty-bitmap-add`, then an incremental `drive-backup`",
    script: |guest| {
        let target = guest.name("backup.raw");
        let backup = json!({
            "job-id": "job", "device": "disk", "target": target, "sync": "full", "format": "raw",
        });
        let actions = json!([
            { "type": "block-dirty-bitmap-add", "data": { "node": "disk", "name": "since" } },
            { "type": "drive-backup", "data": backup },
        ]);
        guest.qmp("transaction", json!({ "actions": actions }))?;
        guest.wait_job("job", "null")?;
        guest.write_disk(1, 128)?;
        let incremental = json!({ "sync": "incremental", "bitmap": "since", "mode": "existing" });
        guest.qmp("drive-backup", with(backup, incremental))?;
        guest.wait_job("job", "null")
    },
    ..CREATE
};

const OF_NODES: Operation = Operation {
    row: "`blockdev-create`, `blockdev-backup`",
    script: |guest| {
        create_file(guest, 1 << 20)?;
        let arguments = json!({ "job-id": "job", "device": "disk", "target": "new", "sync": "full" });
        guest.qmp("blockdev-backup", arguments)?;
        guest.write_disk(1, 128)?;
        guest.wait_job("job", "null")?;
        guest.let_guest_write()
    },
    ..CREATE
};

const CREATE_RAW: Operation =
    Operation { row: "`blockdev-create` of a raw image", script: |guest| create_file(guest, 3 << 20), ..CREATE };

const CREATE_QCOW2: Operation = Operation {
    row: "`blockdev-create` of a qcow2 image",
    script: |guest| {
        create_file(guest, 0)?;
        create(guest, json!({ "driver": "qcow2", "file": "new", "size": 3 << 20 }))
    },
    ..CREATE
};

const CREATE_AGAIN: Operation = Operation {
    row: "`blockdev-create` of a file that the guest has made before",
    script: |guest| {
        create_file(guest, 1 << 20)?;
        guest.hmp("qemu-io new \"write -q -P 1 0 64k\"")?;
        guest.qmp("blockdev-del", json!({ "node-name": "new" }))?;
        create_file(guest, 2 << 20)
    },
    ..CREATE
};

/// Makes the file `new`, and a node of the same name for it.
fn create_file(guest: &mut Session, size: u32) -> Result<()> {
    let name = guest.name("new");
    create(guest, json!({ "driver": "file", "filename": name, "size": size }))?;
    guest.qmp("blockdev-add", json!({ "driver": "file", "node-name": "new", "filename": name })).map(drop)
}

/// Makes an image.
fn create(guest: &mut Session, options: Value) -> Result<()> {
    guest.job("blockdev-create", json!({ "job-id": "job", "options": options }))
}
