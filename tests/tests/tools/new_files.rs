//! Files that a tool makes, and what else the broker does around one that ends soon.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use tests::{BrokerCommand, During, ORDINARY_USER, Result, Workdir, broker_binary, need};

const CONVERT: [&str; 7] = ["convert", "-f", "raw", "-O", "raw", "disk.raw", "out.raw"];

fn scene() -> Result<Workdir> {
    let workdir = Workdir::new()?;
    workdir.write("disk.raw", &[7; 4096])?;
    Ok(workdir)
}

#[test]
fn a_link_at_the_name_of_a_new_file_is_not_followed() -> Result<()> {
    need!(Broker, Tools, Landlock);
    let workdir = scene()?;
    let elsewhere = workdir.aside().join("elsewhere");
    symlink(&elsewhere, workdir.path("out.raw")).during("make a link")?;
    let finished = BrokerCommand::new(&workdir).program("qemu-img").args(CONVERT).run()?;
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("broker: refused: create out.raw"), "{}", finished.stderr);
    assert!(!elsewhere.exists());
    Ok(())
}

#[test]
fn a_new_file_can_be_given_away() -> Result<()> {
    need!(Broker, Tools, Landlock, Root);
    let workdir = scene()?;
    let owner = format!("{ORDINARY_USER}:{ORDINARY_USER}");
    let command = BrokerCommand::new(&workdir).options(["--create-owner", &owner, "--create-files", "0"]);
    let finished = command.program("qemu-img").args(CONVERT).run()?;
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let made = fs::metadata(workdir.path("out.raw")).during("look at out.raw")?;
    assert_eq!((made.uid(), made.gid(), made.len()), (ORDINARY_USER, ORDINARY_USER, 4096));
    Ok(())
}

#[test]
fn nothing_else_is_left() -> Result<()> {
    need!(Broker, Tools, Landlock);
    let workdir = scene()?;
    let mut files = workdir.listing()?;
    let mut tool = BrokerCommand::new(&workdir).program("qemu-img").args(CONVERT).start()?;
    assert_eq!(tool.wait()?.status.code(), Some(0));
    files.insert("out.raw".into());
    tool.assert_nothing_left(&workdir, &files)
}

#[test]
fn a_plan_says_what_would_be_made_and_makes_nothing() -> Result<()> {
    need!(Broker, Tools, Landlock);
    let workdir = scene()?;
    let before = workdir.listing()?;
    let mut command = Command::new(broker_binary()?);
    command.args(["plan", "--", "qemu-img"]).args(CONVERT).current_dir(workdir.files());
    let output = command.output().during("run broker plan")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let out = workdir.path("out.raw").canonicalize().unwrap_or_else(|_| workdir.path("out.raw"));
    let lines = [
        "grant      disk.raw read-only, as Image, by `convert disk.raw`".to_owned(),
        format!("make       {} read-write, as Created, by `convert out.raw`", out.display()),
    ];
    for line in lines {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    assert_eq!(workdir.listing()?, before);
    Ok(())
}

#[test]
fn only_a_tool_with_a_name_can_be_spoken_to() -> Result<()> {
    need!(Broker, Tools, Landlock, Root);
    let workdir = scene()?;
    let arguments = ["-rUf", "raw", "-c", "sleep 60000", "disk.raw"];
    let nameless = BrokerCommand::new(&workdir).options(["-v"]).program("qemu-io").args(arguments).start()?;
    nameless.wait_for_message("granted: open disk.raw")?;
    let name = format!("tool-{}", std::process::id());
    let named = BrokerCommand::new(&workdir).options(["-v", "--name", &name]).program("qemu-io").args(arguments);
    let named = named.start()?;
    named.wait_for_message("granted: open disk.raw")?;
    let number = nameless.process().0.to_string();
    for (guest, status) in [(number.as_str(), 125), (name.as_str(), 0)] {
        let mut command = Command::new(broker_binary()?);
        let output = command.args(["ctl", guest, "status"]).output().during("run broker ctl")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{guest}: {said}");
    }
    Ok(())
}
