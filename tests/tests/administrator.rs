//! The administrator's policy narrows what every start may have.

use std::process::{Command, Output};

use tests::{During, Result, Workdir, broker_binary, need, qcow2_over};

/// Puts a policy where the host's would be, in a mount namespace of its own, and becomes the rest of its words.
const WITH_POLICY: &str = "mount -t tmpfs none /etc && mkdir /etc/broker && printf %s \"$POLICY\" \
                           > /etc/broker/policy.toml && chmod \"$MODE\" /etc/broker/policy.toml && exec \"$@\"";

/// An overlay in the folder of its base.
struct Host(Workdir);

impl Host {
    fn new() -> Result<Self> {
        let workdir = Workdir::new()?;
        workdir.write("base.raw", &[0; 1 << 20])?;
        qcow2_over(&workdir, "top.qcow2", "base.raw", "raw")?;
        Ok(Self(workdir))
    }

    /// What `broker plan` for that overlay comes to.
    fn plan(&self, policy: &str, mode: &str, options: &[&str]) -> Result<Output> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", WITH_POLICY, "sh"]).arg(broker_binary()?).arg("plan").args(options);
        command.arg("--chain-dir").arg(self.0.chains(None)?).args(["--", "qemu-system-x86_64", "-drive"]);
        command.arg("file=top.qcow2,format=qcow2,if=none").env("POLICY", policy).env("MODE", mode);
        command.current_dir(self.0.files()).output().during("start unshare")
    }

    /// Expects a refusal that holds all `parts`.
    fn refused(&self, policy: &str, mode: &str, parts: &[&str]) -> Result<()> {
        let output = self.plan(policy, mode, &[])?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{policy}: {stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)) && stderr.lines().count() == 1, "{policy}: {stderr}");
        Ok(())
    }
}

#[test]
fn strict_roots_leave_only_the_folders_that_are_named() -> Result<()> {
    need!(Broker, Root, Qemu);
    let host = Host::new()?;
    let open = host.plan("strict-roots = false\n", "644", &[])?;
    assert_eq!(open.status.code(), Some(0), "{}", String::from_utf8_lossy(&open.stderr));
    let folder = host.0.files();
    let folder = folder.to_string_lossy();
    host.refused("strict-roots = true\n", "644", &["top.qcow2", "base.raw", &format!("add --image-root {folder}")])?;
    let named = host.plan("strict-roots = true\n", "644", &["--image-root", &folder])?;
    assert_eq!(named.status.code(), Some(0), "{}", String::from_utf8_lossy(&named.stderr));
    Ok(())
}

#[test]
fn a_policy_that_cannot_count_stops_every_start() -> Result<()> {
    need!(Broker, Root, Qemu);
    let host = Host::new()?;
    host.refused("strict-root = true\n", "644", &["/etc/broker/policy.toml", "strict-roots = true"])?;
    host.refused("strict-roots = true\n", "664", &["may be changed by others", "chmod 644"])
}
