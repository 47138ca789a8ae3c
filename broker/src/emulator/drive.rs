//! `-drive` and the options that are short for it.

use std::ffi::{OsStr, OsString};

use super::blockdev::{self, Keys};
use super::descriptor;
use super::draft::{Draft, Group};
use super::error::Error;
use super::value::{self, Pairs};

/// `-drive`: source `drive_new` and `blockdev_init` in QEMU's `blockdev.c`.
///
/// # Errors
/// As [`blockdev::build`].
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let option = &group.option;
    let mut keys: Keys = group.pairs.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    keys.remove("id");
    let file = keys.remove("file").filter(|name| !name.is_empty());
    if keys.get("format").is_some_and(|f| value::is_help(f)) {
        draft.line.informational = true;
        return Ok(());
    }
    let cdrom = keys.remove("media").is_some_and(|media| media == "cdrom");
    let stated = take_switch(option, &mut keys, &["readonly", "read-only"])?;
    let snapshot = take_switch(option, &mut keys, &["snapshot"])?.unwrap_or(draft.snapshot);
    if let Some(format) = keys.remove("format") {
        keys.insert("driver".to_owned(), format);
    }
    draft.line.io_uring |= blockdev::asks_for_io_uring(&keys);
    let (direct, silent) = (descriptor::cache_mode(&keys), !descriptor::says_cache(&keys));
    if let Some(number) = file.as_deref().and_then(descriptor::number) {
        descriptor::rewrite(draft, group, number, keys.contains_key("driver"))?;
    }
    if file.is_none() && !describes_a_node(&keys) {
        // A drive without a medium.
        return Ok(());
    }
    draft.line.temporary_overlays |= snapshot;
    let mut node = blockdev::build(option, keys, file, false)?;
    // The overlay of snapshot=on takes all writes, and QEMU opens what lies below it O_RDONLY.
    node.overlaid = snapshot && !cdrom && stated != Some(true);
    node.read_only = Some(snapshot || cdrom || stated == Some(true));
    node.auto_read_only = node.auto_read_only.or(Some(true));
    if silent && let Some(main) = node.main_mut() {
        main.silent_word = group.word;
    }
    node.direct = direct.or(node.direct);
    draft.nodes.push(node);
    Ok(())
}

fn describes_a_node(keys: &Keys) -> bool {
    keys.keys().any(|key| {
        let first = key.split('.').next().unwrap_or(key);
        matches!(first, "driver" | "filename" | "file" | "backing" | "image" | "children")
    })
}

fn take_switch(option: &str, keys: &mut Keys, names: &[&str]) -> Result<Option<bool>, Error> {
    let mut found = None;
    for name in names {
        if let Some(text) = keys.remove(*name) {
            found = Some(value::switch(option, name, &text)?);
        }
    }
    Ok(found)
}

/// `-hda` to `-hdd`, and an image named by itself: a writable disk.
///
/// # Errors
/// None; the drive is understood later.
pub(super) fn disk(draft: &mut Draft<'_>, option: &str, file: &OsStr) -> Result<(), Error> {
    shortcut(draft, option, file, &[])
}

/// `-cdrom`: a read-only disk.
///
/// # Errors
/// None; the drive is understood later.
pub(super) fn cdrom(draft: &mut Draft<'_>, option: &str, file: &OsStr) -> Result<(), Error> {
    shortcut(draft, option, file, &[("media", "cdrom")])
}

/// The name is taken as it stands: no doubled commas, but `json:` and protocols as in `file=`.
fn shortcut(draft: &mut Draft<'_>, option: &str, file: &OsStr, more: &[(&str, &str)]) -> Result<(), Error> {
    let mut pairs = Pairs::default();
    pairs.push("file", OsString::from(file));
    for (key, value) in more {
        pairs.push(*key, *value);
    }
    draft.groups.push(Group { name: "drive", option: option.to_owned(), pairs, read, from_file: false, word: None });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::resource::{Backing, CommandLine, Image};
    use super::super::testing::{image, images, line, overlaid, ro, rw};
    use super::*;

    fn drive(value: &str) -> CommandLine {
        line(&["-drive", value]).unwrap()
    }

    #[test]
    fn a_plain_drive_is_read_write_and_follows_its_header() {
        let found = images(&drive("file=top.qcow2,if=virtio,format=qcow2"));
        assert_eq!(found, [image("top.qcow2", Some("qcow2"), rw(), Backing::Header)]);
        let found = images(&drive("file=disk.img,if=ide"));
        assert_eq!(found, [image("disk.img", None, rw(), Backing::Header)]);
        let found = images(&drive("file=disk.img,format=raw"));
        assert_eq!(found, [image("disk.img", Some("raw"), rw(), Backing::Ignored)]);
    }

    #[test]
    fn what_makes_a_drive_read_only() {
        for value in [
            "file=x,readonly=on",
            "file=x,read-only=yes",
            "file=x,readonly",
            "file=x,media=cdrom",
            "file=x,media=cdrom,readonly=off",
            "file=x,snapshot=on,readonly=on",
            "file=x,file.read-only=on",
        ] {
            assert_eq!(images(&drive(value)), [image("x", None, ro(), Backing::Header)], "{value}");
        }
        for value in ["file=x,snapshot=on", "file=x,snapshot=on,readonly=off"] {
            assert_eq!(images(&drive(value)), [overlaid("x", None, ro(), Backing::Header)], "{value}");
        }
        assert_eq!(images(&drive("file=x,readonly=off")), [image("x", None, rw(), Backing::Header)]);
        assert!(line(&["-drive", "file=x,readonly=maybe"]).is_err());
    }

    #[test]
    fn the_last_file_wins_and_commas_are_doubled() {
        assert_eq!(images(&drive("file=a,file=b"))[0].0, "b");
        assert_eq!(images(&drive("file=a,,b,if=none"))[0].0, "a,b");
        assert_eq!(images(&drive("file=a,,file=b"))[0].0, "a,file=b");
    }

    #[test]
    fn drives_without_a_medium_have_no_resource() {
        for value in
            ["if=none,id=cd,media=cdrom", "file=,if=none", "if=floppy", "driver=null-co,if=none", "file=null-co://"]
        {
            assert_eq!(drive(value).resources, [], "{value}");
        }
    }

    #[test]
    fn snapshot_counts_wherever_it_stands_and_can_be_overruled() {
        let first = line(&["-snapshot", "-drive", "file=x"]).unwrap();
        let last = line(&["-drive", "file=x", "-snapshot"]).unwrap();
        assert!(first.temporary_overlays && last.temporary_overlays);
        assert_eq!(images(&last), [overlaid("x", None, ro(), Backing::Header)]);
        let off = line(&["-snapshot", "-drive", "file=x,snapshot=off"]).unwrap();
        assert!(!off.temporary_overlays);
        assert_eq!(images(&off), [image("x", None, rw(), Backing::Header)]);
        let node = line(&["-snapshot", "-blockdev", "driver=file,filename=x,node-name=n"]).unwrap();
        assert!(!node.temporary_overlays);
        assert_eq!(images(&node), [image("x", Some("raw"), rw(), Backing::Ignored)]);
    }

    #[test]
    fn nested_files_and_backing_files() {
        let found = images(&drive(
            "driver=qcow2,file.driver=file,file.filename=X,backing.driver=raw,backing.file.filename=Y,if=none",
        ));
        assert_eq!(
            found,
            [image("X", Some("qcow2"), rw(), Backing::Ignored), overlaid("Y", Some("raw"), ro(), Backing::Ignored),]
        );
        let found = images(&drive("file=X,backing.driver=raw"));
        let (name, stated) = image("X", None, rw(), Backing::Header);
        assert_eq!(found, [(name, Image { layers: vec!["raw".to_owned()], ..stated })]);
        let found = images(&drive("file=X,backing="));
        assert_eq!(found, [image("X", None, rw(), Backing::Ignored)]);
        let found = images(&drive("file=X,file.locking=off,cache.direct=on"));
        assert_eq!(found, [image("X", None, rw(), Backing::Header)]);
    }

    #[test]
    fn a_backing_file_of_unstated_format_is_probed() {
        let found = images(&drive("file=X,format=qcow2,backing.file.filename=Y"));
        assert_eq!(found[1], overlaid("Y", None, ro(), Backing::Header));
    }

    #[test]
    fn a_drive_may_refer_to_a_node() {
        let both = line(&[
            "-blockdev",
            "driver=raw,node-name=b,read-only=on,file.driver=file,file.filename=base",
            "-drive",
            "file=top,format=qcow2,backing=b",
        ])
        .unwrap();
        assert_eq!(
            images(&both),
            [
                image("top", Some("qcow2"), rw(), Backing::Ignored),
                overlaid("base", Some("raw"), ro(), Backing::Ignored),
            ]
        );
    }

    #[test]
    fn json_names_are_options() {
        let name = r#"file=json:{"driver":"qcow2",, "file":{"driver":"file",,"filename":"x"}},if=none"#;
        assert_eq!(images(&drive(name)), [image("x", Some("qcow2"), rw(), Backing::Header)]);
        let name = "file=json:{'driver':'ssh',,'host':'h'}";
        assert!(matches!(line(&["-drive", name]), Err(Error::NotServed { .. })));
        let inner = r#"file=json:{"driver":"raw",,"file":{"driver":"file",,"filename":"json:{}"}}"#;
        assert_eq!(images(&drive(inner))[0].0, "json:{}");
    }

    #[test]
    fn shortcuts_take_the_name_as_it_stands() {
        assert_eq!(images(&line(&["-hda", "a,,b"]).unwrap()), [image("a,,b", None, rw(), Backing::Header)]);
        assert_eq!(images(&line(&["-cdrom", "c.iso"]).unwrap()), [image("c.iso", None, ro(), Backing::Header)]);
        assert_eq!(images(&line(&["disk"]).unwrap()), [image("disk", None, rw(), Backing::Header)]);
        assert_eq!(line(&["-cdrom", ""]).unwrap().resources, []);
        for option in ["-hdb", "-hdc", "-hdd", "-fda", "-fdb", "-mtdblock", "-sd", "-pflash"] {
            assert_eq!(images(&line(&[option, "x"]).unwrap()), [image("x", None, rw(), Backing::Header)]);
        }
        assert!(line(&["-hda", "ssh://h/x"]).is_err());
    }

    #[test]
    fn host_devices_are_images() {
        let found = images(&drive("file=/dev/sr0,media=cdrom,if=ide,format=raw"));
        assert_eq!(found, [image("/dev/sr0", Some("raw"), ro(), Backing::Ignored)]);
    }

    #[test]
    fn io_uring_is_noticed_in_all_spellings() {
        assert!(drive("file=x,aio=io_uring").io_uring);
        assert!(drive("file=x,file.aio=io_uring").io_uring);
        assert!(!drive("file=x,aio=threads").io_uring);
        let json = r#"{"driver":"raw","file":{"driver":"file","filename":"x","aio":"io_uring"}}"#;
        assert!(line(&["-blockdev", json]).unwrap().io_uring);
    }

    #[test]
    fn unknown_keys_that_look_like_names_are_refused() {
        for value in ["file=x,odd=/etc/shadow", "file=x,file.server.path=s", "file=rbd:p/i", "format=vvfat,file=x"] {
            assert!(matches!(line(&["-drive", value]), Err(Error::NotServed { .. })), "{value}");
        }
    }

    #[test]
    fn asking_for_the_formats_starts_nothing() {
        assert!(drive("format=help").informational);
    }
}
