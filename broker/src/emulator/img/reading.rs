//! Commands that read images, and write only if asked to.

use super::{Access, Call, Draft, Error, Kind, Meaning, graph};
use crate::emulator::resource::Backing;
use crate::emulator::tool;

/// `info`: reads headers. What a header names is printed, and with `--backing-chain` read in its turn.
pub(super) fn info(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let [image] = call.operands else { return Ok(()) };
    call.image(draft, image, Access::ReadOnly)?;
    graph::add_images(draft)?;
    for resource in &mut draft.line.resources {
        if let Kind::Image(image) = &mut resource.kind
            && image.backing == Backing::Header
            && !call.has(Meaning::Chain)
        {
            image.backing = Backing::Shown;
        }
    }
    Ok(())
}

/// `check`, which repairs with `-r`.
pub(super) fn check(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let [image] = call.operands else { return Ok(()) };
    call.image(draft, image, if_written(call))
}

/// `bench`, which writes with `-w`.
pub(super) fn bench(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    if let Some(how) = call.argument(Meaning::Aio) {
        tool::note_aio(draft, how);
    }
    let [image] = call.operands else { return Ok(()) };
    call.image(draft, image, if_written(call))
}

/// `compare`: two images, with a format of its own for the second.
pub(super) fn compare(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let [first, second] = call.operands else { return Ok(()) };
    call.image(draft, first, Access::ReadOnly)?;
    call.open(draft, second, call.argument(Meaning::BaseFormat), Access::ReadOnly, false)
}

/// `map`.
pub(super) fn map(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let [image] = call.operands else { return Ok(()) };
    call.image(draft, image, Access::ReadOnly)
}

/// `measure`: an image, or nothing where `--size` says how large.
pub(super) fn measure(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    map(draft, call)
}

fn if_written(call: &Call<'_>) -> Access {
    if call.has(Meaning::Write) { Access::ReadWrite } else { Access::ReadOnly }
}
