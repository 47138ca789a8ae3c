//! Overlays are committed into images beneath them.

use serde_json::{Value, json};
use tests::parity::{Cache, Guest, Operation, Session, Variant, with};
use tests::{ORDINARY_USER, Result};

use crate::{PLAIN, WRITING};

const DRIVE: Variant = Variant::DRIVE;
const BLOCKDEV: Variant = Variant::BLOCKDEV;

parity! {
    intermediate: INTERMEDIATE, DRIVE;
    intermediate_with_blockdev: INTERMEDIATE, BLOCKDEV;
    intermediate_while_the_guest_writes: INTERMEDIATE, Variant { cache: Cache::None, ..WRITING };
    intermediate_of_relative_names: INTERMEDIATE, Variant::RELATIVE;
    intermediate_of_strange_names: INTERMEDIATE, Variant { folder: "a,b c é", ..DRIVE };
    intermediate_into_a_named_file: INTERMEDIATE_INTO_FILE, DRIVE;
    intermediate_by_nodes: INTERMEDIATE_BY_NODES, Variant::NODES;
    intermediate_by_nodes_past_the_hosts_cache: INTERMEDIATE_BY_NODES, Variant { cache: Cache::None, ..Variant::NODES };
    active: ACTIVE, DRIVE;
    active_with_blockdev_while_the_guest_writes: ACTIVE, Variant { guest: Guest::Writing, ..BLOCKDEV };
    active_by_nodes: ACTIVE, Variant::NODES;
    active_written_through: ACTIVE, Variant { cache: Cache::Writethrough, ..WRITING };
    active_of_a_user: ACTIVE, Variant { user: Some(ORDINARY_USER), ..WRITING };
    active_cancelled: ACTIVE_CANCELLED, DRIVE;
    active_cancelled_while_the_guest_writes: ACTIVE_CANCELLED, WRITING;
    by_people: BY_PEOPLE, DRIVE;
    by_people_while_the_guest_writes: BY_PEOPLE, WRITING;
    of_a_temporary_overlay: TEMPORARY, DRIVE;
    of_a_temporary_overlay_while_the_guest_writes: TEMPORARY, WRITING;
    of_the_temporary_overlay_of_a_drive: TEMPORARY_OF_DRIVE, DRIVE;
}

const COMMIT: Operation = Operation { options: "--allow commit", ..PLAIN };

const INTERMEDIATE: Operation = Operation {
    row: "`block-commit` of an intermediate image, by file names",
    script: |guest| {
        let (top, base) = (guest.name("mid.qcow2"), guest.name("base.raw"));
        commit(guest, json!({ "top": top, "base": base }))?;
        wait_completed(guest)
    },
    ..COMMIT
};

const INTERMEDIATE_INTO_FILE: Operation =
    Operation { row: "`block-commit` into one certain file", options: "--allow commit=PATH", ..INTERMEDIATE };

const INTERMEDIATE_BY_NODES: Operation = Operation {
    row: "`block-commit` of an intermediate image, by node names",
    script: |guest| {
        commit(guest, json!({ "top-node": "mid", "base-node": "base" }))?;
        wait_completed(guest)
    },
    ..COMMIT
};

const ACTIVE: Operation = Operation {
    row: "`block-commit` of the active image, `block-job-complete`",
    script: |guest| {
        commit_active(guest)?;
        guest.qmp("block-job-complete", json!({ "device": "job" }))?;
        wait_completed(guest)
    },
    ..COMMIT
};

const ACTIVE_CANCELLED: Operation = Operation {
    row: "`block-commit` of the active image, `block-job-cancel`",
    script: |guest| {
        commit_active(guest)?;
        guest.qmp("block-job-cancel", json!({ "device": "job" }))?;
        wait_completed(guest)
    },
    ..COMMIT
};

const BY_PEOPLE: Operation = Operation {
    row: "`commit` (HMP)",
    script: |guest| {
        guest.write_disk(1, 512)?;
        guest.hmp("commit disk")?;
        guest.write_disk(2, 576)?;
        guest.let_guest_write()
    },
    ..COMMIT
};

const TEMPORARY: Operation = Operation { row: "`-snapshot`, `commit` (HMP)", arguments: &["-snapshot"], ..BY_PEOPLE };

const TEMPORARY_OF_DRIVE: Operation = Operation {
    row: "`-drive snapshot=on`, `commit` (HMP)",
    arguments: &["-set", "drive.disk.snapshot=on"],
    ..BY_PEOPLE
};

/// Starts a job that commits an image of the disk's chain.
fn commit(guest: &mut Session, images: Value) -> Result<()> {
    let job = json!({ "job-id": "job", "device": "disk" });
    guest.qmp("block-commit", with(job, images)).map(drop)
}

/// Commits the disk's own image, up to the point from which it is kept equal to its base.
fn commit_active(guest: &mut Session) -> Result<()> {
    guest.write_disk(1, 512)?;
    commit(guest, json!({}))?;
    guest.wait("BLOCK_JOB_READY")?;
    guest.write_disk(2, 576)?;
    guest.let_guest_write()
}

/// Waits for the end of the job, and lets the disk be written once more.
fn wait_completed(guest: &mut Session) -> Result<()> {
    guest.wait_job("job", "null")?;
    guest.write_disk(3, 640)?;
    guest.let_guest_write()
}
