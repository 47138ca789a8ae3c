//! The guest's state is saved, inside of its image or beside it, and loaded again.

use serde_json::json;
use tests::parity::{Cache, Guest, Image, Operation, Session, Variant, with};
use tests::{ORDINARY_USER, Result};

use crate::{PLAIN, WRITING};

const DRIVE: Variant = Variant::DRIVE;
const BLOCKDEV: Variant = Variant::BLOCKDEV;
const BLOCKDEV_WRITING: Variant = Variant { guest: Guest::Writing, ..BLOCKDEV };

parity! {
    savevm: SAVEVM, DRIVE;
    savevm_while_the_guest_writes: SAVEVM, Variant { cache: Cache::None, ..WRITING };
    loadvm_at_the_start: LOADVM_AT_START, DRIVE;
    snapshot_jobs: SNAPSHOT_JOBS, BLOCKDEV;
    save: SAVE, WRITING;
    save_past_the_hosts_cache: SAVE, Variant { cache: Cache::None, ..BLOCKDEV_WRITING };
    save_of_a_link: SAVE, Variant { guest: Guest::Writing, image: Image::Link, ..Variant::RELATIVE };
    save_of_a_strange_name: SAVE, Variant { folder: "a,b c é", ..WRITING };
    save_of_a_block_device: SAVE, Variant { image: Image::Device, ..WRITING };
    save_of_a_user: SAVE, Variant { user: Some(ORDINARY_USER), ..WRITING };
    load: LOAD, WRITING;
    load_with_blockdev: LOAD, BLOCKDEV_WRITING;
    variables: VARIABLES, WRITING;
    variables_of_nodes: VARIABLES_OF_NODES, BLOCKDEV_WRITING;
}

const SAVEVM: Operation = Operation {
    row: "`savevm`, `loadvm`, `delvm`",
    script: |guest| {
        guest.write_disk(1, 512)?;
        guest.hmp("savevm one")?;
        guest.hmp("savevm two")?;
        guest.write_disk(2, 512)?;
        guest.let_guest_write()?;
        guest.hmp("loadvm one")?;
        guest.hmp("delvm two")?;
        guest.write_disk(3, 576)?;
        guest.let_guest_write()
    },
    ..PLAIN
};

const LOADVM_AT_START: Operation = Operation {
    row: "`savevm`, start with `-loadvm`",
    script: |guest| {
        guest.write_disk(1, 512)?;
        guest.hmp("savevm one")?;
        guest.write_disk(2, 512)?;
        guest.restart(&["-loadvm", "one"])?;
        guest.write_disk(3, 576)
    },
    ..PLAIN
};

const SNAPSHOT_JOBS: Operation = Operation {
    row: "`snapshot-save`, `snapshot-load`, `snapshot-delete`",
    script: |guest| {
        let of_disk = json!({ "job-id": "job", "tag": "one", "devices": ["disk"] });
        let with_state = with(of_disk.clone(), json!({ "vmstate": "disk" }));
        guest.write_disk(1, 512)?;
        guest.job("snapshot-save", with_state.clone())?;
        guest.write_disk(2, 512)?;
        guest.job("snapshot-load", with_state)?;
        guest.job("snapshot-delete", of_disk)
    },
    ..PLAIN
};

const SAVE: Operation = Operation {
    row: "`migrate` to a descriptor, `cont`",
    script: |guest| {
        guest.write_disk(1, 512)?;
        guest.save()?;
        guest.qmp("cont", json!({}))?;
        guest.write_disk(2, 576)?;
        guest.let_guest_write()
    },
    ..PLAIN
};

const LOAD: Operation = Operation {
    row: "`migrate-incoming` from a descriptor, `cont`",
    script: |guest| {
        guest.write_disk(1, 512)?;
        guest.save()?;
        guest.restart_from_saved()?;
        guest.qmp("cont", json!({}))?;
        guest.write_disk(2, 576)?;
        guest.let_guest_write()
    },
    ..PLAIN
};

const VARIABLES: Operation = Operation {
    row: "firmware variables with `-drive if=pflash`, through `migrate` and back",
    arguments: &[
        "-drive",
        "if=pflash,unit=0,format=raw,readonly=on,file={firmware.fd}",
        "-drive",
        "if=pflash,unit=1,format=raw,id=variables,file={variables.fd}",
    ],
    script: |guest| write_variables(guest, "variables"),
    ..PLAIN
};

const VARIABLES_OF_NODES: Operation = Operation {
    row: "firmware variables with `-machine pflash1=`, through `migrate` and back",
    arguments: &[
        "-blockdev",
        "driver=file,node-name=firmware,read-only=on,filename={firmware.fd}",
        "-blockdev",
        "driver=file,node-name=variables,auto-read-only=on,filename={variables.fd}",
        "-machine",
        "pc,pflash0=firmware,pflash1=variables",
    ],
    script: |guest| write_variables(guest, "variables"),
    ..PLAIN
};

/// Writes the second flash, before a save, after it, and after a load.
fn write_variables(guest: &mut Session, drive: &str) -> Result<()> {
    let write = |byte: u8| format!("qemu-io {drive} \"write -q -P {byte} {}k 4k\"", 4 * byte);
    guest.hmp(&write(1))?;
    guest.save()?;
    guest.qmp("cont", json!({}))?;
    guest.hmp(&write(2))?;
    guest.save()?;
    guest.restart_from_saved()?;
    guest.qmp("cont", json!({}))?;
    guest.hmp(&write(3))
}
