//! An emulator that was taken over asks for files by their names, in every way that the kernel has. Another
//! guest's image lies beside its own, belongs to the same user, and does not exist for it.

use serde_json::Value;
use tests::hostile::{Answers, Scene};
use tests::{BrokerCommand, Finished, Result, need};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_399;

/// What each attempt of `names.c` comes to.
const NAMES: &[(&str, &str)] = &[
    ("ok", "root folder"),
    // Refused by the broker.
    ("EACCES", "open open-relative open-write open-truncate open-create open-exclusive open-path open-folder creat"),
    ("EACCES", "openat openat-high-bits open-link open-hard-link climb-open unlink unlink-own"),
    ("EACCES", "shadow-open shadow-through-library sys memory-device"),
    // A flag that no request can carry.
    ("EINVAL", "open-tmpfile"),
    // The sandbox's own tree: it is not there.
    ("ENOENT", "openat-no-folder openat-root openat-relative openat-link climb-openat climb-root"),
    ("ENOENT", "shadow proc-self proc-root proc-open proc-cwd"),
    ("ENOENT", "stat lstat newfstatat statx access faccessat2 readlink statfs chdir"),
    // The sandbox's own tree: nothing can be made or removed in it, and only libraries be listed.
    ("EROFS|EACCES", "openat-create openat-tmpfile unlinkat unlinkat-own"),
    ("EACCES", "openat-list openat-list-root"),
    ("ETXTBSY|EACCES|EROFS", "own-program-write"),
    // The filter, where Landlock would say the same.
    ("EACCES", "truncate truncate-own mkdir mkdir-private rmdir"),
    ("ENOSYS", "openat2"),
    // The filter.
    ("EPERM", "getxattr listxattr inotify fanotify unlinkat-folder"),
    ("EPERM", "chmod fchmodat fchmodat2 chown lchown fchownat utimensat utime utimes futimesat setxattr removexattr"),
    ("EPERM", "link link-own linkat symlink symlink-private rename renameat2 mknod mknodat-device"),
    ("EPERM", "name-to-handle name-to-handle-root open-by-handle"),
    ("EPERM", "mount mount-bind umount pivot-root chroot open-tree move-mount fsopen fspick mount-setattr"),
];

/// What each attempt of `spellings.c` comes to.
const SPELLINGS: &[(&str, &str)] = &[
    // The grants, however spelled, read by the letters of the name.
    ("ok", "trailing-slash-granted dotted-granted around-granted ends-with-the-page across-pages"),
    ("EACCES", "dot-dot doubled-slash doubled-victim trailing-slash around-victim beneath-granted"),
    ("EACCES", "not-utf8 control-characters 4095 dev-fd dev-stdin fdset fd-prefix json"),
    ("EACCES", "terminal terminals kvm tun"),
    // Names of the sandbox's own tree: Landlock forbids to list, and there is no /proc.
    ("EACCES", "dot slash"),
    ("ENOENT", "empty descriptor-0 descriptor-3 thread-descriptor"),
    ("ENAMETOOLONG", "4096 5000"),
    ("EFAULT", "null-pointer kernel-pointer highest-pointer unmapped runs-into-the-unmapped"),
    ("EFAULT", "into-the-forbidden forbidden"),
    // Flags that no request can carry.
    ("EINVAL", "flag-async flag-tmpfile flag-access-3 flag-exec flag-nonotify flag-highest"),
    ("EACCES", "flag-path flag-write flag-read-write flag-truncate flag-create-truncate flag-append-write"),
    ("EACCES", "flags-high-half backing-write backing-write-absolute backing-truncate"),
    ("ENOTDIR", "flag-folder"),
    ("EEXIST", "flag-exclusive"),
    ("ok", "flag-create flag-nofollow flag-append backing-read granted-write granted-write-absolute"),
];

/// Runs an attack and looks at what it came to and what it left.
fn attack(
    name: &str,
    expected: &[(&str, &str)],
    prepare: impl FnOnce(BrokerCommand) -> BrokerCommand,
) -> Result<(Finished, Vec<Value>)> {
    let scene = Scene::new()?;
    let before = scene.workdir.listing()?;
    let finished = prepare(scene.command(name)).run()?;
    Answers::of(&finished)?.assert(expected);
    scene.assert_unharmed(&finished)?;
    assert_eq!(scene.workdir.listing()?, before, "no file came or went");
    Ok((finished, scene.audit()?))
}

#[test]
fn no_name_leads_to_another_guests_image() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let (finished, audit) = attack("names", NAMES, |command| command)?;
    let asked = |line: &&Value| line["request"] == "open" || line["request"] == "create";
    let of_victim = |line: &&Value| asked(line) && line["name"].to_string().contains("victim");
    assert_eq!(audit.iter().filter(of_victim).count(), 13, "each brokered attempt is written down: {audit:?}");
    for line in &audit {
        assert_eq!(line["outcome"], "refused", "{line}");
        assert!(line["reason"].is_string() && line["advice"].is_string(), "{line}");
    }
    let lines = finished.stderr.lines().filter(|line| line.starts_with("broker: refused: "));
    assert_eq!(lines.count(), audit.len(), "and each is one line for the operator: {}", finished.stderr);
    Ok(())
}

#[test]
fn no_name_leads_an_ordinary_user_there() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack("names", NAMES, |command| command.user(USER))?;
    Ok(())
}

#[test]
fn no_name_leads_another_user_there() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    attack("names", NAMES, |command| command.options(["--user", "12346:12347"]))?;
    Ok(())
}

#[test]
fn odd_spellings_places_and_flags_give_nothing_more() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let (finished, audit) = attack("spellings", SPELLINGS, |command| command)?;
    // A name is the emulator's: it must not write lines of the broker's, nor steer a terminal.
    assert!(!finished.stderr.contains('\u{1b}'), "{:?}", finished.stderr);
    for line in finished.stderr.lines() {
        assert!(line.starts_with("broker: refused: "), "{line:?}");
    }
    let long = audit.iter().filter_map(|line| line["name"].as_str()).map(str::len).max();
    assert_eq!(long, Some(256), "a long name is cut");
    Ok(())
}

#[test]
fn odd_spellings_give_an_ordinary_user_nothing_more() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack("spellings", SPELLINGS, |command| command.user(USER))?;
    Ok(())
}

#[test]
fn a_firmware_folder_does_not_show_the_images_that_lie_in_it() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    let finished = scene.command("names").args(["-L", "."]).run()?;
    if finished.status.code() == Some(125) {
        assert!(finished.stderr.contains("-L"), "{}", finished.stderr);
        return Ok(());
    }
    let answers = Answers::of(&finished)?;
    for attempt in ["open", "openat-root", "openat-relative", "openat-list", "stat", "access"] {
        assert_ne!(answers.get(attempt)?, "ok", "{attempt} of another guest's image in the folder that -L names");
    }
    scene.assert_unharmed(&finished)
}
