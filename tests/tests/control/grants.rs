//! What an operator grants to a running guest works, and nothing else does.

use std::fs;

use serde_json::json;
use tests::control::{Control, unique_name};
use tests::{BrokerCommand, During, Result, need, qcow2_over};

use crate::guest::Guest;

#[test]
fn a_granted_disk_is_plugged_in_and_given_back() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start()?;
    let before = guest.granted()?;
    guest.assert_not_granted("data.raw", "raw", true)?;
    guest.control.order(["grant", &guest.path("data.raw"), "--write"])?;
    assert!(guest.granted()?.contains(&guest.path("data.raw")));
    guest.add("data", "data.raw", "raw", true)?;
    guest.qmp.execute("device_add", json!({ "driver": "virtio-blk-pci", "drive": "data", "id": "plugged" }))?;
    guest.emulator.wait_for_writes(2)?;
    // The boot sector does not know how to let go of a device; a reset does it in its place.
    guest.qmp.execute("device_del", json!({ "id": "plugged" }))?;
    guest.qmp.execute("system_reset", json!({}))?;
    guest.qmp.wait_event("DEVICE_DELETED")?;
    guest.remove("data")?;
    guest.control.order(["revoke", &guest.path("data.raw")])?;
    assert_eq!(guest.granted()?, before);
    guest.assert_not_granted("data.raw", "raw", true)?;
    guest.emulator.wait_for_writes(2)?;
    guest.end()
}

#[test]
fn who_ignores_the_ends_of_children_grants_like_others() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start()?;
    let careless = guest.control.clone().through(&["env", "--ignore-signal=CHLD"]);
    careless.order(["grant", &guest.path("data.raw")])?;
    guest.add("data", "data.raw", "raw", false)?;
    guest.remove("data")?;
    guest.end()
}

#[test]
fn a_grant_gives_no_more_access_than_the_operator_said() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start()?;
    guest.control.order(["grant", &guest.path("data.raw")])?;
    guest.assert_not_granted("data.raw", "raw", true)?;
    guest.add("data", "data.raw", "raw", false)?;
    guest.remove("data")?;
    guest.add("again", "data.raw", "raw", false)?;
    let opened = guest.emulator.process().open_flags_of(&guest.workdir.path("data.raw"))?;
    let writes = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::RDWR;
    assert!(!opened.is_empty() && !opened.iter().any(|flags| flags.intersects(writes)), "{opened:?}");
    guest.control.order(["grant", &guest.path("data.raw"), "--write"])?;
    guest.remove("again")?;
    guest.add("wider", "data.raw", "raw", true)?;
    guest.remove("wider")?;
    assert_eq!(guest.workdir.read("data.raw")?, [0x5a; 1 << 20]);
    guest.end()
}

#[test]
fn a_grant_for_one_use_is_used_up() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start()?;
    guest.control.order(["grant", &guest.path("data.raw"), "--once"])?;
    guest.add("data", "data.raw", "raw", false)?;
    guest.remove("data")?;
    guest.assert_not_granted("data.raw", "raw", false)?;
    guest.emulator.wait_for_message("broker ctl")?;
    guest.control.order(["grant", &guest.path("data.raw"), "--once"])?;
    guest.add("data", "data.raw", "raw", false)?;
    guest.remove("data")?;
    guest.assert_not_granted("data.raw", "raw", false)?;
    guest.end()
}

#[test]
fn a_chain_is_granted_with_its_top() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start()?;
    guest.control.order(["grant", &guest.path("top.qcow2"), "--write", "--format", "qcow2"])?;
    guest.add("chain", "top.qcow2", "qcow2", true)?;
    let info = guest.qmp.execute("query-named-block-nodes", json!({ "flat": true }))?.to_string();
    for name in ["top.qcow2", "mid.qcow2", "base.raw"] {
        assert!(info.contains(&guest.path(name)), "{name} is not in use: {info}");
    }
    // Only the top may be written.
    guest.assert_not_granted("mid.qcow2", "qcow2", true)?;
    guest.assert_not_granted("base.raw", "raw", true)?;
    guest.remove("chain")?;
    guest.control.order(["revoke", &guest.path("top.qcow2")])?;
    for (name, format) in [("top.qcow2", "qcow2"), ("mid.qcow2", "qcow2"), ("base.raw", "raw")] {
        guest.assert_not_granted(name, format, false)?;
    }
    guest.end()
}

#[test]
fn without_a_format_no_chain_is_granted() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start()?;
    guest.control.order(["grant", &guest.path("top.qcow2")])?;
    guest.assert_not_granted("top.qcow2", "qcow2", false)?;
    guest.emulator.wait_for_message("mid.qcow2")?;
    guest.end()
}

#[test]
fn orders_that_cannot_be_carried_out_say_why() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let guest = Guest::start()?;
    fs::create_dir(guest.workdir.path("folder")).during("mkdir")?;
    let folder = guest.path("folder");
    let (missing, boot, data, base) =
        (guest.path("missing.raw"), guest.path("boot.raw"), guest.path("data.raw"), guest.path("base.raw"));
    for (words, part) in [
        (vec!["grant", &missing], "missing.raw"),
        (vec!["grant", &folder], "regular file"),
        (vec!["grant", "/dev/null"], "regular file"),
        (vec!["grant", &base, "--format", "qcow2"], "qcow2"),
        (vec!["revoke", &data], "not granted"),
        (vec!["revoke", &boot], "at the start"),
        (vec!["allow", "commit", &boot], "backing file"),
        (vec!["allow", "commit", &missing], "missing.raw"),
    ] {
        let complaint = guest.control.refused(&words)?;
        assert!(complaint.contains(part), "{words:?}: {complaint}");
    }
    let complaint = Control::new("nobody-has-this-name").refused(["status"])?;
    assert!(complaint.contains("no guest named nobody-has-this-name"), "{complaint}");
    for name in ["..", "../../tmp", "a/b", ""] {
        Control::new(name).refused(["status"])?;
    }
    guest.end()
}

#[test]
fn what_is_granted_for_writing_is_known_at_its_next_start() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let guest = Guest::start()?;
    let chains = guest.workdir.chains(None)?;
    let records = ["--chain-dir", &chains.to_string_lossy()].map(str::to_owned);
    let grant = |words: &[&str]| {
        guest.control.run(["grant"].iter().chain(words).copied().chain(records.iter().map(|word| word.as_str())))
    };
    for words in
        [&[&guest.path("data.raw"), "--write"][..], &[&guest.path("top.qcow2"), "--write", "--format", "qcow2"]]
    {
        let answered = grant(words)?;
        assert!(answered.status.success(), "{answered:?}");
    }
    guest.control.order(["revoke", &guest.path("top.qcow2")])?;
    // The guest writes other headers.
    for name in ["data.raw", "top.qcow2"] {
        qcow2_over(&guest.workdir, "forged.qcow2", "boot.raw", "raw")?;
        guest.workdir.write(name, &guest.workdir.read("forged.qcow2")?)?;
    }
    let again = grant(&[&guest.path("top.qcow2"), "--write", "--format", "qcow2"])?;
    assert!(again.stderr.contains("broker chain accept") && again.stderr.contains("mid.qcow2"), "{again:?}");
    let started = BrokerCommand::new(&guest.workdir)
        .options(["--name".to_owned(), unique_name()])
        .args(["-machine", "none", "-display", "none", "-drive", "file=data.raw,if=none,format=qcow2"])
        .run()?;
    assert_eq!(started.status.code(), Some(125), "{started:?}");
    assert!(started.stderr.contains("it was raw when it was recorded"), "{started:?}");
    guest.end()
}
