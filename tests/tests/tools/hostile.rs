//! Images whose author wants other files: refused before the tool runs, in words that name image, field and rule.

use std::fs;
use std::os::unix::fs::symlink;

use tests::{BrokerCommand, During, Finished, ORDINARY_USER, Result, Workdir, need};

use crate::scene::shell;

/// What nobody but the operator may read.
const SECRET: &[u8] = b"root:$y$canary:19000:0:99999:7:::\n";

/// A header, and what the refusal says of it.
struct Upload {
    /// Words of `qemu-img create -u -f qcow2`; `CANARY` is the absolute path of the secret.
    made_by: &'static str,
    field: &'static str,
    rule: &'static str,
}

const UPLOADS: &[Upload] = &[
    Upload { made_by: "-F raw -b CANARY", field: "backing file", rule: "outside the image roots" },
    Upload { made_by: "-F qcow2 -b CANARY", field: "backing file", rule: "outside the image roots" },
    Upload { made_by: "-F raw -b ../aside/shadow", field: "backing file", rule: "outside the image roots" },
    Upload { made_by: "-F raw -b file:CANARY", field: "backing file", rule: "outside the image roots" },
    Upload { made_by: "-F raw -b link", field: "backing file", rule: "outside the image roots" },
    Upload { made_by: "-F raw -b nbd://127.0.0.1/x", field: "backing file", rule: "protocol" },
    Upload { made_by: "-F raw -b host_device:CANARY", field: "backing file", rule: "protocol" },
    Upload { made_by: "-F raw -b /proc/self/environ", field: "backing file", rule: "/proc" },
    Upload { made_by: "-F raw -b /dev/fdset/0", field: "backing file", rule: "descriptor" },
    Upload { made_by: "-F raw -b folder", field: "backing file", rule: "directory" },
];

/// Commands that a service runs on what a tenant has uploaded.
const COMMANDS: &[&[&str]] = &[
    &["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "upload.qcow2", "out.raw"],
    &["qemu-img", "convert", "-O", "raw", "upload.qcow2", "out.raw"],
    &["qemu-img", "info", "-f", "qcow2", "upload.qcow2"],
    &["qemu-img", "info", "upload.qcow2"],
    &["qemu-img", "info", "--backing-chain", "-f", "qcow2", "upload.qcow2"],
    &["qemu-img", "check", "-f", "qcow2", "upload.qcow2"],
    &["qemu-img", "dd", "-f", "qcow2", "if=upload.qcow2", "of=out.raw"],
    &["qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b", "upload.qcow2", "out.raw"],
    &["qemu-img", "rebase", "-f", "qcow2", "-F", "raw", "-b", "", "upload.qcow2"],
    &["qemu-img", "measure", "--image-opts", "driver=qcow2,file.filename=upload.qcow2"],
    &["qemu-io", "-f", "qcow2", "-c", "read 0 512", "upload.qcow2"],
];

/// A folder with an upload and a secret beside it.
fn scene(made_by: &str) -> Result<Workdir> {
    let workdir = Workdir::new()?;
    let canary = workdir.aside().join("shadow");
    fs::write(&canary, SECRET).during("write the secret")?;
    symlink(&canary, workdir.path("link")).during("link to the secret")?;
    let canary = canary.to_string_lossy();
    let made_by = made_by.replace("CANARY", &canary);
    shell(&workdir, &format!("mkdir folder; qemu-img create -q -u -f qcow2 {made_by} upload.qcow2 1M"))?;
    Ok(workdir)
}

fn run(workdir: &Workdir, line: &[&str], user: bool) -> Result<Finished> {
    let command = BrokerCommand::new(workdir).program(line[0]).args(line[1..].iter().copied());
    if user { command.user(ORDINARY_USER) } else { command }.run()
}

fn try_all(user: bool) -> Result<()> {
    for upload in UPLOADS {
        let workdir = scene(upload.made_by)?;
        let before = workdir.listing()?;
        for line in COMMANDS {
            let finished = run(&workdir, line, user)?;
            let what = format!("{line:?} of {}: {:?} {}", upload.made_by, finished.status, finished.stderr);
            assert_eq!(finished.status.code(), Some(125), "{what}");
            assert_eq!(finished.stderr.lines().count(), 1, "{what}");
            assert!(finished.stdout.is_empty(), "{what}");
            assert!(finished.stderr.contains("upload.qcow2"), "the image: {what}");
            assert!(finished.stderr.contains(upload.field), "the field: {what}");
            // Without a format no header with a backing file is followed at all.
            let unstated = finished.stderr.contains("given without a format");
            assert!(unstated || finished.stderr.contains(upload.rule), "the rule: {what}");
            assert_eq!(workdir.listing()?, before, "{what}");
        }
    }
    Ok(())
}

#[test]
fn an_upload_that_names_other_files_is_refused() -> Result<()> {
    need!(Broker, Tools, Landlock);
    try_all(false)
}

#[test]
fn an_upload_is_refused_to_an_ordinary_user_too() -> Result<()> {
    need!(Broker, Tools, Landlock, UserNamespaces);
    try_all(true)
}

#[test]
fn a_data_file_elsewhere_is_refused() -> Result<()> {
    need!(Broker, Tools, Landlock);
    let workdir = Workdir::new()?;
    let data = workdir.aside().join("neighbour.raw");
    shell(&workdir, &format!("qemu-img create -q -f qcow2 -o data_file={} upload.qcow2 1M", data.display()))?;
    fs::write(&data, SECRET).during("write the secret")?;
    let before = workdir.listing()?;
    for line in COMMANDS.iter().filter(|line| line[1] != "rebase") {
        let finished = run(&workdir, line, false)?;
        let what = format!("{line:?}: {:?} {}", finished.status, finished.stderr);
        assert_eq!(finished.status.code(), Some(125), "{what}");
        assert!(finished.stderr.contains("upload.qcow2") && finished.stderr.contains("data file"), "{what}");
        assert_eq!(workdir.listing()?, before, "{what}");
    }
    Ok(())
}

#[test]
fn what_commands_of_qemu_io_open_is_refused_when_it_is_opened() -> Result<()> {
    need!(Broker, Tools, Landlock);
    let workdir = scene("-F raw -b gone")?;
    workdir.write("disk.raw", &[7; 4096])?;
    workdir.write("neighbour.raw", &[8; 4096])?;
    for name in ["neighbour.raw", "/etc/hosts", "../aside/shadow", "link"] {
        let open = format!("open -o driver=raw {name}");
        let line = ["qemu-io", "-f", "raw", "-c", "close", "-c", &open, "-c", "read -v 0 512", "disk.raw"];
        let finished = run(&workdir, &line, false)?;
        let what = format!("{name}: {:?} {} {}", finished.status, finished.stdout, finished.stderr);
        assert!(finished.stderr.contains("Permission denied"), "{what}");
        assert!(finished.stderr.contains("broker: refused: open "), "{what}");
        assert!(!finished.stdout.contains("512/512"), "{what}");
    }
    // What was named can be opened again.
    let line =
        ["qemu-io", "-f", "raw", "-c", "close", "-c", "open -o driver=raw disk.raw", "-c", "read -q 0 512", "disk.raw"];
    assert_eq!(run(&workdir, &line, false)?.status.code(), Some(0));
    Ok(())
}
