//! An open that never returns delays no other one and is given up at its deadline: a server that hangs, a FIFO in a
//! file's place, a file on which somebody has a lease.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tests::control::{Control, unique_name};
use tests::fuse::{FuseFolder, Mood};
use tests::hostile::{Order, Puppet, Scene, hostile_program};
use tests::{BrokerCommand, During, Error, Process, Result, need};

/// Seconds until an open is given up: time enough for the slowest machine to answer others meanwhile.
const DEADLINE: &str = "5";

/// Files that hang at the same time.
const STUCK: usize = 40;

/// Threads that a broker may have at most, whatever hangs: those that open, and the one that answers.
const MAX_THREADS: usize = 130;

/// A file system with these files, of 64 KiB each, beside the images of `scene`.
fn folder(scene: &Scene, names: &[String]) -> Result<FuseFolder> {
    let files = names.iter().map(|name| (OsString::from(name), vec![0; 65536])).collect();
    FuseFolder::mount(scene.workdir.aside().join("server"), 0, files)
}

/// Images of the emulator, for reading and writing.
fn with_images<'a>(command: BrokerCommand<'a>, paths: &[PathBuf]) -> BrokerCommand<'a> {
    let drive = |path: &PathBuf| ["-drive".to_owned(), format!("file={},format=raw,if=none", path.display())];
    command.options(["--open-timeout", DEADLINE]).args(paths.iter().flat_map(drive))
}

/// A puppet with `count` images on a server of its own, and the names of these images.
fn puppet_on_server(scene: &Scene, count: usize) -> Result<(FuseFolder, Vec<String>, Puppet<'_>)> {
    let names: Vec<String> = (0..count).map(|number| format!("image-{number}.raw")).collect();
    let folder = folder(scene, &names)?;
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.path(name)).collect();
    let puppet = Puppet::start(scene, |command| with_images(command, &paths))?;
    Ok((folder, names, puppet))
}

fn start_opening(puppet: &Puppet, path: &Path) -> Result<Order> {
    puppet.start_open(&path.to_string_lossy(), OFlags::RDWR, 0)
}

fn open(puppet: &Puppet, path: &Path) -> Result<String> {
    puppet.answer(start_opening(puppet, path)?)
}

/// Fails if one of the broker's processes still holds an open file, rather than a pin of it.
fn assert_not_held(puppet: &Puppet, path: &Path) -> Result<()> {
    let held = || -> Result<bool> {
        for helper in puppet.emulator().helpers()? {
            if helper.open_flags_of(path)?.iter().any(|flags| !flags.contains(OFlags::PATH)) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    tests::until(tests::PATIENCE, "the broker to close what came too late", || Ok((!held()?).then_some(())))
}

#[test]
fn a_server_that_hangs_delays_no_other_file() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let scene = Scene::new()?;
    let (folder, names, puppet) = puppet_on_server(&scene, 2)?;
    let [hanging, healthy] = [0, 1].map(|index| folder.path(&names[index]));
    assert_eq!(open(&puppet, &hanging)?, "ok");

    folder.set(&names[0], Mood::Hanging)?;
    let stuck = start_opening(&puppet, &hanging)?;
    folder.await_hanging(1)?;
    assert_eq!(open(&puppet, &healthy)?, "ok", "another file of the same server");
    assert_eq!(puppet.open("granted.qcow2", OFlags::RDWR)?, "ok", "a file elsewhere");
    assert_eq!(puppet.open("victim.raw", OFlags::RDONLY)?, "EACCES", "a refusal");
    assert_eq!(puppet.answer_so_far(stuck)?, None, "the others did not wait for it");
    assert_eq!(puppet.answer(stuck)?, "ETIMEDOUT");

    folder.release();
    assert_eq!(open(&puppet, &hanging)?, "ok", "the server is well again");
    assert_not_held(&puppet, &hanging)?;
    scene.assert_unharmed(&puppet.end()?)
}

#[test]
fn many_files_that_hang_do_not_stop_a_healthy_one() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let scene = Scene::new()?;
    let (folder, names, puppet) = puppet_on_server(&scene, STUCK + 1)?;
    let mut stuck = Vec::new();
    for name in &names[..STUCK] {
        folder.set(name, Mood::Hanging)?;
        stuck.push(start_opening(&puppet, &folder.path(name))?);
    }
    folder.await_hanging(STUCK)?;
    assert_eq!(open(&puppet, &folder.path(&names[STUCK]))?, "ok");
    assert_eq!(puppet.open("granted.qcow2", OFlags::RDWR)?, "ok");
    for order in stuck {
        assert_eq!(puppet.answer(order)?, "ETIMEDOUT");
    }
    folder.release();
    for name in &names {
        assert_eq!(open(&puppet, &folder.path(name))?, "ok", "{name}");
    }
    Ok(())
}

/// A hostile emulator asks for the one file that hangs over and over: what is stuck in the kernel stays there, so the
/// broker must not give every request a thread.
#[test]
fn asking_again_and_again_for_a_file_that_hangs_uses_nothing_up() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let scene = Scene::new()?;
    let (folder, names, puppet) = puppet_on_server(&scene, 2)?;
    folder.set(&names[0], Mood::Hanging)?;
    for round in 0..3 {
        let orders: Result<Vec<Order>> = (0..60).map(|_| start_opening(&puppet, &folder.path(&names[0]))).collect();
        for order in orders? {
            let answer = puppet.answer(order)?;
            assert!(["ETIMEDOUT", "EAGAIN", "EBUSY"].contains(&answer.as_str()), "{answer}");
        }
        assert_eq!(open(&puppet, &folder.path(&names[1]))?, "ok", "round {round}: a healthy file");
        assert_eq!(puppet.open("granted.qcow2", OFlags::RDWR)?, "ok", "round {round}: a file elsewhere");
        for helper in puppet.emulator().helpers()? {
            let threads = helper.threads()?.len();
            assert!(threads <= MAX_THREADS, "{threads} threads");
        }
    }
    folder.release();
    assert_eq!(open(&puppet, &folder.path(&names[0]))?, "ok");
    assert_not_held(&puppet, &folder.path(&names[0]))
}

#[test]
fn a_server_that_has_lost_a_file_says_so() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let scene = Scene::new()?;
    let (folder, names, puppet) = puppet_on_server(&scene, 1)?;
    folder.set(&names[0], Mood::Failing(Errno::STALE.raw_os_error()))?;
    assert_eq!(open(&puppet, &folder.path(&names[0]))?, "ESTALE");
    folder.release();
    assert_eq!(open(&puppet, &folder.path(&names[0]))?, "ok");
    Ok(())
}

/// Somebody on the host who keeps others from opening a file (`tests/hostile/obstacles.c`), until dropped.
struct Obstacle {
    child: Child,
    _input: ChildStdin,
}

impl Obstacle {
    /// `kind` is `lease` or `scanner`.
    fn put(kind: &str, path: &Path) -> Result<Self> {
        let mut child = Command::new(hostile_program()?)
            .arg(kind)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .during(format!("start a {kind}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Unexpected(format!("no pipes to a {kind}")));
        };
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said).during(format!("wait for a {kind}"))?;
        if said.trim_end() != "held now" {
            return Err(Error::Unexpected(format!("no {kind}: {said}")));
        }
        Ok(Self { child, _input: input })
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        // It is our own child, and not waited for yet.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_file_that_somebody_has_a_lease_on_is_waited_for_and_given_up() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = Scene::new()?;
    let puppet = Puppet::start(&scene, |command| command.options(["--open-timeout", DEADLINE]))?;
    let lease = Obstacle::put("lease", &scene.workdir.path("readonly.raw"))?;
    assert_eq!(puppet.open("readonly.raw", OFlags::RDONLY | OFlags::NONBLOCK)?, "EAGAIN", "as without the broker");
    let stuck = puppet.start_open("readonly.raw", OFlags::RDONLY, 0)?;
    assert_eq!(puppet.open("granted.qcow2", OFlags::RDWR)?, "ok");
    assert_eq!(puppet.answer_so_far(stuck)?, None);
    assert_eq!(puppet.answer(stuck)?, "ETIMEDOUT");
    drop(lease);
    assert_eq!(puppet.open("readonly.raw", OFlags::RDONLY)?, "ok");
    scene.assert_unharmed(&puppet.end()?)
}

/// A scanner of the host's that must agree to each open can hang too, on any file system.
#[test]
fn a_file_that_a_scanner_never_lets_go_delays_no_other() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = Scene::new()?;
    let puppet = Puppet::start(&scene, |command| command.options(["--open-timeout", DEADLINE]))?;
    let scanner = Obstacle::put("scanner", &scene.workdir.path("readonly.raw"))?;
    for flags in [OFlags::RDONLY, OFlags::RDONLY | OFlags::NONBLOCK] {
        let stuck = puppet.start_open("readonly.raw", flags, 0)?;
        assert_eq!(puppet.open("granted.qcow2", OFlags::RDWR)?, "ok");
        assert_eq!(puppet.open("victim.raw", OFlags::RDONLY)?, "EACCES");
        assert_eq!(puppet.answer_so_far(stuck)?, None, "{flags:?}");
        assert_eq!(puppet.answer(stuck)?, "ETIMEDOUT", "{flags:?}");
    }
    drop(scanner);
    assert_eq!(puppet.open("readonly.raw", OFlags::RDONLY)?, "ok");
    scene.assert_unharmed(&puppet.end()?)
}

/// Puts a FIFO in the place of a file, or of nothing.
fn put_fifo(path: &Path) -> Result<()> {
    let new = path.with_extension("fifo");
    let made = Command::new("mkfifo").arg(&new).status().during("start mkfifo")?;
    assert!(made.success(), "mkfifo {}", new.display());
    std::fs::rename(&new, path).during("rename a FIFO")
}

#[test]
fn a_fifo_in_a_files_place_is_not_opened() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    for name in ["media", "made"] {
        std::fs::create_dir(scene.workdir.path(name)).during("mkdir")?;
    }
    let options = ["--open-timeout", DEADLINE, "--medium-dir", "media", "--allow", "create=made"];
    let puppet = Puppet::start(&scene, |command| command.options(options))?;
    for place in ["readonly.raw", "media/pipe.iso", "made/pipe.raw"] {
        put_fifo(&scene.workdir.path(place))?;
    }
    let pinned = puppet.start_open("readonly.raw", OFlags::RDONLY, 0)?;
    assert_eq!(puppet.answer(pinned)?, "ok");
    let kind = std::fs::metadata(puppet.descriptor(pinned)?).during("stat the descriptor")?;
    assert!(kind.is_file(), "the file that was granted, and not what has its name now");
    for flags in [OFlags::RDONLY, OFlags::RDONLY | OFlags::NONBLOCK, OFlags::RDWR] {
        assert_eq!(puppet.open("media/pipe.iso", flags)?, "EACCES", "{flags:?}");
        assert_eq!(puppet.open("made/pipe.raw", flags)?, "EACCES", "{flags:?}");
    }
    assert_eq!(puppet.create("made/pipe.raw", 0o644)?, "EEXIST");
    Ok(())
}

/// What new files take up is looked at before another one is made, so one of them on a server that hangs can hold up the
/// next one; it must hold up nothing else.
#[test]
fn a_new_file_that_hangs_delays_only_new_files() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let scene = Scene::new()?;
    let folder = folder(&scene, &[])?;
    std::fs::create_dir(scene.workdir.path("made")).during("mkdir")?;
    let remote = folder.path("new.raw").to_string_lossy().into_owned();
    let remote_folder = scene.workdir.aside().join("server").to_string_lossy().into_owned();
    let create = [format!("create={remote_folder}"), "create=made".to_owned()];
    let puppet = Puppet::start(&scene, |command| {
        let options = create.iter().flat_map(|folder| ["--allow", folder]);
        command.options(["--open-timeout", DEADLINE]).options(options)
    })?;
    for name in [remote.as_str(), "made/first", "made/second"] {
        assert_eq!(puppet.create(name, 0o644)?, "ok", "{name}");
    }
    folder.set("new.raw", Mood::Silent)?;
    let next = puppet.start_open("made/third", OFlags::RDWR | OFlags::CREATE, 0o644)?;
    folder.await_hanging(1)?;
    assert_eq!(puppet.open("granted.qcow2", OFlags::RDWR)?, "ok", "a file of the command line");
    assert_eq!(puppet.unlink("made/first")?, "ok", "a new file elsewhere is removed");
    assert_eq!(puppet.open("made/second", OFlags::RDWR)?, "ok", "a new file elsewhere is opened");
    assert_eq!(puppet.open("victim.raw", OFlags::RDONLY)?, "EACCES", "a refusal");
    let answer = puppet.answer(next)?;
    assert!(["ok", "ETIMEDOUT"].contains(&answer.as_str()), "{answer}");
    folder.release();
    assert_eq!(puppet.create("made/fourth", 0o644)?, "ok");
    Ok(())
}

/// An operator who tries a disc again and again that is on a bad part of the server can still insert another one.
#[test]
fn a_medium_that_hangs_leaves_the_others_of_its_folder_alone() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let scene = Scene::new()?;
    let names: Vec<String> = (0..STUCK).map(|number| format!("disc-{number}.iso")).collect();
    let folder = folder(&scene, &names)?;
    let media = scene.workdir.aside().join("server").to_string_lossy().into_owned();
    let options = ["--open-timeout", DEADLINE, "--medium-dir", &media];
    let puppet = Puppet::start(&scene, |command| command.options(options))?;
    let start = |name: &str| puppet.start_open(&folder.path(name).to_string_lossy(), OFlags::RDONLY, 0);
    for (count, what) in [(1, "one disc, often"), (STUCK / 2, "many discs")] {
        let mut stuck = Vec::new();
        for name in names.iter().take(count).cycle().take(STUCK / 2) {
            folder.set(name, Mood::Hanging)?;
            stuck.push(start(name)?);
        }
        folder.await_hanging(1)?;
        assert_eq!(puppet.answer(start(&names[STUCK - 1])?)?, "ok", "{what}: another disc of the folder");
        assert_eq!(puppet.open("granted.qcow2", OFlags::RDWR)?, "ok", "{what}: a file elsewhere");
        for order in stuck {
            assert_eq!(puppet.answer(order)?, "ETIMEDOUT", "{what}");
        }
        folder.release();
    }
    assert_eq!(puppet.answer(start(&names[0])?)?, "ok");
    Ok(())
}

/// What was granted while the guest ran is opened by another process, which can get stuck as well.
#[test]
fn a_file_that_was_granted_later_and_hangs_delays_no_other() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let scene = Scene::new()?;
    let names = ["hanging.raw", "healthy.raw"].map(str::to_owned);
    let folder = folder(&scene, &names)?;
    let guest = unique_name();
    let puppet =
        Puppet::start(&scene, |command| command.options(["--open-timeout", DEADLINE]).options(["--name", &guest]))?;
    let control = Control::new(&guest);
    let [hanging, healthy] = names.map(|name| folder.path(&name));
    for path in [&hanging, &healthy] {
        control.order(["grant", &path.to_string_lossy(), "--write"])?;
        assert_eq!(open(&puppet, path)?, "ok");
    }
    folder.set("hanging.raw", Mood::Hanging)?;
    let orders: Result<Vec<Order>> = (0..60).map(|_| start_opening(&puppet, &hanging)).collect();
    folder.await_hanging(1)?;
    for order in orders? {
        assert_eq!(puppet.answer(order)?, "ETIMEDOUT");
    }
    assert_eq!(open(&puppet, &healthy)?, "ok", "another file that was granted later");
    assert_eq!(puppet.open("granted.qcow2", OFlags::RDWR)?, "ok", "a file of the command line");
    control.order(["revoke", &hanging.to_string_lossy()])?;
    assert_eq!(open(&puppet, &hanging)?, "EACCES");
    folder.release();
    control.order(["grant", &hanging.to_string_lossy(), "--write"])?;
    assert_eq!(open(&puppet, &hanging)?, "ok", "granted anew");
    Ok(())
}

/// Threads are the kernel's to end: the broker of a guest that has ended goes with the last of them.
#[test]
fn the_broker_ends_although_a_file_hangs() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let scene = Scene::new()?;
    let (folder, names, puppet) = puppet_on_server(&scene, 1)?;
    folder.set(&names[0], Mood::Hanging)?;
    let stuck = start_opening(&puppet, &folder.path(&names[0]))?;
    assert_eq!(puppet.answer(stuck)?, "ETIMEDOUT");
    let helpers = puppet.emulator().helpers()?;
    puppet.end()?;
    folder.release();
    let gone = |process: &Process| !process.is_running();
    tests::until(tests::PATIENCE, "the broker's end", || Ok(helpers.iter().all(gone).then_some(())))
}
