//! `broker chain`: what is recorded of images is shown, accepted and forgotten, by root and by an ordinary user.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tests::{During, Error, ORDINARY_USER, Result, Workdir, need, qcow2_over, raw_boot_disk, two_level_chain};

/// Somebody who runs `broker chain` in a folder of images, with records of his own.
struct Operator {
    workdir: Workdir,
    binary: PathBuf,
    user: Option<u32>,
}

impl Operator {
    /// `top.qcow2` over `mid.qcow2` over `base.raw`; `user`: an ordinary one, where the tests run as root.
    fn new(user: Option<u32>) -> Result<Self> {
        let workdir = Workdir::new()?;
        two_level_chain(&workdir)?;
        let user = user.filter(|_| rustix::process::getuid().is_root());
        let (state, mut binary) = (workdir.aside().join("state"), tests::broker_binary()?.to_owned());
        fs::create_dir(&state).during("mkdir")?;
        if let Some(user) = user {
            workdir.give_to(user)?;
            chown(&state, Some(user), Some(user)).during("chown")?;
            // The target folder may lie where only root can go. By a program: a file that this process wrote cannot be
            // executed while another child of it is being forked.
            let copy = workdir.aside().join("broker-copy");
            let copied = Command::new("cp").arg(&binary).arg(&copy).status().during("start cp")?;
            assert!(copied.success());
            binary = copy;
        }
        Ok(Self { workdir, binary, user })
    }

    /// Where the records go: root's tests leave what the host has alone.
    fn records(&self) -> PathBuf {
        self.workdir.aside().join("state/broker/chains")
    }

    /// Runs `broker chain`.
    fn run(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.binary);
        command.arg("chain").args(words).current_dir(self.workdir.files());
        command.env("XDG_STATE_HOME", self.workdir.aside().join("state")).env_remove("LD_LIBRARY_PATH");
        match self.user {
            Some(user) => _ = command.uid(user).gid(user),
            // Root's usual folder is the host's.
            None => _ = command.arg("--chain-dir").arg(self.records()),
        }
        command.output().during("start broker chain")
    }

    /// Runs it to success, and returns what it printed.
    fn succeed(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words)?;
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        text(output.stdout)
    }

    /// Runs it to failure, and returns the one line that it printed.
    fn fail(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words)?;
        assert_eq!(output.status.code(), Some(125), "{words:?}: {output:?}");
        let line = text(output.stderr)?;
        assert!(line.starts_with("broker: ") && line.lines().count() == 1 && output.stdout.is_empty(), "{line}");
        Ok(line)
    }

    fn path(&self, name: &str) -> String {
        self.workdir.path(name).to_string_lossy().into_owned()
    }

    /// What is shown of the whole chain.
    fn whole(&self) -> String {
        let [top, mid, base] = ["top.qcow2", "mid.qcow2", "base.raw"].map(|name| self.path(name));
        format!("{top} qcow2\n  backing {mid} qcow2\n{mid} qcow2\n  backing {base} raw\n{base} raw\n")
    }
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| Error::Unexpected(error.to_string()))
}

/// Both kinds of operators.
fn operators() -> Result<Vec<Operator>> {
    Ok(vec![Operator::new(None)?, Operator::new(Some(ORDINARY_USER))?])
}

#[test]
fn what_was_accepted_is_shown_and_can_be_forgotten() -> Result<()> {
    need!(Broker, Qemu);
    for operator in operators()? {
        assert_eq!(operator.succeed(&["show"])?, "");
        assert!(!operator.records().exists(), "looking makes nothing");
        let whole = operator.whole();
        assert_eq!(operator.succeed(&["accept", "top.qcow2"])?, whole);
        assert_eq!(operator.succeed(&["show", "top.qcow2"])?, whole);
        assert_eq!(fs::metadata(operator.records()).during("stat")?.mode() & 0o777, 0o700);
        let below: String = whole.lines().skip(2).flat_map(|line| [line, "\n"]).collect();
        assert_eq!(operator.succeed(&["show", "./mid.qcow2"])?, below);
        assert_eq!(operator.succeed(&["forget", "mid.qcow2"])?, "");
        let line = operator.fail(&["show", "mid.qcow2"])?;
        assert!(line.contains(&operator.path("mid.qcow2")) && line.contains("broker chain show"), "{line}");
        operator.fail(&["forget", "mid.qcow2"])?;
        assert_eq!(operator.succeed(&["show"])?.lines().filter(|line| !line.starts_with(' ')).count(), 2);
    }
    Ok(())
}

#[test]
fn json_tells_which_files_they_were() -> Result<()> {
    need!(Broker, Qemu);
    let operator = Operator::new(None)?;
    operator.succeed(&["accept", "top.qcow2"])?;
    let shown = operator.succeed(&["show", "--json", "top.qcow2"])?;
    let records: Value = serde_json::from_str(&shown).map_err(|error| Error::Unexpected(error.to_string()))?;
    let inode = |name: &str| fs::metadata(operator.workdir.path(name)).map(|status| status.ino()).during("stat");
    assert_eq!(records[0]["image"], operator.path("top.qcow2"));
    assert_eq!(records[0]["inode"], inode("top.qcow2")?);
    assert_eq!(records[0]["references"][0]["role"], "backing");
    assert_eq!(records[0]["references"][0]["inode"], inode("mid.qcow2")?);
    assert_eq!(records[2]["format"], "raw");
    assert_eq!(records[2]["references"].as_array().map(Vec::len), Some(0));
    Ok(())
}

#[test]
fn accepting_again_records_what_the_header_says_now() -> Result<()> {
    need!(Broker, Qemu);
    for operator in operators()? {
        operator.succeed(&["accept", "top.qcow2"])?;
        let other = raw_boot_disk(&operator.workdir, "other.raw")?;
        let rebased = ["rebase", "-u", "-F", "raw", "-b", "other.raw", "top.qcow2"];
        let status = Command::new("qemu-img").args(rebased).current_dir(operator.workdir.files()).status();
        assert!(status.during("start qemu-img")?.success());
        let shown = operator.succeed(&["show", "top.qcow2"])?;
        assert_eq!(shown, operator.whole(), "showing reads no header");
        let (top, other) = (operator.path("top.qcow2"), other.to_string_lossy().into_owned());
        let now = format!("{top} qcow2\n  backing {other} raw\n{other} raw\n");
        assert_eq!(operator.succeed(&["accept", "top.qcow2"])?, now);
        assert_eq!(operator.succeed(&["show", "top.qcow2"])?, now);
        // One file for each of four images.
        assert_eq!(fs::read_dir(operator.records()).during("list")?.count(), 4);
    }
    Ok(())
}

#[test]
fn a_record_is_text_with_a_word_on_what_it_is() -> Result<()> {
    need!(Broker, Qemu);
    let operator = Operator::new(Some(ORDINARY_USER))?;
    operator.succeed(&["accept", "top.qcow2"])?;
    let mut texts = Vec::new();
    for entry in fs::read_dir(operator.records()).during("list")? {
        let entry = entry.during("list")?;
        assert_eq!(entry.metadata().during("stat")?.mode() & 0o777, 0o600);
        texts.push(fs::read_to_string(entry.path()).during("read")?);
    }
    assert_eq!(texts.len(), 3);
    assert!(texts.iter().all(|text| text.starts_with("# ") && text.contains("\nversion = 1\n")), "{texts:?}");
    let path = format!("path = \"{}\"", operator.path("mid.qcow2"));
    assert_eq!(texts.iter().filter(|text| text.contains(&path)).count(), 1);
    Ok(())
}

#[test]
fn a_raw_disk_is_accepted_by_its_format() -> Result<()> {
    need!(Broker, Qemu);
    let operator = Operator::new(None)?;
    let line = operator.fail(&["accept", "base.raw"])?;
    assert!(line.contains("qcow2") && !operator.records().exists(), "{line}");
    assert_eq!(operator.succeed(&["accept", "--format", "raw", "base.raw"])?, operator.path("base.raw") + " raw\n");
    // Of an image that is stated to be raw no header is read.
    assert_eq!(operator.succeed(&["accept", "--format=raw", "top.qcow2"])?, operator.path("top.qcow2") + " raw\n");
    Ok(())
}

#[test]
fn names_outside_the_image_roots_are_accepted_only_with_the_root() -> Result<()> {
    need!(Broker, Qemu);
    let elsewhere = Workdir::new()?;
    let base = raw_boot_disk(&elsewhere, "base.raw")?.to_string_lossy().into_owned();
    let root = elsewhere.files().to_string_lossy().into_owned();
    let operator = Operator::new(None)?;
    let top = qcow2_over(&operator.workdir, "far.qcow2", &base, "raw")?.to_string_lossy().into_owned();
    let line = operator.fail(&["accept", "far.qcow2"])?;
    assert!(line.contains(&format!("--image-root {root}")), "{line}");
    let accepted = operator.succeed(&["accept", "--image-root", &root, "far.qcow2"])?;
    assert_eq!(accepted, format!("{top} qcow2\n  backing {base} raw\n{base} raw\n"));
    Ok(())
}

#[test]
fn a_renamed_image_takes_its_record_along() -> Result<()> {
    need!(Broker, Qemu);
    let operator = Operator::new(Some(ORDINARY_USER))?;
    let tells_births = fs::metadata(operator.workdir.path("top.qcow2")).during("stat")?.created().is_ok();
    operator.succeed(&["accept", "top.qcow2"])?;
    fs::rename(operator.workdir.path("top.qcow2"), operator.workdir.path("new.qcow2")).during("rename")?;
    operator.succeed(&["accept", "new.qcow2"])?;
    let shown = operator.succeed(&["show"])?;
    // Where no birth is known, a renamed file is a new one.
    assert!(shown.contains("new.qcow2") && shown.contains("top.qcow2") != tells_births, "{shown}");
    Ok(())
}

#[test]
fn images_that_are_gone_are_forgotten_together() -> Result<()> {
    need!(Broker, Qemu);
    for operator in operators()? {
        assert_eq!(operator.succeed(&["forget", "--missing"])?, "");
        assert!(!operator.records().exists());
        operator.succeed(&["accept", "top.qcow2"])?;
        assert_eq!(operator.succeed(&["forget", "--missing"])?, "");
        for name in ["top.qcow2", "mid.qcow2"] {
            fs::remove_file(operator.workdir.path(name)).during("rm")?;
        }
        // Also by the name of an image that is gone.
        operator.succeed(&["forget", "top.qcow2"])?;
        assert_eq!(operator.succeed(&["forget", "--missing"])?, operator.path("mid.qcow2") + "\n");
        assert_eq!(operator.succeed(&["show"])?, operator.path("base.raw") + " raw\n");
    }
    Ok(())
}

#[test]
fn a_link_is_recorded_as_what_it_leads_to() -> Result<()> {
    need!(Broker, Qemu);
    let operator = Operator::new(None)?;
    symlink("top.qcow2", operator.workdir.path("link")).during("ln")?;
    assert_eq!(operator.succeed(&["accept", "link"])?, operator.whole());
    assert_eq!(operator.succeed(&["show", "link"])?, operator.whole());
    operator.succeed(&["forget", "link"])?;
    operator.fail(&["show", "top.qcow2"])?;
    Ok(())
}

#[test]
fn a_folder_that_others_write_is_refused() -> Result<()> {
    need!(Broker, Qemu);
    for operator in operators()? {
        operator.succeed(&["accept", "top.qcow2"])?;
        fs::set_permissions(operator.records(), Permissions::from_mode(0o777)).during("chmod")?;
        for words in [&["show"][..], &["accept", "top.qcow2"], &["forget", "top.qcow2"]] {
            let line = operator.fail(words)?;
            assert!(line.contains("chmod go-w ") && line.contains("--chain-dir DIR"), "{line}");
        }
    }
    Ok(())
}

#[test]
fn somebody_elses_folder_is_not_written() -> Result<()> {
    need!(Broker, Qemu, Root);
    let operator = Operator::new(Some(ORDINARY_USER))?;
    let folder = operator.records();
    fs::create_dir_all(&folder).during("mkdir")?;
    // Root's own, where a user can read and not write; and a third one's, where root could write.
    let line = operator.fail(&["accept", "top.qcow2"])?;
    assert!(line.contains("Permission denied") && line.contains("--chain-dir DIR"), "{line}");
    chown(&folder, Some(ORDINARY_USER + 1), None).during("chown")?;
    let root = Operator::new(None)?;
    let words = ["chain", "accept", "--chain-dir", &folder.to_string_lossy(), "top.qcow2"];
    let output = Command::new(&root.binary).args(words).current_dir(root.workdir.files()).output();
    let output = output.during("start broker chain")?;
    assert_eq!(output.status.code(), Some(125));
    let line = text(output.stderr)?;
    assert!(line.contains(&format!("user {} may write", ORDINARY_USER + 1)), "{line}");
    assert_eq!(fs::read_dir(&folder).during("list")?.count(), 0);
    Ok(())
}

#[test]
fn a_misspelt_order_says_so() -> Result<()> {
    need!(Broker);
    let operator = Operator { workdir: Workdir::new()?, binary: tests::broker_binary()?.to_owned(), user: None };
    for words in [&["forget"][..], &["forget", "--missing", "a"], &["accept"], &["show", "a", "b"]] {
        operator.fail(words)?;
    }
    let line = operator.fail(&["accept", "gone.qcow2"])?;
    assert!(line.contains("gone.qcow2") && line.contains("No such file"), "{line}");
    Ok(())
}
