//! Saving a guest's state: what makes QEMU give up write access to its images and take it again.

use std::fs::File;
use std::os::fd::AsFd;

use serde_json::{Value, json};

use crate::error::{During, Error, Result};
use crate::qmp::Qmp;
use crate::wait::{PATIENCE, until};
use crate::workdir::Workdir;

/// Saves the guest to a file that QEMU gets as a descriptor, as libvirt does, and waits for completion.
///
/// # Errors
/// When QEMU refuses, or the save fails, with QEMU's reason.
pub fn save_to_descriptor(qmp: &mut Qmp, workdir: &Workdir) -> Result<()> {
    let path = workdir.aside().join("saved");
    let file = File::create(&path).during(format!("create {}", path.display()))?;
    qmp.execute_with("getfd", json!({ "fdname": "saved" }), file.as_fd())?;
    qmp.execute("migrate", json!({ "uri": "fd:saved" }))?;
    until(PATIENCE, "the end of the save", || {
        let info = qmp.execute("query-migrate", json!({}))?;
        match info.get("status").and_then(Value::as_str) {
            Some("completed") => Ok(Some(())),
            Some("failed" | "cancelled") => Err(Error::Unexpected(format!("the save failed: {info}"))),
            _ => Ok(None),
        }
    })
}
