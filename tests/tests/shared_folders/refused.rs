//! What a shared folder does not give.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tests::{BrokerCommand, During, ORDINARY_USER, PLAIN_QEMU, Result, Workdir, need};

use crate::guest::MODE;
use crate::models::Scene;

/// `EPERM`, `EACCES` and `EROFS` (asm-generic/errno-base.h and errno.h).
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EROFS: i32 = 30;

/// `S_IFCHR` and `S_IFBLK` (inode(7)).
const CHARACTER_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;

#[test]
fn a_folder_that_is_shared_for_reading_is_not_written() -> Result<()> {
    need!(UserNamespaces, Qemu, Landlock);
    let scene = Scene::new(Some(ORDINARY_USER))?;
    fs::write(scene.folder.join("a"), b"old").during("write a")?;
    let (_emulator, mut guest) = scene.mount("security_model=none,readonly=on")?;
    assert_eq!(guest.read("a")?, Ok(b"old".to_vec()));
    assert_eq!(guest.create("", "b", 0o644, b"new")?, Err(EROFS));
    assert_eq!(guest.overwrite("a", b"new")?, Err(EROFS));
    assert_eq!(guest.set("a", MODE, 0o777)?, Err(EROFS));
    assert_eq!(scene.workdir.read("share/a")?, b"old");
    Ok(())
}

#[test]
fn no_device_node_is_made_and_no_program_that_runs_as_its_owner() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = Scene::new(None)?;
    let (_emulator, mut guest) = scene.mount("security_model=passthrough")?;
    assert_eq!(guest.make_node("null", CHARACTER_DEVICE | 0o666, (1, 3))?, Err(EACCES));
    assert_eq!(guest.make_node("disk", BLOCK_DEVICE | 0o666, (8, 0))?, Err(EACCES));
    assert_eq!(guest.create("", "a", 0o755, b"#!/bin/sh")?, Ok(()));
    assert_eq!(guest.set("a", MODE, 0o4755)?, Err(EPERM));
    assert_eq!(scene.host("a")?.permissions().mode() & 0o7777, 0o755);
    Ok(())
}

#[test]
fn links_lead_nowhere_outside() -> Result<()> {
    need!(UserNamespaces, Qemu, Landlock);
    let scene = Scene::new(Some(ORDINARY_USER))?;
    scene.workdir.write("secret", b"secret")?;
    symlink("..", scene.folder.join("up")).during("make a link")?;
    symlink("../secret", scene.folder.join("file")).during("make a link")?;
    let (_emulator, mut guest) = scene.mount("security_model=none")?;
    for path in ["up/secret", "file", "../secret"] {
        assert!(guest.read(path)?.is_err(), "{path}");
    }
    Ok(())
}

/// Runs a start that has to be refused, and returns what the broker said.
fn refused(workdir: &Workdir, words: &[&str]) -> Result<String> {
    let finished = BrokerCommand::new(workdir).args(PLAIN_QEMU).args(words.iter().copied()).run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    Ok(finished.stderr)
}

#[test]
fn nothing_else_that_is_granted_lies_in_a_shared_folder() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new(None)?;
    scene.workdir.write("share/disk.raw", &[0; 512])?;
    scene.workdir.write("disk.raw", &[0; 512])?;
    symlink("../disk.raw", scene.folder.join("link.raw")).during("make a link")?;
    let share = "local,mount_tag=t,security_model=none,path=";
    let inside = format!("{share}share");
    for (disk, folder) in [("share/disk.raw", "share"), ("share/link.raw", "share"), ("disk.raw", ".")] {
        let (drive, folder) = (format!("file={disk},format=raw"), format!("{share}{folder}"));
        let said = refused(&scene.workdir, &["-drive", &drive, "-virtfs", &folder])?;
        assert!(said.contains("holds a file that is granted by itself"), "{said}");
    }
    for (words, what) in [
        (["-D", "share/log"], "a file that is written for the operator"),
        (["-pidfile", "share/pid"], "a file that is written for the operator"),
    ] {
        let said = refused(&scene.workdir, &[&words[..], &["-virtfs", &inside]].concat())?;
        assert!(said.contains(what), "{said}");
    }
    for folder in ["/", "/usr", "/var/tmp"] {
        let said = refused(&scene.workdir, &["-virtfs", &format!("{share}{folder}")])?;
        assert!(said.contains(" holds a "), "{said}");
    }
    let said = refused(&scene.workdir, &["-daemonize", "-virtfs", &inside])?;
    assert!(said.contains("security_model=mapped-file"), "{said}");
    Ok(())
}

#[test]
fn a_folder_that_is_missing_is_missed_in_the_emulators_own_words() -> Result<()> {
    need!(UserNamespaces, Qemu, Landlock);
    let scene = Scene::new(None)?;
    scene.workdir.write("file", b"")?;
    for (path, reason) in [("gone", "No such file or directory"), ("file", "Not a directory")] {
        let share = format!("local,mount_tag=t,security_model=none,path={path}");
        let finished = BrokerCommand::new(&scene.workdir).args(PLAIN_QEMU).args(["-virtfs", &share]).run()?;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert!(finished.stderr.contains(&format!("failed to open '{path}': {reason}")), "{finished:?}");
    }
    Ok(())
}
