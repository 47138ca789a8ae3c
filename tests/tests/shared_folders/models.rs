//! What a guest does in a folder, and what the host sees of it, with each way to keep owners and modes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use tests::{BrokerCommand, During, Emulator, ORDINARY_USER, PLAIN_QEMU, Result, Workdir, need};

use crate::device::DEVICE;
use crate::guest::{Guest, MODE, OWNER, SIZE, TIME};

/// `S_IFREG`, `S_IFIFO` and `S_IFBLK` (inode(7)).
const REGULAR: u32 = 0o100_000;
const FIFO: u32 = 0o010_000;
const BLOCK_DEVICE: u32 = 0o060_000;
/// `AT_REMOVEDIR`, as Linux numbers it (linux/fcntl.h).
const AT_REMOVEDIR: u32 = 0x200;
/// The attribute is not there (asm-generic/errno.h).
const ENODATA: i32 = 61;

/// Who starts the emulator, and which way is tried.
pub struct Scene {
    pub workdir: Workdir,
    pub folder: PathBuf,
    user: Option<u32>,
}

impl Scene {
    /// A folder `share` beside nothing else.
    pub fn new(user: Option<u32>) -> Result<Self> {
        let workdir = Workdir::new()?;
        let folder = workdir.path("share");
        fs::create_dir(&folder).during("make the folder to share")?;
        Ok(Self { workdir, folder, user })
    }

    /// The start of an emulator that shares the folder, by its relative name, with these options.
    pub fn command(&self, options: &str) -> BrokerCommand<'_> {
        let command = BrokerCommand::new(&self.workdir).args(PLAIN_QEMU).args([
            "-fsdev",
            &format!("local,id=share,path=share,{options}"),
            "-device",
            DEVICE,
        ]);
        match self.user {
            Some(user) => command.user(user),
            None => command,
        }
    }

    /// A guest that has it mounted.
    pub fn mount(&self, options: &str) -> Result<(Emulator, Guest)> {
        let (emulator, stream) = self.command(options).start_with_qtest()?;
        let guest = Guest::mount(stream, &emulator, self.own())?;
        Ok((emulator, guest))
    }

    /// The number of the emulator's user, and of that user's group.
    pub fn own(&self) -> u32 {
        let starts = rustix::process::getuid();
        if starts.is_root() { self.user.unwrap_or(0) } else { starts.as_raw() }
    }

    /// What the host has at `name` in the folder.
    pub fn host(&self, name: &str) -> Result<fs::Metadata> {
        let path = self.folder.join(name);
        fs::symlink_metadata(&path).during(format!("look at {}", path.display()))
    }
}

/// What every model does alike, for a guest whose user has the emulator's own number: it has no right to give files away.
fn use_folder(guest: &mut Guest, scene: &Scene) -> Result<()> {
    assert_eq!(guest.make_folder("inner")?, Ok(()));
    assert_eq!(guest.create("", "a", 0o640, b"from the guest")?, Ok(()));
    assert_eq!(fs::read(scene.folder.join("a")).during("read a")?, b"from the guest");
    fs::write(scene.folder.join("a"), b"from the host!").during("write a")?;
    assert_eq!(guest.read("a")?, Ok(b"from the host!".to_vec()));
    assert_eq!(guest.look("a")?, Ok((REGULAR | 0o640, scene.own())));
    assert_eq!(guest.set("a", MODE, REGULAR | 0o600)?, Ok(()));
    assert_eq!(guest.look("a")?, Ok((REGULAR | 0o600, scene.own())));
    assert_eq!(guest.set("a", SIZE, 4)?, Ok(()));
    assert_eq!(guest.overwrite("a", b"F")?, Ok(()));
    assert_eq!(guest.read("a")?, Ok(b"From".to_vec()));
    assert_eq!(guest.set("a", TIME, 1_000_000)?, Ok(()));
    assert_eq!(scene.host("a")?.mtime(), 1_000_000);
    assert_eq!(guest.symlink("link", "a")?, Ok(()));
    assert_eq!(guest.read_link("link")?, Ok("a".to_owned()));
    assert_eq!(guest.link("a", "b")?, Ok(()));
    assert_eq!(scene.host("b")?.ino(), scene.host("a")?.ino());
    assert_eq!(guest.rename("b", "inner", "c")?, Ok(()));
    assert_eq!(scene.host("inner/c")?.ino(), scene.host("a")?.ino());
    assert_eq!(guest.remove("inner", "c", 0)?, Ok(()));
    assert_eq!(guest.remove("", "inner", AT_REMOVEDIR)?, Ok(()));
    assert!(scene.host("inner").is_err());
    Ok(())
}

/// Uses the folder with this model; `look` says what the host has afterwards. Everything goes as in plain QEMU, and the
/// broker refuses nothing.
fn use_model(user: Option<u32>, options: &str, look: impl Fn(&Scene, &mut Guest) -> Result<()>) -> Result<()> {
    let scene = Scene::new(user)?;
    let (mut emulator, mut guest) = scene.mount(options)?;
    let used = use_folder(&mut guest, &scene).and_then(|()| look(&scene, &mut guest));
    used.map_err(|error| emulator.explain(error))?;
    emulator.signal(rustix::process::Signal::TERM)?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    assert!(!finished.stderr.contains("broker: refused"), "{finished:?}");
    Ok(())
}

fn look_native(scene: &Scene, guest: &mut Guest) -> Result<()> {
    assert_eq!(scene.host("a")?.permissions().mode() & 0o7777, 0o600);
    assert!(scene.host("link")?.file_type().is_symlink());
    use_attributes(guest)
}

/// Special files are ordinary ones for the host.
fn make_special_files(scene: &Scene, guest: &mut Guest) -> Result<()> {
    for (name, mode, device) in [("fifo", FIFO | 0o644, (0, 0)), ("disk", BLOCK_DEVICE | 0o600, (8, 1))] {
        assert_eq!(guest.make_node(name, mode, device)?, Ok(()));
        assert_eq!(guest.look(name)?, Ok((mode, scene.own())));
        assert!(scene.host(name)?.file_type().is_file());
    }
    assert!(scene.host("link")?.file_type().is_file());
    Ok(())
}

fn look_mapped_in_attributes(scene: &Scene, guest: &mut Guest) -> Result<()> {
    make_special_files(scene, guest)?;
    // The guest gives its files to anybody, which the host's owner does not follow.
    assert_eq!(guest.set("a", OWNER, 4321)?, Ok(()));
    assert_eq!(guest.look("a")?, Ok((REGULAR | 0o600, 4321)));
    assert_eq!(scene.host("a")?.uid(), scene.own());
    assert_eq!(guest.set("a", MODE, REGULAR | 0o4755)?, Ok(()));
    assert_eq!(scene.host("a")?.permissions().mode() & 0o7000, 0);
    use_attributes(guest)
}

fn look_mapped_in_files(scene: &Scene, guest: &mut Guest) -> Result<()> {
    make_special_files(scene, guest)?;
    assert!(scene.host(".virtfs_metadata/a")?.file_type().is_file());
    assert_eq!(guest.set("a", OWNER, 4321)?, Ok(()));
    assert_eq!(guest.look("a")?, Ok((REGULAR | 0o600, 4321)));
    assert_eq!(scene.host("a")?.uid(), scene.own());
    Ok(())
}

fn use_attributes(guest: &mut Guest) -> Result<()> {
    assert_eq!(guest.set_attribute("a", "user.colour", b"green")?, Ok(()));
    assert_eq!(guest.attribute("a", "user.colour")?, Ok(b"green".to_vec()));
    assert_eq!(guest.attribute("a", "user.other")?, Err(ENODATA));
    Ok(())
}

#[test]
fn a_folder_with_the_hosts_own_modes_as_root() -> Result<()> {
    need!(Root, Qemu, Landlock);
    use_model(None, "security_model=none", look_native)?;
    use_model(None, "security_model=passthrough,writeout=immediate", look_native)
}

#[test]
fn a_folder_with_the_hosts_own_modes_as_an_ordinary_user() -> Result<()> {
    need!(UserNamespaces, Qemu, Landlock);
    use_model(Some(ORDINARY_USER), "security_model=none", look_native)?;
    use_model(Some(ORDINARY_USER), "security_model=passthrough,multidevs=remap", look_native)
}

#[test]
fn a_folder_that_keeps_modes_in_attributes_as_root() -> Result<()> {
    need!(Root, Qemu, Landlock);
    use_model(None, "security_model=mapped-xattr,throttling.bps-total=100000000", look_mapped_in_attributes)
}

#[test]
fn a_folder_that_keeps_modes_in_attributes_as_an_ordinary_user() -> Result<()> {
    need!(UserNamespaces, Qemu, Landlock);
    use_model(Some(ORDINARY_USER), "security_model=mapped,fmode=0600,dmode=0700", look_mapped_in_attributes)
}

#[test]
fn a_folder_that_keeps_modes_in_files_as_root() -> Result<()> {
    need!(Root, Qemu, Landlock);
    use_model(None, "security_model=mapped-file", look_mapped_in_files)
}

#[test]
fn a_folder_that_keeps_modes_in_files_as_an_ordinary_user() -> Result<()> {
    need!(UserNamespaces, Qemu, Landlock);
    use_model(Some(ORDINARY_USER), "security_model=mapped-file", look_mapped_in_files)
}
