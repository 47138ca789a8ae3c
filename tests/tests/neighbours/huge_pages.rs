//! Guest memory in the kernel's huge pages.

use std::path::Path;

use serde_json::json;
use tests::{BrokerCommand, During, Finished, HugePages, ORDINARY_USER, Qmp, Result, Workdir, need};

use crate::scene::assert_well;

/// Pages that the tests have, of 2 MiB.
const POOL: u64 = 32;
/// What the guests below have, in pages and in words.
const GUEST: u64 = 8;
const SIZE: &str = "size=16M";
/// A number that QEMU writes into the guest's memory at its start, and where.
const NUMBER: u64 = 0x1234_5678_90ab_cdef;
const AT: usize = 0x10_0000;

/// A pool, its file system at `pages` of a work folder, and who uses it.
struct Scene {
    workdir: Workdir,
    pool: HugePages,
    user: Option<u32>,
}

impl Scene {
    fn new(user: Option<u32>) -> Result<Self> {
        let workdir = Workdir::new()?;
        let mut pool = HugePages::take(POOL)?;
        if let Some(user) = user {
            workdir.give_to(user)?;
        }
        pool.mount(&workdir, "pages", user.unwrap_or(0))?;
        Ok(Self { workdir, pool, user })
    }

    fn command(&self, words: &[&str]) -> BrokerCommand<'_> {
        let command = BrokerCommand::new(&self.workdir).through(self.pool.words(&self.workdir.files(), self.user));
        let command = if let Some(user) = self.user { command.user(user) } else { command };
        command.args(["-machine", "q35", "-nodefaults", "-display", "none", "-S"]).args(words.iter().copied())
    }

    /// What a program prints that looks at the file system.
    fn look(&self, program: &str, name: &str) -> Result<Vec<u8>> {
        let words = self.pool.words(&self.workdir.path("pages"), None);
        let (first, rest) = words.split_first().map_or(("", [].as_slice()), |(first, rest)| (first.as_str(), rest));
        let output = std::process::Command::new(first).args(rest).args([program, name]).output();
        Ok(output.during(format!("start {program}"))?.stdout)
    }

    /// Runs a guest that takes [`GUEST`] pages at once, and gives them back.
    fn takes_pages(&self, words: &[&str]) -> Result<()> {
        let before = self.pool.free()?;
        let (mut emulator, mut qmp) = self.command(words).start_with_monitor()?;
        assert_eq!(self.pool.free()?, before - GUEST, "{words:?}");
        check_backend(&mut qmp, words)?;
        qmp.quit()?;
        assert_well(&emulator.wait()?);
        emulator.assert_nothing_left(&self.workdir, &self.workdir.listing()?)?;
        assert_eq!((self.pool.free()?, self.look("ls", ".")?), (before, Vec::new()), "{words:?}");
        Ok(())
    }

    /// How a start ends that cannot be, without the broker's lines.
    fn fails(&self, words: &[&str], bare: bool) -> Result<(Option<i32>, String)> {
        let command = self.command(words);
        let Finished { status, stderr, .. } = if bare { command.bare() } else { command }.run()?;
        let own = stderr.lines().filter(|line| !line.starts_with("broker:"));
        Ok((status.code(), own.collect::<Vec<_>>().join("\n")))
    }
}

/// QEMU tells of the memory that `words` make, if they make it by an object.
fn check_backend(qmp: &mut Qmp, words: &[&str]) -> Result<()> {
    let told = qmp.execute("query-memdev", json!({}))?;
    let made = told.as_array().into_iter().flatten().find(|backend| backend["id"] == "m");
    if words.contains(&"-object") {
        assert_eq!(
            made.map(|backend| (&backend["size"], &backend["prealloc"])),
            Some((&json!(16 << 20), &json!(true)))
        );
    }
    Ok(())
}

/// In the folder, by both of its names, with a file that is there for QEMU alone; and in memory of the same pages.
fn guests_take_pages(user: Option<u32>) -> Result<()> {
    let scene = Scene::new(user)?;
    let absolute = scene.workdir.path("pages");
    for folder in [Path::new("pages"), &absolute] {
        let object = format!("memory-backend-file,id=m,{SIZE},mem-path={},prealloc=on,share=on", folder.display());
        scene.takes_pages(&["-object", &object, "-machine", "memory-backend=m", "-m", "16"])?;
    }
    scene.takes_pages(&["-mem-path", "pages", "-mem-prealloc", "-m", "16"])?;
    let anonymous = format!("memory-backend-memfd,id=m,{SIZE},hugetlb=on,hugetlbsize=2M,prealloc=on");
    scene.takes_pages(&["-object", &anonymous, "-machine", "memory-backend=m", "-m", "16"])
}

#[test]
fn guests_take_huge_pages() -> Result<()> {
    need!(Qemu, Landlock, Root, HugePages);
    guests_take_pages(None)
}

#[test]
fn guests_of_a_user_take_huge_pages() -> Result<()> {
    need!(Qemu, Landlock, Root, HugePages, UserNamespaces);
    guests_take_pages(Some(ORDINARY_USER))
}

/// A file of such pages holds what the guest's memory does, and others can map it.
#[test]
fn a_file_of_huge_pages_is_the_guests_memory() -> Result<()> {
    need!(Qemu, Landlock, Root, HugePages, UserNamespaces);
    for user in [None, Some(ORDINARY_USER)] {
        let scene = Scene::new(user)?;
        let object = format!("memory-backend-file,id=m,{SIZE},mem-path=pages/ram,share=on");
        let loader = format!("loader,addr={AT:#x},data={NUMBER:#x},data-len=8");
        let words = ["-object", &object, "-machine", "memory-backend=m", "-m", "16", "-device", &loader];
        let (mut emulator, mut qmp) = scene.command(&words).start_with_monitor()?;
        qmp.quit()?;
        assert_well(&emulator.wait()?);
        let held = scene.look("cat", "ram")?;
        assert_eq!(held.get(AT..AT + 8), Some(NUMBER.to_le_bytes().as_slice()), "{} bytes", held.len());
    }
    Ok(())
}

/// Where there are not enough pages, and where the pages do not fit, QEMU ends with its own words.
#[test]
fn too_few_pages_are_told_of_as_ever() -> Result<()> {
    need!(Broker, Qemu, Landlock, Root, HugePages);
    let scene = Scene::new(None)?;
    for words in [
        ["-object", "memory-backend-file,id=m,size=64G,mem-path=pages,prealloc=on"],
        ["-object", "memory-backend-memfd,id=m,size=64G,hugetlb=on,hugetlbsize=2M,prealloc=on"],
        ["-object", "memory-backend-memfd,id=m,size=64M,hugetlb=on,hugetlbsize=3M"],
        ["-object", "memory-backend-file,id=m,size=16M,mem-path=pages/nowhere/ram"],
    ] {
        let (bare, confined) = (scene.fails(&words, true)?, scene.fails(&words, false)?);
        assert_eq!(bare.0, Some(1), "{bare:?}");
        assert_eq!(confined, bare, "{words:?}");
    }
    Ok(())
}
