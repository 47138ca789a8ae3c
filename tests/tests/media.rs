//! Media: what `--medium` names, and regular files beneath `--medium-dir`, for reading and for nothing else.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use tests::hostile::{CANARY, Puppet, Scene};
use tests::{During, Error, Result, need};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_404;

/// Which user to run a test as: the tests' own, and an ordinary one.
const USERS: [Option<u32>; 2] = [None, Some(USER)];

/// Opens while a folder on the way changes.
const ROUNDS: u64 = 10_000;

/// What a medium holds.
const DISC: &[u8] = b"a disc that may be inserted";

/// A scene with media: `named.iso`, and the folder `media` with `disc.iso` and a folder in it.
fn scene() -> Result<Scene> {
    let scene = Scene::new()?;
    for folder in ["media", "media/sub", "outside"] {
        fs::create_dir(path(&scene, folder)).during(format!("mkdir {folder}"))?;
    }
    for disc in ["named.iso", "media/disc.iso", "media/sub/disc.iso"] {
        scene.workdir.write(disc, DISC)?;
    }
    scene.workdir.write("outside/disc.iso", CANARY.as_bytes())?;
    Ok(scene)
}

fn path(scene: &Scene, name: &str) -> PathBuf {
    scene.workdir.path(name)
}

fn puppet(scene: &Scene, user: Option<u32>) -> Result<Puppet<'_>> {
    Puppet::start_as(scene, user, |command| command.options(["--medium", "named.iso", "--medium-dir", "media"]))
}

/// Fails unless a medium can be read, and in no way be written.
fn assert_only_read(puppet: &Puppet, name: &str) -> Result<()> {
    let order = puppet.start_open(name, OFlags::RDONLY, 0)?;
    assert_eq!(puppet.answer(order)?, "ok", "{name}");
    let descriptor = puppet.descriptor(order)?;
    assert_eq!(fs::read(&descriptor).during("read the descriptor")?, DISC, "{name}");
    assert_eq!(puppet.ask(&format!("write {} X", puppet.number(order)))?, "EBADF", "{name}");
    // Whoever has the descriptor could open it again by way of /proc, were it not for its read-only mount.
    let again = OpenOptions::new().write(true).open(&descriptor);
    assert_eq!(again.map_err(|error| error.raw_os_error()).err(), Some(Some(Errno::ROFS.raw_os_error())), "{name}");
    for flags in [OFlags::RDWR, OFlags::WRONLY, OFlags::RDONLY | OFlags::TRUNC, OFlags::WRONLY | OFlags::APPEND] {
        assert_eq!(puppet.open(name, flags)?, "EACCES", "{name} {flags:?}");
    }
    assert_eq!(puppet.unlink(name)?, "EACCES", "{name}");
    Ok(())
}

#[test]
fn media_are_read_and_never_written() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let puppet = puppet(&scene, user)?;
        for name in ["named.iso", "media/disc.iso", "media/sub/disc.iso", "media/sub/../disc.iso"] {
            assert_only_read(&puppet, name)?;
        }
        let absolute = path(&scene, "media/disc.iso").to_string_lossy().into_owned();
        assert_only_read(&puppet, &absolute)?;
        assert_eq!(puppet.create("media/new.iso", 0o644)?, "EACCES");
        assert_eq!(puppet.create("media/disc.iso", 0o644)?, "EACCES");
        scene.assert_unharmed(&puppet.end()?)?;
        assert_eq!(scene.workdir.read("media/disc.iso")?, DISC);
    }
    Ok(())
}

#[test]
fn a_disc_that_came_after_the_start_can_be_inserted() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let puppet = puppet(&scene, user)?;
        assert_eq!(puppet.open("media/late.iso", OFlags::RDONLY)?, "ENOENT");
        scene.workdir.write("media/late.iso", DISC)?;
        assert_eq!(puppet.open("media/late.iso", OFlags::RDONLY)?, "ok");
        fs::remove_file(path(&scene, "media/late.iso")).during("remove the disc")?;
        assert_eq!(puppet.open("media/late.iso", OFlags::RDONLY)?, "ENOENT");
        // What is named by itself was pinned: another file under its name is another file.
        scene.workdir.write("other", CANARY.as_bytes())?;
        fs::rename(path(&scene, "other"), path(&scene, "named.iso")).during("rename")?;
        let order = puppet.start_open("named.iso", OFlags::RDONLY, 0)?;
        assert_eq!(puppet.answer(order)?, "ok");
        assert_eq!(fs::read(puppet.descriptor(order)?).during("read the descriptor")?, DISC);
    }
    Ok(())
}

#[test]
fn no_link_leads_out_and_nothing_but_files_is_inserted() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let victim = path(&scene, "victim.raw");
        let media = |name: &str| path(&scene, &format!("media/{name}"));
        for (target, name) in [
            (victim.as_path(), "absolute"),
            ("../victim.raw".as_ref(), "relative"),
            ("sub/../../victim.raw".as_ref(), "around"),
            ("../outside".as_ref(), "folder"),
            ("/proc/self/cwd".as_ref(), "magic"),
            ("loop".as_ref(), "loop"),
            ("sub/disc.iso".as_ref(), "inside"),
            ("sub".as_ref(), "folder-inside"),
            ("../media/disc.iso".as_ref(), "out-and-in"),
        ] {
            symlink(target, media(name)).during("make a link")?;
        }
        let fifo = Command::new("mkfifo").arg(media("fifo")).status().during("start mkfifo")?;
        assert!(fifo.success());
        let puppet = puppet(&scene, user)?;
        for name in ["inside", "folder-inside/disc.iso"] {
            assert_only_read(&puppet, &format!("media/{name}"))?;
        }
        let outward = ["absolute", "relative", "around", "folder/disc.iso", "magic/victim.raw", "loop", "out-and-in"];
        for name in outward.iter().chain(&["fifo", "sub", "../victim.raw", "../outside/disc.iso"]) {
            for flags in [OFlags::RDONLY, OFlags::RDONLY | OFlags::NONBLOCK] {
                assert_eq!(puppet.open(&format!("media/{name}"), flags)?, "EACCES", "{name} {flags:?}");
            }
        }
        let refused: Vec<_> = scene.audit()?.into_iter().filter(|line| line["outcome"] == "refused").collect();
        assert!(refused.iter().all(|line| line["advice"].is_string() && line["reason"].is_string()), "{refused:?}");
        scene.assert_unharmed(&puppet.end()?)?;
    }
    Ok(())
}

#[test]
fn a_device_in_the_folder_is_not_inserted() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = scene()?;
    // The kernel's memory device, which every host has: c 1 3 (Documentation/admin-guide/devices.txt) is /dev/null.
    let made = Command::new("mknod").arg(path(&scene, "media/null")).args(["c", "1", "3"]).status();
    assert!(made.during("start mknod")?.success());
    let puppet = puppet(&scene, None)?;
    let status = fs::metadata(path(&scene, "media/null")).during("stat the device")?;
    assert!(status.file_type().is_char_device());
    assert_eq!(puppet.open("media/null", OFlags::RDONLY)?, "EACCES");
    Ok(())
}

/// Exchanges `media/sub` with a link that leads out, until it is told to stop.
fn exchange_without_end(scene: &Scene, over: &AtomicBool) -> Result<()> {
    let (folder, link) = (path(scene, "media/sub"), path(scene, "media/link"));
    while !over.load(Ordering::Relaxed) {
        renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).during("exchange two names")?;
    }
    Ok(())
}

#[test]
fn a_folder_that_turns_into_a_link_shows_nothing_else() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        symlink("../outside", path(&scene, "media/link")).during("make a link")?;
        let puppet = puppet(&scene, user)?;
        let over = AtomicBool::new(false);
        let answer = std::thread::scope(|scope| {
            let exchanger = scope.spawn(|| exchange_without_end(&scene, &over));
            let answer = puppet.ask(&format!("open-loop {ROUNDS} media/sub/disc.iso"));
            over.store(true, Ordering::Relaxed);
            exchanger.join().map_err(|_| Error::Unexpected("the exchanging thread panicked".into()))??;
            answer
        })?;
        let numbers: Vec<u64> = answer.split(' ').filter_map(|number| number.parse().ok()).collect();
        assert!(numbers[0] > 0 && numbers[0] < ROUNDS, "there was no race: {answer}");
        assert_eq!(numbers[1], 0, "what came was somebody else's: {answer}");
    }
    Ok(())
}
