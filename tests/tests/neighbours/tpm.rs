//! swtpm: a TPM that QEMU hands a socket to, and whose state it takes along.

use serde_json::json;
use tests::{BrokerCommand, Emulator, ORDINARY_USER, PATIENCE, Qmp, Result, Workdir, need, until};

use crate::scene::{Daemon, assert_well, boot, command, proof};

/// A user who is neither root nor [`ORDINARY_USER`].
const OTHER_USER: u32 = 12346;

/// The registers of a TPM in which nothing was measured.
const EMPTY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn swtpm(workdir: &Workdir, user: Option<u32>) -> Result<Daemon> {
    let words = ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=.", "--ctrl", "type=unixio,path=tpm.sock,mode=0700"];
    Daemon::start(workdir, user, &words, "tpm.sock")
}

/// A guest that tells of the registers of `device`.
fn guest<'a>(workdir: &'a Workdir, user: Option<u32>, device: &str) -> Result<BrokerCommand<'a>> {
    let command = boot(command(workdir, user), workdir, "near.tpm")?;
    Ok(command
        .args(["-machine", "q35", "-chardev", "socket,id=c,path=tpm.sock", "-tpmdev", "emulator,id=t,chardev=c"])
        .args(["-device", &format!("{device},tpmdev=t")]))
}

/// The registers that a guest has told of last.
fn registers(emulator: &Emulator) -> Result<Vec<String>> {
    emulator.wait_for_output("the registers", |said| proof(said, "TPM-PROOF: ").is_some())?;
    let said = emulator.stdout()?;
    Ok(proof(&said, "TPM-PROOF: ").unwrap_or_default().split_whitespace().map(str::to_owned).collect())
}

fn end(mut emulator: Emulator, mut qmp: Qmp) -> Result<()> {
    qmp.quit()?;
    assert_well(&emulator.wait()?);
    Ok(())
}

/// What the firmware measures of `device`, where the daemon runs as `daemon`, and the emulator as `user`.
fn measured(device: &str, daemon: Option<u32>, user: Option<u32>, bare: bool) -> Result<Vec<String>> {
    let workdir = Workdir::new()?;
    let _daemon = swtpm(&workdir, daemon)?;
    let start = guest(&workdir, user, device)?;
    let (emulator, mut qmp) = if bare { start.bare() } else { start }.start_with_monitor()?;
    let told = qmp.execute("query-tpm", json!({}))?;
    let kind = told.pointer("/0/options/type").and_then(|kind| kind.as_str());
    assert_eq!(kind, Some("emulator"), "{told}");
    let registers = registers(&emulator)?;
    end(emulator, qmp)?;
    Ok(registers)
}

/// By both of its devices, as root and as a user, the firmware measures what it measures without a broker.
#[test]
fn the_firmware_measures_as_ever() -> Result<()> {
    need!(Broker, Qemu, Landlock, Guest, Swtpm, UserNamespaces);
    for (device, user) in [("tpm-tis", None), ("tpm-crb", Some(ORDINARY_USER))] {
        let (bare, confined) = (measured(device, user, user, true)?, measured(device, user, user, false)?);
        assert_eq!(bare, confined, "{device}");
        assert_eq!(bare.len(), 4, "{bare:?}");
        assert!(!bare.iter().any(|register| register == EMPTY), "{bare:?}");
    }
    Ok(())
}

/// Root's emulator uses another user's daemon, whose socket is that user's alone.
#[test]
fn root_uses_the_tpm_of_another_user() -> Result<()> {
    need!(Qemu, Landlock, Guest, Swtpm, Root);
    assert_eq!(measured("tpm-tis", Some(OTHER_USER), None, false)?.len(), 4);
    Ok(())
}

/// A guest goes over to another emulator with another daemon: the registers go with it.
#[test]
fn the_state_of_a_tpm_migrates() -> Result<()> {
    need!(Qemu, Landlock, Guest, Swtpm);
    let (from, to) = (Workdir::new()?, Workdir::new()?);
    let (_source_daemon, _target_daemon) = (swtpm(&from, None)?, swtpm(&to, None)?);
    let socket = format!("unix:{}", to.path("in.sock").display());
    let (target, mut there) = guest(&to, None, "tpm-tis")?.args(["-incoming", &socket]).start_with_monitor()?;
    let source = guest(&from, None, "tpm-tis")?.options(["--connect", &socket]);
    let (source, mut here) = source.start_with_monitor()?;
    let before = registers(&source)?;
    here.execute("migrate", json!({ "uri": socket }))?;
    until(PATIENCE, "the migration", || {
        let state = here.execute("query-migrate", json!({}))?;
        assert_ne!(state["status"], "failed", "{state}: {}", source.stderr()?);
        Ok((state["status"] == "completed").then_some(()))
    })?;
    there.wait_event("RESUME")?;
    assert_eq!(registers(&target)?, before);
    assert!(!before.iter().any(|register| register == EMPTY), "{before:?}");
    end(source, here)?;
    end(target, there)
}
