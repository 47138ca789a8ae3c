//! Each group of the corpus, in every way.

use std::path::Path;

use tests::corpus::{Case, Group, cases};
use tests::{BrokerCommand, Canary, ORDINARY_USER, Result, Workdir, need};

use crate::run::Way;

const EVERY_WAY: [Way; 3] = [Way::Guest, Way::Info, Way::Convert];

/// Tries a group, and whether its canary lives.
fn check(group: impl Fn(&Path) -> Group, ways: &[Way]) -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let canary = Canary::put(&workdir)?;
    let group = group(canary.path());
    for case in &group.honest {
        // One for each: what an image names is remembered under its path.
        let workdir = Workdir::new()?;
        case.make(&workdir)?;
        for way in ways {
            way.use_honestly(&workdir, case)?;
        }
    }
    assert!(!canary.was_opened()?, "an honest image has nothing to do with the canary");
    for case in &group.hostile {
        case.make(&workdir)?;
        for way in ways {
            attack(*way, &workdir, case, &canary)?;
        }
        case.remove(&workdir)?;
    }
    Ok(())
}

/// One attack in one way.
fn attack(way: Way, workdir: &Workdir, case: &Case, canary: &Canary) -> Result<()> {
    let before = workdir.listing()?;
    let finished = way.attack(workdir, case)?;
    let what = format!("{way:?}, {}: {}", case.name, finished.stderr);
    assert_eq!(finished.status.code(), Some(125), "{what}");
    assert_eq!(finished.stdout, "", "{what}");
    let refusals: Vec<&str> =
        finished.stderr.lines().filter(|line| !line.contains("is given without a format and")).collect();
    assert!(matches!(refusals[..], [line] if line.starts_with("broker: ")), "one line: {what}");
    for part in &case.says {
        assert!(finished.stderr.contains(part), "{part} is not said: {what}");
    }
    assert!(!canary.is_quoted_in(&finished.stderr), "{what}");
    assert!(!canary.was_opened()?, "the canary was opened: {what}");
    assert_eq!(workdir.listing()?, before, "{what}");
    Ok(())
}

#[test]
fn backing_files_elsewhere() -> Result<()> {
    check(cases::backing_names, &EVERY_WAY)
}

#[test]
fn backing_files_that_are_no_files() -> Result<()> {
    check(cases::protocols, &EVERY_WAY)
}

#[test]
fn external_data_files() -> Result<()> {
    check(cases::data_files, &EVERY_WAY)
}

#[test]
fn raw_disks_with_a_header() -> Result<()> {
    check(cases::raw_disks, &[Way::Guest, Way::Info, Way::Convert, Way::Resize])
}

#[test]
fn extents_and_parents_of_vmdk() -> Result<()> {
    check(cases::vmdk, &EVERY_WAY)
}

#[test]
fn backing_files_of_qcow_and_qed() -> Result<()> {
    check(cases::old_formats, &EVERY_WAY)
}

#[test]
fn parents_of_vhdx_and_vpc() -> Result<()> {
    check(cases::virtual_pc, &EVERY_WAY)
}

#[test]
fn lengths_and_offsets() -> Result<()> {
    check(cases::lengths, &EVERY_WAY)
}

#[test]
fn header_extensions() -> Result<()> {
    check(cases::extensions, &EVERY_WAY)
}

#[test]
fn chains_without_an_end() -> Result<()> {
    check(|_| cases::chains(), &EVERY_WAY)
}

#[test]
fn places_that_hold_no_image() -> Result<()> {
    check(cases::places, &EVERY_WAY)
}

#[test]
fn backing_files_that_are_not_there() -> Result<()> {
    check(|_| cases::missing(), &[Way::Guest, Way::Convert])
}

/// Who has no more rights than the image's owner is told the same.
#[test]
fn an_ordinary_user_is_refused_too() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let elsewhere = workdir.aside().join("canary");
    std::fs::write(&elsewhere, vec![0; 1 << 20]).unwrap();
    for group in [cases::backing_names(&elsewhere), cases::data_files(&elsewhere), cases::vmdk(&elsewhere)] {
        let case = &group.hostile[0];
        case.make(&workdir)?;
        let (program, words) = Way::Guest.words(case);
        let finished = BrokerCommand::new(&workdir).user(ORDINARY_USER).program(program).args(words).run()?;
        assert_eq!(finished.status.code(), Some(125), "{}: {}", case.name, finished.stderr);
        for part in &case.says {
            assert!(finished.stderr.contains(part), "{part} is not said: {}", finished.stderr);
        }
        case.remove(&workdir)?;
    }
    Ok(())
}

/// The watch would see it: the same image, in a start that is allowed to have it.
#[test]
fn an_operator_who_allows_it_opens_the_canary() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let canary = Canary::put(&workdir)?;
    let group = cases::backing_names(canary.path());
    let case = &group.hostile[0];
    case.make(&workdir)?;
    let (program, words) = Way::Guest.words(case);
    let root = workdir.aside().to_string_lossy().into_owned();
    let command = BrokerCommand::new(&workdir).options(["--image-root", &root]).program(program).args(words);
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    qmp.quit()?;
    emulator.wait()?;
    assert!(canary.was_opened()?);
    assert!(!canary.was_opened()?, "told once");
    Ok(())
}

/// A hard link beneath a root is a file beneath that root, whatever other names it has: who may make links there (which
/// takes write access to the file, fs.protected_hardlinks, proc(5)) could as well have copied it.
#[test]
fn a_hard_link_beneath_a_root_is_a_file_beneath_it() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let elsewhere = workdir.aside().join("elsewhere.raw");
    std::fs::write(&elsewhere, vec![0; 1 << 20]).unwrap();
    let image = tests::corpus::Qcow2::new().over("link.raw", "raw");
    let case = Case::new("a hard link", "top.qcow2", "qcow2", image.bytes())
        .with("link.raw", tests::corpus::Entry::HardLink(elsewhere));
    case.make(&workdir)?;
    Way::Guest.use_honestly(&workdir, &case)
}
