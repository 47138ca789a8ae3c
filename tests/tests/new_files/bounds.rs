//! Whose new files are, who may do what with them, and how many there may be.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::fs::OFlags;
use tests::{During, Result, need};

use crate::scene::{USER, USERS, assert_refused, path, puppet, scene};

/// Bytes that `--create-bytes` allows in its test.
const BYTES: u64 = 1 << 20;

#[test]
fn the_mode_is_masked_and_the_umask_kept() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let own = tests::Process(std::process::id()).status();
    let umask = own.and_then(|status| u32::from_str_radix(status.field("Umask"), 8).ok());
    let umask = umask.unwrap();
    for user in USERS {
        let scene = scene()?;
        let puppet = puppet(&scene, &[], user)?;
        for (asked, given) in [(0o6777, 0o666), (0o400, 0o400), (0o644, 0o644), (0o7111, 0)] {
            let name = format!("made/{asked:o}");
            assert_eq!(puppet.create(&name, asked)?, "ok", "{name}");
            let status = fs::symlink_metadata(path(&scene, &name)).during("stat the new file")?;
            assert_eq!(status.mode() & 0o7777, given & !umask, "{name}");
            let own = rustix::process::getuid();
            assert_eq!(status.uid(), user.filter(|_| own.is_root()).unwrap_or(own.as_raw()), "{name}");
        }
    }
    Ok(())
}

#[test]
fn the_operator_chooses_who_owns_new_files() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = scene()?;
    let puppet = puppet(&scene, &["--create-owner", "12402:12403"], None)?;
    let created = puppet.start_open("made/new", OFlags::RDWR | OFlags::CREATE, 0o640)?;
    assert_eq!(puppet.answer(created)?, "ok");
    let status = fs::metadata(path(&scene, "made/new")).during("stat the new file")?;
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (12402, 12403, 0o640));
    assert_eq!(puppet.ask(&format!("write {} mine", puppet.number(created)))?, "ok");
    assert_eq!(puppet.open("made/new", OFlags::RDWR)?, "ok", "and the guest can open it again");
    Ok(())
}

#[test]
fn an_ordinary_user_cannot_give_new_files_away() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = scene()?;
    let options = ["--allow", "create=made", "--create-owner", "12402:12403"];
    let finished = scene.command("puppet").options(options).user(USER).run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert!(finished.stderr.starts_with("broker: ") && finished.stderr.contains("--create-owner"), "{finished:?}");
    Ok(())
}

#[test]
fn only_so_many_files_exist_at_a_time() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let puppet = puppet(&scene, &["--create-files", "3"], user)?;
        for name in ["made/0", "made/1", "made/sub/2"] {
            assert_eq!(puppet.create(name, 0o644)?, "ok");
        }
        assert_eq!(puppet.create("made/3", 0o644)?, "EDQUOT");
        assert_refused(&scene, "create", "made/3", "--create-files")?;
        assert_eq!(puppet.create("made/0", 0o644)?, "ok", "what is there can be opened");
        // The guest may still have it open, and write to it.
        assert_eq!(puppet.unlink("made/0")?, "ok");
        assert_eq!(puppet.create("made/3", 0o644)?, "EDQUOT", "what the guest removed keeps its place");
        fs::remove_file(path(&scene, "made/1")).during("remove a file as the operator")?;
        assert_eq!(puppet.create("made/4", 0o644)?, "ok", "the operator made room");
        assert_eq!(puppet.create("made/5", 0o644)?, "EDQUOT");
        assert!(!path(&scene, "made/1").exists());
    }
    Ok(())
}

#[test]
fn only_so_many_bytes_are_taken_up() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let puppet = puppet(&scene, &["--create-bytes", "1M"], user)?;
        let first = puppet.start_open("made/first", OFlags::RDWR | OFlags::CREATE, 0o644)?;
        assert_eq!(puppet.answer(first)?, "ok");
        assert_eq!(puppet.create("made/second", 0o644)?, "ok", "nothing is taken up yet");
        assert_eq!(puppet.ask(&format!("fill {} {}", puppet.number(first), 2 * BYTES))?, "ok");
        assert_eq!(puppet.create("made/third", 0o644)?, "EDQUOT");
        assert_refused(&scene, "create", "made/third", "--create-bytes")?;
        assert_eq!(puppet.open("made/first", OFlags::RDWR)?, "ok", "what is there stays");
        assert_eq!(puppet.open("made/first", OFlags::RDWR | OFlags::TRUNC)?, "ok");
        assert_eq!(puppet.create("made/third", 0o644)?, "ok");
    }
    Ok(())
}
