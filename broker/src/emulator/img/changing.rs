//! Commands that change an image that exists.

use std::ffi::OsString;

use super::{Access, Call, CommitInto, Draft, Error, Kind, Meaning, graph};
use crate::emulator::resource::Backing;
use crate::emulator::tool;

/// `amend`. Its options may repeat the backing file, and cannot change it (`qcow2_amend_options`).
pub(super) fn amend(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    written(draft, call)
}

/// `snapshot`: `-l` only reads.
pub(super) fn snapshot(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let [image] = call.operands else { return Ok(()) };
    let access = if call.has(Meaning::List) { Access::ReadOnly } else { Access::ReadWrite };
    call.image(draft, image, access)
}

/// `resize`; the size has been taken off.
pub(super) fn resize(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    written(draft, call)
}

fn written(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let [image] = call.operands else { return Ok(()) };
    call.image(draft, image, Access::ReadWrite)
}

/// `bitmap`: an image and the name of a bitmap in it; `-b` is an image that bitmaps are merged from. No backing file
/// is opened.
pub(super) fn bitmap(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let [image, _] = call.operands else { return Ok(()) };
    call.open(draft, image, call.argument(Meaning::Format), Access::ReadWrite, true)?;
    let Some(word) = call.argument(Meaning::Base) else { return Ok(()) };
    let operand = tool::Operand {
        option: &call.typed(Meaning::Base),
        word,
        format: call.argument(Meaning::BaseFormat),
        options: None,
        access: Access::ReadOnly,
        alone: true,
    };
    tool::image(draft, operand)
}

/// `commit`: into the nearest backing file, or the one that `-b` names.
pub(super) fn commit(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    written(draft, call)?;
    graph::add_images(draft)?;
    let into = call.argument(Meaning::Base).map_or(CommitInto::Nearest, |base| CommitInto::Named(base.to_owned()));
    for resource in &mut draft.line.resources {
        if let Kind::Image(image) = &mut resource.kind
            && image.backing == Backing::Header
        {
            image.commit = Some(into.clone());
        }
    }
    Ok(())
}

/// `rebase`: the image, its backing files and those that it is to have; with `-u` the image alone.
pub(super) fn rebase(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let [image] = call.operands else { return Ok(()) };
    let unsafe_mode = call.has(Meaning::Unsafe);
    call.open(draft, image, call.argument(Meaning::Format), Access::ReadWrite, unsafe_mode)?;
    graph::add_images(draft)?;
    let Some(base) = call.argument(Meaning::Base).filter(|base| !unsafe_mode && !base.is_empty()) else {
        return Ok(());
    };
    let overlay = top_image(draft).unwrap_or_else(|| image.clone());
    tool::backing(draft, &call.typed(Meaning::Base), &overlay, base, call.argument(Meaning::BaseFormat))
}

/// The file of the image that was added first, as QEMU opens it.
fn top_image(draft: &Draft<'_>) -> Option<OsString> {
    let images = draft.line.resources.iter().filter(|resource| matches!(resource.kind, Kind::Image(_)));
    images.map(|resource| resource.name.clone()).next()
}
