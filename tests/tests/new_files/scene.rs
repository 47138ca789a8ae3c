//! A folder for new files, one beside it that nobody declared, and a puppet that may use the first.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;
use tests::hostile::{Puppet, Scene};
use tests::{During, Result};

/// An ordinary user whom no other test uses.
pub const USER: u32 = 12_401;

/// A scene with a folder `made` for new files, and one beside it that nobody declared.
pub fn scene() -> Result<Scene> {
    let scene = Scene::new()?;
    for folder in ["made", "made/sub", "outside"] {
        fs::create_dir(scene.workdir.path(folder)).during(format!("mkdir {folder}"))?;
    }
    Ok(scene)
}

/// A puppet that may create beneath `made`, with further options, as the tests' user or another one.
pub fn puppet<'a>(scene: &'a Scene, options: &[&str], user: Option<u32>) -> Result<Puppet<'a>> {
    if let (Some(user), true) = (user, rustix::process::getuid().is_root()) {
        // The harness gives away what lies in the folder itself, not what lies deeper.
        std::os::unix::fs::chown(scene.workdir.path("made/sub"), Some(user), Some(user)).during("chown")?;
    }
    Puppet::start_as(scene, user, |command| {
        command.options(["--allow", "create=made"]).options(options.iter().copied())
    })
}

/// Which user to run a test as: the tests' own, and an ordinary one.
pub const USERS: [Option<u32>; 2] = [None, Some(USER)];

pub fn path(scene: &Scene, name: &str) -> PathBuf {
    scene.workdir.path(name)
}

/// Fails unless a folder is empty, and has been since it was made: its time of change tells.
pub fn assert_untouched(scene: &Scene, folder: &str, since: (i64, i64)) -> Result<()> {
    assert_eq!(fs::read_dir(path(scene, folder)).during("list a folder")?.count(), 0, "something is in {folder}");
    assert_eq!(changed(scene, folder)?, since, "something was in {folder}");
    Ok(())
}

pub fn changed(scene: &Scene, name: &str) -> Result<(i64, i64)> {
    let status = fs::metadata(path(scene, name)).during(format!("stat {name}"))?;
    Ok((status.mtime(), status.mtime_nsec()))
}

/// Fails unless the audit file says that `request` of `name` was refused with advice that holds `advice`.
pub fn assert_refused(scene: &Scene, request: &str, name: &str, advice: &str) -> Result<()> {
    let audit = scene.audit()?;
    let told = |line: &&Value| {
        line["request"] == request && line["outcome"] == "refused" && line["name"].as_str() == Some(name)
    };
    let advised = |line: &Value| line["advice"].as_str().is_some_and(|text| text.contains(advice));
    assert!(audit.iter().filter(told).any(advised), "no refusal of {request} {name} advises {advice}: {audit:?}");
    Ok(())
}
