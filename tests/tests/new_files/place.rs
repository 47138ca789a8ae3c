//! New files come to be beneath the folder, and nowhere else, and what somebody else has there stays.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use serde_json::Value;
use tests::hostile::{CANARY, Puppet, Scene};
use tests::{During, Error, Result, need};

use crate::scene::{USER, USERS, assert_refused, assert_untouched, changed, path, puppet, scene};

/// Files created while a folder on the way changes.
const ROUNDS: u64 = 10_000;

#[test]
fn a_new_file_is_the_guests_until_it_removes_it() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let puppet = puppet(&scene, &[], user)?;
        let name = "made/sub/new.raw";
        assert_eq!(puppet.open(name, OFlags::RDWR)?, "ENOENT");
        let created = puppet.start_open(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, 0o644)?;
        assert_eq!(puppet.answer(created)?, "ok");
        assert_eq!(puppet.ask(&format!("write {} mine", puppet.number(created)))?, "ok");
        assert_eq!(scene.workdir.read(name)?, b"mine");
        for flags in [OFlags::RDONLY, OFlags::RDWR, OFlags::RDWR | OFlags::CREATE, OFlags::WRONLY | OFlags::TRUNC] {
            assert_eq!(puppet.open(name, flags)?, "ok", "{flags:?}");
        }
        assert_eq!(scene.workdir.read(name)?, b"", "the last open truncated it");
        assert_eq!(puppet.open(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?, "EEXIST");
        assert_eq!(puppet.open(&path(&scene, name).to_string_lossy(), OFlags::RDWR)?, "ok", "by its absolute name");
        assert_eq!(puppet.unlink(name)?, "ok");
        assert!(!path(&scene, name).exists());
        assert_eq!(puppet.open(name, OFlags::RDWR)?, "ENOENT");
        assert_eq!(puppet.unlink(name)?, "ENOENT");
        assert_eq!(puppet.create(name, 0o644)?, "ok", "and once more");
        fs::remove_file(path(&scene, name)).during("remove a file as the operator")?;
        assert_eq!(puppet.create(name, 0o644)?, "ok", "the operator removed it meanwhile");
        scene.assert_unharmed(&puppet.end()?)?;
        assert!(path(&scene, name).exists(), "what was made stays when the guest ends");
    }
    Ok(())
}

#[test]
fn without_the_option_nothing_is_created() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let before = scene.workdir.listing()?;
        let puppet = Puppet::start_as(&scene, user, |command| command)?;
        for name in ["new.raw", "made/new.raw"] {
            assert_eq!(puppet.create(name, 0o644)?, "EACCES");
            assert_refused(&scene, "create", name, "--allow create=")?;
        }
        scene.assert_unharmed(&puppet.end()?)?;
        assert_eq!(scene.workdir.listing()?, before);
    }
    Ok(())
}

/// Puts one thing of each kind where the guest will want to create a file; their names.
fn put_in_the_way(scene: &Scene) -> Result<Vec<&'static str>> {
    let made = |name: &str| path(scene, &format!("made/{name}"));
    let victim = path(scene, "victim.raw");
    fs::write(made("file"), CANARY).during("write a file")?;
    symlink(&victim, made("link")).during("make a link")?;
    symlink(path(scene, "outside/new"), made("dangling")).during("make a link")?;
    symlink("../outside/new", made("relative")).during("make a link")?;
    symlink("own", made("inside")).during("make a link")?;
    let neighbour = scene.workdir.write("neighbour.raw", CANARY.as_bytes())?;
    fs::hard_link(neighbour, made("hard-link")).during("make a hard link")?;
    fs::create_dir(made("folder")).during("mkdir")?;
    UnixListener::bind(made("socket")).during("bind a socket")?;
    let fifo = Command::new("mkfifo").arg(made("fifo")).status().during("start mkfifo")?;
    assert!(fifo.success());
    Ok(vec!["file", "link", "dangling", "relative", "inside", "hard-link", "folder", "socket", "fifo"])
}

/// What each name in `made` is, and how it is linked.
fn kinds(scene: &Scene) -> Result<Vec<(String, u32, u64)>> {
    let mut kinds = Vec::new();
    for entry in fs::read_dir(path(scene, "made")).during("list made")? {
        let entry = entry.during("list made")?;
        let status = entry.metadata().during("stat")?;
        kinds.push((entry.file_name().to_string_lossy().into_owned(), status.mode(), status.ino()));
    }
    kinds.sort();
    Ok(kinds)
}

#[test]
fn what_somebody_else_has_there_is_neither_opened_nor_replaced_nor_removed() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let outside = changed(&scene, "outside")?;
        let names = put_in_the_way(&scene)?;
        let puppet = puppet(&scene, &[], user)?;
        let before = kinds(&scene)?;
        for name in names {
            let name = format!("made/{name}");
            for flags in [OFlags::empty(), OFlags::EXCL, OFlags::TRUNC, OFlags::NOFOLLOW, OFlags::DIRECT] {
                let flags = flags | OFlags::RDWR | OFlags::CREATE;
                assert_eq!(puppet.answer(puppet.start_open(&name, flags, 0o666)?)?, "EEXIST", "{name} {flags:?}");
            }
            for flags in [OFlags::RDONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::NONBLOCK] {
                assert_eq!(puppet.open(&name, flags)?, "EACCES", "{name} {flags:?}");
            }
            assert_eq!(puppet.unlink(&name)?, "EACCES", "{name}");
        }
        assert_eq!(kinds(&scene)?, before);
        assert_refused(&scene, "create", "made/file", "grant")?;
        scene.assert_unharmed(&puppet.end()?)?;
        for name in ["made/file", "neighbour.raw"] {
            assert_eq!(scene.workdir.read(name)?, CANARY.as_bytes(), "{name}");
        }
        assert_untouched(&scene, "outside", outside)?;
    }
    Ok(())
}

#[test]
fn no_name_leads_out_of_the_folder() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let outside = changed(&scene, "outside")?;
        symlink("../outside", path(&scene, "made/relative")).during("make a link")?;
        symlink(path(&scene, "outside"), path(&scene, "made/absolute")).during("make a link")?;
        symlink("loop", path(&scene, "made/loop")).during("make a link")?;
        symlink("/proc/self/cwd", path(&scene, "made/magic")).during("make a link")?;
        let puppet = puppet(&scene, &[], user)?;
        let aside = path(&scene, "outside/new").to_string_lossy().into_owned();
        let folders = ["relative", "absolute", "loop", "magic", "..", "../outside", "sub/../../outside"];
        let names = folders.iter().map(|folder| format!("made/{folder}/new"));
        for name in names.chain([aside, "outside/new".into()]) {
            assert_eq!(puppet.create(&name, 0o644)?, "EACCES", "{name}");
        }
        for name in ["made", "made/", "made/.", "made/sub/.."] {
            assert_eq!(puppet.create(name, 0o644)?, "EISDIR", "{name}");
        }
        assert_eq!(puppet.create("made/missing/new", 0o644)?, "ENOENT");
        assert_eq!(puppet.create("made/sub/../sub/.//new", 0o644)?, "ok", "around, and in the folder");
        scene.assert_unharmed(&puppet.end()?)?;
        assert_untouched(&scene, "outside", outside)?;
    }
    Ok(())
}

/// Exchanges `made/sub` with a link that leads out, until it is told to stop.
fn exchange_without_end(scene: &Scene, over: &AtomicBool) -> Result<()> {
    let (folder, link) = (path(scene, "made/sub"), path(scene, "made/link"));
    while !over.load(Ordering::Relaxed) {
        renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).during("exchange two names")?;
    }
    Ok(())
}

#[test]
fn a_folder_that_turns_into_a_link_leads_nowhere() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let outside = changed(&scene, "outside")?;
        symlink("../outside", path(&scene, "made/link")).during("make a link")?;
        let puppet = puppet(&scene, &["--create-files", "20000"], user)?;
        let over = AtomicBool::new(false);
        let answer = std::thread::scope(|scope| {
            let exchanger = scope.spawn(|| exchange_without_end(&scene, &over));
            let answer = puppet.ask(&format!("create-loop {ROUNDS} made/sub"));
            over.store(true, Ordering::Relaxed);
            exchanger.join().map_err(|_| Error::Unexpected("the exchanging thread panicked".into()))??;
            answer
        })?;
        let numbers: Vec<u64> = answer.split(' ').filter_map(|number| number.parse().ok()).collect();
        assert_eq!(numbers[0], numbers[1], "each file that was made was removed");
        assert!(numbers[0] > 0 && numbers[0] < ROUNDS, "there was no race: {answer}");
        scene.assert_unharmed(&puppet.end()?)?;
        assert_untouched(&scene, "outside", outside)?;
    }
    Ok(())
}

#[test]
fn what_has_taken_the_name_of_a_new_file_is_not_touched() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let puppet = puppet(&scene, &[], user)?;
        for name in ["made/replaced", "made/linked"] {
            assert_eq!(puppet.create(name, 0o644)?, "ok");
        }
        fs::write(path(&scene, "made/other"), CANARY).during("write a file")?;
        fs::rename(path(&scene, "made/other"), path(&scene, "made/replaced")).during("rename")?;
        symlink(path(&scene, "victim.raw"), path(&scene, "made/other")).during("make a link")?;
        fs::rename(path(&scene, "made/other"), path(&scene, "made/linked")).during("rename")?;
        for name in ["made/replaced", "made/linked"] {
            let order = puppet.start_open(name, OFlags::RDWR, 0)?;
            // The guest's own file, which has no name any more, or an error: never what has the name now.
            if puppet.answer(order)? == "ok" {
                let status = fs::metadata(puppet.descriptor(order)?).during("stat the descriptor")?;
                assert_eq!((status.nlink(), status.size()), (0, 0), "{name}");
            }
            assert_eq!(puppet.create(name, 0o644)?, "EEXIST", "{name}");
            assert_eq!(puppet.unlink(name)?, "ENOENT", "{name}");
        }
        assert_eq!(scene.workdir.read("made/replaced")?, CANARY.as_bytes());
        let link = fs::symlink_metadata(path(&scene, "made/linked")).during("stat the link")?;
        assert!(link.file_type().is_symlink() && !link.file_type().is_fifo());
        scene.assert_unharmed(&puppet.end()?)?;
    }
    Ok(())
}

#[test]
fn a_name_stands_for_the_file_that_has_it_now() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let puppet = puppet(&scene, &[], user)?;
        let name = "made/new.raw";
        assert_eq!(puppet.create(name, 0o644)?, "ok");
        fs::remove_file(path(&scene, name)).during("remove a file as the operator")?;
        assert_eq!(puppet.open(name, OFlags::RDWR)?, "ENOENT", "nothing has the name");
        let again = puppet.start_open(name, OFlags::RDWR | OFlags::CREATE, 0o644)?;
        assert_eq!(puppet.answer(again)?, "ok");
        assert_eq!(puppet.ask(&format!("write {} mine", puppet.number(again)))?, "ok");
        assert_eq!(scene.workdir.read(name)?, b"mine", "it is made anew, and not written where nobody sees it");
        fs::remove_file(path(&scene, name)).during("remove a file as the operator")?;
        scene.workdir.write(name, CANARY.as_bytes())?;
        assert_eq!(puppet.open(name, OFlags::RDWR)?, "EACCES", "somebody else's");
        assert_eq!(puppet.create(name, 0o644)?, "EEXIST");
        assert_eq!(scene.workdir.read(name)?, CANARY.as_bytes());
    }
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_gives_the_hosts_own_error() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = scene()?;
    let puppet = puppet(&scene, &[], Some(USER))?;
    fs::set_permissions(path(&scene, "made"), Permissions::from_mode(0o555)).during("chmod")?;
    assert_eq!(puppet.create("made/new", 0o644)?, "EACCES");
    let failed = |line: &Value| line["request"] == "create" && line["outcome"] == "failed";
    assert!(scene.audit()?.iter().any(failed), "the kernel said no, and not the policy: {:?}", scene.audit()?);
    Ok(())
}
