//! Folders that are shared with the guest: `-fsdev` and `-virtfs`.
//!
//! Source: `fsdev/qemu-fsdev-opts.c` and `local_parse_opts` in `hw/9pfs/9p-local.c` of QEMU 7.2 and 10.0.

use std::ffi::OsStr;

use super::draft::{Draft, Group};
use super::error::Error;
use super::resource::{SecurityModel, SharedFolder};

const NO_SOCKET: &str = "use -fsdev local, or hand the helper's socket over with sock_fd=N";

/// `-fsdev` and `-virtfs`. What is missing is for QEMU to complain of.
///
/// # Errors
/// [`Error::NotServed`] for the socket of a proxy helper, for drivers that are not known, and for a folder that differs
/// for each process.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    match pairs.text("fsdriver").unwrap_or_default() {
        "local" => match pairs.name("path") {
            Some(path) => local(draft, group, path),
            None => Ok(()),
        },
        // Made up by QEMU itself, for its tests.
        "synth" => Ok(()),
        // Until QEMU 8.2; another process has the folder.
        "proxy" => match (pairs.name("sock_fd"), pairs.name("socket")) {
            (_, Some(_)) => Err(Error::not_served(option, "the socket of virtfs-proxy-helper", NO_SOCKET)),
            (Some(number), None) => draft.descriptor(option, number),
            (None, None) => Ok(()),
        },
        other => Err(Error::not_known(option, format!("the file system driver {other:?}"), "use local")),
    }
}

fn local(draft: &mut Draft<'_>, group: &Group, path: &OsStr) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    Draft::refuse_per_process(option, path)?;
    let read_only = pairs.switch(option, "readonly")?.unwrap_or(false);
    let model = match pairs.text("security_model") {
        Some("mapped-file") => SecurityModel::MappedFile,
        Some("mapped" | "mapped-xattr") => SecurityModel::MappedXattr,
        // QEMU refuses others.
        _ => SecurityModel::Native,
    };
    let path = path.to_owned();
    draft.line.shared_folders.push(SharedFolder { option: option.clone(), path, read_only, model });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_harmless, assert_not_served, line};
    use super::*;

    #[test]
    fn folders_are_noted_with_what_the_guest_may_do() {
        for (words, read_only, model) in [
            (["-fsdev", "local,id=f,path=D,security_model=none"], false, SecurityModel::Native),
            (["-fsdev", "local,id=f,path=D,security_model=passthrough,readonly=on"], true, SecurityModel::Native),
            (["-virtfs", "local,path=D,mount_tag=t,security_model=mapped"], false, SecurityModel::MappedXattr),
            (["-virtfs", "local,path=D,mount_tag=t,security_model=mapped-xattr"], false, SecurityModel::MappedXattr),
            (["-fsdev", "fsdriver=local,id=f,path=D,security_model=mapped-file"], false, SecurityModel::MappedFile),
        ] {
            let found = line(&words).unwrap().shared_folders;
            let option = words.join(" ");
            assert_eq!(found, [SharedFolder { option, path: "D".into(), read_only, model }]);
        }
    }

    #[test]
    fn what_names_no_folder_is_for_qemu_to_judge() {
        assert_harmless(&[
            &["-fsdev", "local,id=f,security_model=none"],
            &["-fsdev", "synth,id=f"],
            &["-virtfs", "synth,mount_tag=t"],
            &["-fsdev", "proxy,id=f"],
        ]);
        assert_eq!(line(&["-fsdev", "proxy,id=f,sock_fd=7"]).unwrap().descriptors, [7].into());
    }

    #[test]
    fn sockets_of_helpers_and_names_of_each_process_are_refused() {
        assert_not_served(&[
            &["-fsdev", "proxy,id=f,socket=/run/proxy"],
            &["-fsdev", "handle,id=f,path=/x"],
            &["-virtfs", "local,path=/proc/self/cwd,mount_tag=t,security_model=none"],
        ]);
    }
}
