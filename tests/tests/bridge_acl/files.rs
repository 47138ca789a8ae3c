//! What kind of file a list may be, and whose.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use broker::bridge_acl::AccessList;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tests::{During, ORDINARY_USER, Result, Workdir, need};

/// Expects that the list at `path` is refused with words that hold `part`.
fn refused(path: &Path, part: &str) {
    let message = AccessList::read(path).map_or_else(|error| error.to_string(), |_| "it counts".to_owned());
    assert!(message.contains(part) && message.contains(&path.display().to_string()), "{message}");
}

#[test]
fn only_regular_files_are_lists() -> Result<()> {
    let workdir = Workdir::new()?;
    let list = workdir.write("list", b"allow br0\n")?;
    let linked = workdir.path("linked");
    symlink(&list, &linked).during("symlink")?;
    AccessList::read(&linked).unwrap();
    let round = workdir.path("round");
    symlink(&round, &round).during("symlink")?;
    refused(&round, "symbolic links");
    let fifo = workdir.path("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).during("mkfifo")?;
    refused(&fifo, "it is no regular file");
    refused(&workdir.files(), "it is no regular file");
    refused(Path::new("/dev/zero"), "it is no regular file");
    refused(Path::new("/dev/tty"), "/dev/tty: ");
    refused(&workdir.path("none"), "create it as root, with a line such as \"allow br0\"");
    refused(Path::new("list"), "is not named by an absolute path");
    Ok(())
}

#[test]
fn a_list_that_others_may_write_is_none() -> Result<()> {
    let workdir = Workdir::new()?;
    let list = workdir.write("list", b"allow br0\n")?;
    for (mode, counts) in [(0o644, true), (0o600, true), (0o444, true), (0o664, false), (0o646, false), (0o622, false)]
    {
        fs::set_permissions(&list, Permissions::from_mode(mode)).during("chmod")?;
        match AccessList::read(&list) {
            Ok(_) => assert!(counts, "{mode:o}"),
            Err(error) => {
                assert!(!counts && error.to_string().contains("may change it; chown root"), "{mode:o}: {error}")
            }
        }
    }
    Ok(())
}

#[test]
fn a_list_is_roots_or_ones_own() -> Result<()> {
    need!(Root);
    let workdir = Workdir::new()?;
    let own = workdir.write("own", b"allow br0\n")?;
    let strangers = workdir.write("strangers", b"allow br0\n")?;
    chown(&strangers, Some(ORDINARY_USER), Some(0)).during("chown")?;
    refused(&strangers, "others than root, or than who starts this, may change it");
    let including = workdir.write("including", format!("include {}\n", strangers.display()).as_bytes())?;
    let message = AccessList::read(&including).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!(
            "{} line 1: include {}: others than root",
            including.display(),
            strangers.display()
        )),
        "{message}"
    );
    AccessList::read(&own).unwrap();
    Ok(())
}
