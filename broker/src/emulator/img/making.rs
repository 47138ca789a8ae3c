//! Commands that make an image: `create`, `convert`, `dd`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::{Access, Call, Draft, Error, IMAGE_OPTIONS, Meaning};
use crate::emulator::tool::{self, Operand};
use crate::emulator::value::Pairs;

/// Layouts of VMDK that consist of several files.
const SEVERAL_FILES: [&str; 3] = ["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"];

/// `create`: a file and perhaps its size.
pub(super) fn create(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let options = Properties::read(call)?;
    let ([file] | [file, _]) = call.operands else { return explained(draft, &options) };
    if options.pairs.help {
        return options_listed(draft, call, file);
    }
    options.add_data_file(draft)?;
    tool::target(draft, &call.named(file), file)?;
    if call.has(Meaning::Unsafe) { Ok(()) } else { options.add_backing(draft, file) }
}

/// `convert`: images, one behind another, into the last operand.
pub(super) fn convert(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let options = Properties::read(call)?;
    let Some((target, sources)) = call.operands.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        return explained(draft, &options);
    };
    if options.pairs.help {
        return options_listed(draft, call, target);
    }
    sources.iter().try_for_each(|source| call.image(draft, source, Access::ReadOnly))?;
    if call.has(Meaning::Existing) {
        let option = call.named(target);
        let image_opts = call.has(Meaning::TargetImageOpts).then_some(IMAGE_OPTIONS);
        // Without -O it is taken for raw, and never probed.
        let format = call.argument(Meaning::OutputFormat).unwrap_or_else(|| OsStr::new("raw"));
        let (word, format) = (target.as_os_str(), Some(format));
        let access = Access::ReadWrite;
        return tool::image(
            draft,
            Operand { option: &option, word, format, options: image_opts, access, alone: false },
        );
    }
    options.add_data_file(draft)?;
    tool::target(draft, &call.named(target), target)?;
    options.add_backing(draft, target)
}

/// `dd`: operands of the form `key=value`, as dd(1) has them.
pub(super) fn dd(draft: &mut Draft<'_>, call: &Call<'_>) -> Result<(), Error> {
    let of_key = |key: &[u8]| {
        let values = call.operands.iter().rev().filter_map(|word| word.as_bytes().strip_prefix(key));
        values.map(|value| OsString::from(OsStr::from_bytes(value))).next()
    };
    let (Some(input), Some(output)) = (of_key(b"if="), of_key(b"of=")) else { return Ok(()) };
    call.image(draft, &input, Access::ReadOnly)?;
    tool::target(draft, &call.named(&output), &output)
}

/// `-o help`: prints the properties of a format and ends. On the way it looks whether the file is a device.
fn options_listed(draft: &mut Draft<'_>, call: &Call<'_>, file: &OsString) -> Result<(), Error> {
    tool::target(draft, &call.named(file), file)
}

fn explained(draft: &mut Draft<'_>, options: &Properties) -> Result<(), Error> {
    draft.line.informational |= options.pairs.help;
    Ok(())
}

/// What `-o`, `-b` or `-B`, and `-F` say of the new image.
struct Properties {
    /// The option that counts, for messages.
    option: String,
    base_option: String,
    pairs: Pairs,
}

impl Properties {
    /// All `-o` are one list (`accumulate_options`); the options for the backing file win over it.
    fn read(call: &Call<'_>) -> Result<Self, Error> {
        let option = call.typed(Meaning::Options);
        let lists = call.options.iter().filter(|given| given.meaning == Meaning::Options);
        let lists: Vec<&[u8]> = lists.map(|given| given.argument.as_bytes()).collect();
        let mut pairs = Pairs::parse(&option, OsStr::from_bytes(&lists.join(&b',')), None)?;
        for (meaning, key) in [(Meaning::Base, "backing_file"), (Meaning::BaseFormat, "backing_fmt")] {
            if let Some(argument) = call.argument(meaning) {
                pairs.push(key, argument);
            }
        }
        if let Some(subformat) = pairs.text("subformat").filter(|name| SEVERAL_FILES.contains(name)) {
            let what = format!("the layout subformat={subformat}, which makes several files,");
            return Err(Error::not_served(&option, what, "use subformat=monolithicSparse or streamOptimized"));
        }
        let base_option = if call.has(Meaning::Base) { call.typed(Meaning::Base) } else { option.clone() };
        Ok(Self { option, base_option, pairs })
    }

    /// The backing file is opened to learn its size, and below the new image.
    fn add_backing(&self, draft: &mut Draft<'_>, overlay: &OsStr) -> Result<(), Error> {
        let Some(base) = self.pairs.name("backing_file") else { return Ok(()) };
        tool::backing(draft, &self.base_option, overlay, base, self.pairs.name("backing_fmt"))
    }

    /// A file for the guest's data is made beside the image.
    fn add_data_file(&self, draft: &mut Draft<'_>) -> Result<(), Error> {
        match self.pairs.name("data_file") {
            Some(name) => tool::target(draft, &self.option, name),
            None => Ok(()),
        }
    }
}
