//! Somebody exchanges links and moves folders while the broker looks up what a header names: what it gets is the honest
//! file or nothing, whenever it looks.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use broker::emulator::Program;
use broker::open::chain::{Follows, ImageRoots, Root, Rules, Top, walk};
use broker::open::pin::Pin;
use broker::prober;
use broker::prober::header::{Format, Found, Scratch, parse};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use tests::corpus::Qcow2;
use tests::{During, Result, Workdir};

/// Look-ups of a race, where `HOSTILE_ROUNDS` does not ask for more.
const ROUNDS: usize = 20_000;

fn rounds() -> usize {
    std::env::var("HOSTILE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// What the look-ups of a race led to.
#[derive(Debug, Default)]
struct Tally {
    honest: usize,
    refused: usize,
    exchanges: usize,
}

/// Device and inode number of a file.
fn identity(path: &Path) -> Result<(u64, u64)> {
    let status = fs::metadata(path).during(format!("stat {}", path.display()))?;
    Ok((status.dev(), status.ino()))
}

/// Reads a header as the prober does, but in this process: the race is about names.
fn probe(pin: &Pin, stated: Option<Format>) -> std::result::Result<Found, prober::Error> {
    let image = pin.reopen(OFlags::RDONLY).map_err(prober::Error::Open)?;
    let mut scratch = Box::<Scratch>::default();
    Ok(parse(&image.as_fd(), stated, &mut scratch)?.to_found())
}

/// Looks up the chain of an image over `backing` again and again, while `first` and `second` are exchanged. Whatever is
/// found must be `honest`.
fn race(workdir: &Workdir, backing: &str, [first, second]: [&Path; 2], honest: &Path) -> Result<Tally> {
    let top = workdir.write("top.qcow2", &Qcow2::new().over(backing, "raw").bytes())?;
    let pin = Pin::take(&top).during("pin the image")?;
    let folder = workdir.files();
    let image_roots = ImageRoots { named: Vec::new(), implied: vec![Root::take(&folder).during("pin the folder")?] };
    let rules = Rules { working_directory: &folder, image_roots: &image_roots };
    let top = Top {
        name: OsStr::new("top.qcow2"),
        pin: &pin,
        format: Some("qcow2"),
        follows: Follows::default(),
        program: Program::System,
    };
    let honest = identity(honest)?;

    let (over, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut tally = Tally::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if renameat_with(CWD, first, CWD, second, RenameFlags::EXCHANGE).is_ok() {
                    exchanges.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let found = (0..rounds()).try_for_each(|round| {
            match walk(&top, &rules, &mut probe) {
                Ok(chain) => match chain.members.as_slice() {
                    [member] if member.pin.identity() == honest => tally.honest += 1,
                    members => return Err(format!("round {round}: {members:?}")),
                },
                Err(_) => tally.refused += 1,
            }
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        assert_eq!(found, Ok(()), "only the honest file may be found");
    });
    tally.exchanges = exchanges.into_inner();
    println!("{backing}: {tally:?}");
    Ok(tally)
}

/// Whether the race was one.
fn assert_raced(tally: &Tally) {
    assert!(tally.honest > 0 && tally.refused > 0 && tally.exchanges > 100, "{tally:?}: nobody raced");
}

/// The work folder with an honest base in it, and a canary outside.
fn scene() -> Result<Workdir> {
    let workdir = Workdir::new()?;
    workdir.write("base.raw", b"honest")?;
    fs::write(workdir.aside().join("base.raw"), "CANARY").during("write the canary")?;
    Ok(workdir)
}

#[test]
fn a_link_is_exchanged() -> Result<()> {
    let workdir = scene()?;
    let (link, other) = (workdir.path("link.raw"), workdir.aside().join("other"));
    symlink("base.raw", &link).during("make a link")?;
    symlink(workdir.aside().join("base.raw"), &other).during("make a link")?;
    assert_raced(&race(&workdir, "link.raw", [&link, &other], &workdir.path("base.raw"))?);
    Ok(())
}

#[test]
fn a_folder_is_exchanged_for_a_link() -> Result<()> {
    let workdir = scene()?;
    let (folder, other) = (workdir.path("sub"), workdir.aside().join("other"));
    fs::create_dir(&folder).during("mkdir")?;
    workdir.write("sub/base.raw", b"honest")?;
    symlink(workdir.aside(), &other).during("make a link")?;
    assert_raced(&race(&workdir, "sub/base.raw", [&folder, &other], &workdir.path("sub/base.raw"))?);
    Ok(())
}

/// `..` of a folder that was moved out of the root leads to whatever it was moved into.
#[test]
fn a_folder_is_moved_out_of_the_root() -> Result<()> {
    let workdir = scene()?;
    let (folder, other) = (workdir.path("sub"), workdir.aside().join("other"));
    // What it is exchanged for has nothing in it: then the name leads nowhere.
    for folder in [&folder, &folder.join("deep"), &other] {
        fs::create_dir(folder).during("mkdir")?;
    }
    let tally = race(&workdir, "sub/deep/../../base.raw", [&folder, &other], &workdir.path("base.raw"))?;
    assert_raced(&tally);
    Ok(())
}

#[test]
fn a_file_is_exchanged_for_a_link() -> Result<()> {
    let workdir = scene()?;
    let (file, other) = (workdir.path("base.raw"), workdir.aside().join("other"));
    symlink(workdir.aside().join("base.raw"), &other).during("make a link")?;
    let honest = workdir.aside().join("honest");
    fs::hard_link(&file, &honest).during("make a hard link")?;
    assert_raced(&race(&workdir, "base.raw", [&file, &other], &honest)?);
    Ok(())
}
