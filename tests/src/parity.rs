//! The same operation by bare QEMU and by QEMU under the broker: what a client of the monitor sees, and what lies on
//! the disk afterwards, must be the same.
//!
//! An [`Operation`] is a script for the monitor; a [`Variant`] is how the guest's disk is given to QEMU. [`compare`]
//! runs one in the form of the other twice, each time on images of its own, and tells the first differences.

mod difference;
mod disks;
mod monitor;
mod normal;
mod outcome;
mod place;
mod session;
mod start;
mod variant;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::need::{Need, require};
use disks::Disks;
use outcome::Outcome;
use place::Place;
use start::Side;

pub use session::Session;
pub use variant::{Cache, Form, Guest, Image, Names, Variant};

/// Something that QEMU's block layer does at run time.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its row in `docs/reopens.md`, the text of the first column.
    pub row: &'static str,
    /// The options of the broker that it needs, as in the last column of that row. `commit=PATH` stands for the base
    /// image, `create=DIR` for the folder of the images, `--medium PATH` and `--medium-dir DIR` for the second medium
    /// and the folder of the media.
    pub options: &'static str,
    /// Further words for QEMU. `{NAME}` stands for the file of that name as a value of an option: its commas doubled,
    /// and relative or absolute as the variant has it.
    pub arguments: &'static [&'static str],
    /// What the client of the monitor does. QEMU is asked to quit after it.
    pub script: fn(&mut Session) -> Result<()>,
}

/// Runs an operation on both sides, or says that this host cannot.
///
/// # Panics
/// When the two sides differ; the message tells in what.
///
/// # Errors
/// When the script fails, on either side, with the side.
pub fn compare(operation: &Operation, variant: &Variant) -> Result<()> {
    if !require(&[Need::Qemu, Need::Landlock]) || !require(variant.needs()) {
        return Ok(());
    }
    let bare = run(operation, variant, Side::Bare)?;
    let brokered = run(operation, variant, Side::Brokered)?;
    let differences = difference::between(&bare, &brokered);
    assert!(differences.is_empty(), "{}, {variant:?}:\n{differences}", operation.row);
    Ok(())
}

/// The arguments of a command with `more` of them.
#[must_use]
pub fn with(mut arguments: Value, more: Value) -> Value {
    if let (Some(arguments), Value::Object(more)) = (arguments.as_object_mut(), more) {
        arguments.extend(more);
    }
    arguments
}

/// One side, from its images to what is left of them.
fn run(operation: &Operation, variant: &Variant, side: Side) -> Result<Outcome> {
    let mut place = Place::new(variant)?;
    let disks = Disks::make(&mut place, variant)?;
    let work = || {
        let mut session = Session::start(operation, variant, side, &place)?;
        (operation.script)(&mut session)?;
        let said = session.finish()?;
        Outcome::look(said, &place, variant)
    };
    let outcome = work().map_err(|error| Error::Unexpected(format!("{side:?}: {}: {error}", operation.row)));
    drop(disks);
    outcome
}
