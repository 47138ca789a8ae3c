//! Access lists for bridges: what is taken and what is refused, beside a model of the grammar and QEMU's own helper.

mod files;
mod lists;
mod model;
mod oracle;

use std::path::PathBuf;

use broker::bridge_acl::{AccessList, Caller, Error};
use tests::{Result, Workdir};

/// Writes files beside each other; in their text `@` stands for their folder. Returns the first one's path.
fn write(workdir: &Workdir, files: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = workdir.files();
    for (name, text) in files {
        workdir.write(name, text.replace('@', &folder.to_string_lossy()).as_bytes())?;
    }
    Ok(folder.join(files.first().map_or("", |(name, _)| name)))
}

/// Whether a user with one group may use the bridge that has these names.
fn check(list: &AccessList, names: &[&str], uid: u32, gid: u32) -> std::result::Result<(), Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    list.check(&names, &Caller { uid, groups: vec![gid] })
}
