//! Overlays take in what lies beneath them.

use serde_json::json;
use tests::Result;
use tests::parity::{Cache, Operation, Session, Variant};

use crate::{PLAIN, WRITING};

parity! {
    whole: WHOLE, Variant::DRIVE;
    whole_with_blockdev: WHOLE, Variant::BLOCKDEV;
    whole_while_the_guest_writes: WHOLE, Variant { cache: Cache::None, ..WRITING };
    down_to_a_base: DOWN_TO_BASE, Variant::DRIVE;
    into_an_intermediate: INTO_INTERMEDIATE, Variant::NODES;
    into_an_intermediate_past_the_hosts_cache: INTO_INTERMEDIATE, Variant { cache: Cache::None, ..Variant::NODES };
}

const WHOLE: Operation = Operation {
    row: "`block-stream` of the whole chain",
    script: |guest| {
        guest.qmp("block-stream", json!({ "job-id": "job", "device": "disk" }))?;
        wait_completed(guest)
    },
    ..PLAIN
};

const DOWN_TO_BASE: Operation = Operation {
    row: "`block-stream` down to a base",
    script: |guest| {
        let base = guest.name("base.raw");
        guest.qmp("block-stream", json!({ "job-id": "job", "device": "disk", "base": base }))?;
        wait_completed(guest)
    },
    ..PLAIN
};

const INTO_INTERMEDIATE: Operation = Operation {
    row: "`block-stream` into an intermediate image",
    options: "--allow commit",
    script: |guest| {
        guest.qmp("block-stream", json!({ "job-id": "job", "device": "mid" }))?;
        wait_completed(guest)
    },
    ..PLAIN
};

/// Waits for the end of the job, and lets the disk be written once more.
fn wait_completed(guest: &mut Session) -> Result<()> {
    guest.wait_job("job", "null")?;
    guest.write_disk(1, 512)?;
    guest.let_guest_write()
}
