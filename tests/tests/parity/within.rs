//! Images that the command line names are opened again, with other access or other flags.

use serde_json::json;
use tests::parity::{Cache, Guest, Image, Operation, Session, Variant};
use tests::{ORDINARY_USER, Result};

use crate::{PLAIN, WRITING};

const BLOCKDEV_WRITING: Variant = Variant { guest: Guest::Writing, ..Variant::BLOCKDEV };
const DEVICE: Variant = Variant { image: Image::Device, ..WRITING };

parity! {
    start: START, Variant::DRIVE;
    start_with_a_node_for_each_image: START, Variant::NODES;
    start_past_the_hosts_cache: START, Variant { cache: Cache::None, ..WRITING };
    start_from_a_block_device: START, DEVICE;
    reopen_read_only: REOPEN_READ_ONLY, Variant::BLOCKDEV;
    reopen_direct: REOPEN_DIRECT, Variant::BLOCKDEV;
    reopen_direct_while_the_guest_writes: REOPEN_DIRECT, BLOCKDEV_WRITING;
    reopen_direct_of_a_link: REOPEN_DIRECT, Variant { image: Image::Link, ..BLOCKDEV_WRITING };
    reopen_direct_of_a_user: REOPEN_DIRECT, Variant { user: Some(ORDINARY_USER), ..BLOCKDEV_WRITING };
    reopen_direct_of_a_strange_name: REOPEN_DIRECT, Variant { folder: "a,b c é", ..BLOCKDEV_WRITING };
    reopen_no_flush: REOPEN_NO_FLUSH, Variant::BLOCKDEV;
    stop_and_cont: STOP, Variant { cache: Cache::Writethrough, ..WRITING };
    quit_while_the_guest_writes: QUIT, Variant { guest: Guest::Writing, ..Variant::RELATIVE };
}

const START: Operation = Operation {
    row: "start with `-drive` or `-blockdev`",
    script: |guest| {
        guest.write_disk(1, 512)?;
        guest.let_guest_write()
    },
    ..PLAIN
};

const REOPEN_READ_ONLY: Operation = Operation {
    row: "`blockdev-reopen` of `read-only`",
    arguments: &["-blockdev", "driver=file,node-name=spare,filename={variables.fd}"],
    script: |guest| {
        let name = guest.name("variables.fd");
        for read_only in [true, false] {
            let node = json!({ "driver": "file", "node-name": "spare", "filename": name, "read-only": read_only });
            guest.qmp("blockdev-reopen", json!({ "options": [node] }))?;
        }
        guest.hmp("qemu-io spare \"write -q -P 1 64k 64k\"")
    },
    ..PLAIN
};

const REOPEN_DIRECT: Operation =
    Operation { row: "`blockdev-reopen` of `cache.direct`", script: |guest| reopen(guest, "direct"), ..PLAIN };

const REOPEN_NO_FLUSH: Operation =
    Operation { row: "`blockdev-reopen` of `cache.no-flush`", script: |guest| reopen(guest, "no-flush"), ..PLAIN };

const STOP: Operation = Operation {
    row: "`stop`, `cont`",
    script: |guest| {
        for _ in 0..2 {
            guest.qmp("stop", json!({}))?;
            guest.qmp("cont", json!({}))?;
            guest.let_guest_write()?;
        }
        Ok(())
    },
    ..PLAIN
};

/// Every script ends so.
const QUIT: Operation = Operation { row: "`quit`", script: |guest| guest.let_guest_write(), ..PLAIN };

/// Opens the disk's file anew with a flag of `cache` turned on, and again with it turned off.
fn reopen(guest: &mut Session, flag: &str) -> Result<()> {
    let name = guest.disk();
    for value in [true, false] {
        let node = json!({
            "driver": "file", "node-name": "disk-file", "filename": name, "auto-read-only": true,
            "cache": { flag: value },
        });
        guest.qmp("blockdev-reopen", json!({ "options": [node] }))?;
        guest.write_disk(u8::from(value), 512)?;
        guest.let_guest_write()?;
    }
    Ok(())
}
