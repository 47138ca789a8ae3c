//! A host with libvirt on it, and two guests whose images lie in one folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::{During, Error, Libvirt, PATIENCE, Result, Workdir, qcow2_over, raw_boot_disk, run_tool, until};

/// What an operator writes for these guests; each has a folder of its own beneath that of the images.
const CONFIGURATION: &str = r#"
options = ["--keep-descriptors", "--chain-dir", "CHAINS", "--medium-dir", "IMAGES/iso", "--audit", "AUDIT"]

[guest.one]
options = ["--allow", "commit", "--allow", "attach=IMAGES/one", "--listen", ":49152-49215"]

[guest.two]
options = ["--allow", "attach=IMAGES/two"]
"#;

/// The work folder, with what both of its libvirts see of it.
pub struct Host {
    /// Where all lies.
    pub workdir: Workdir,
    /// `qemu:///system`.
    pub libvirt: Libvirt,
}

/// libvirt's user for guests, and its group (`id libvirt-qemu`).
fn guest_user() -> Result<(u32, u32)> {
    let id = |flag| -> Result<u32> {
        let text = run_tool(Path::new("/"), "id", &[flag, "libvirt-qemu"])?;
        text.trim().parse().map_err(|_| Error::Unexpected(format!("id said {text:?}")))
    };
    Ok((id("-u")?, id("-g")?))
}

impl Host {
    /// Makes images, starts libvirt and defines the guests `one` and `two`.
    pub fn new() -> Result<Self> {
        let workdir = Workdir::new()?;
        let (user, group) = guest_user()?;
        let chains = workdir.aside().join("chains-of-libvirt");
        for folder in [chains, workdir.path("one"), workdir.path("two"), workdir.path("iso")] {
            fs::create_dir(&folder).during(format!("mkdir {}", folder.display()))?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).during("chmod")?;
            chown(&folder, Some(user), Some(group)).during("chown")?;
        }
        for disc in ["iso/a.iso", "iso/b.iso"] {
            workdir.write(disc, disc.repeat(4096).as_bytes())?;
        }
        for guest in ["one", "two"] {
            raw_boot_disk(&workdir, &format!("{guest}/base.raw"))?;
            qcow2_over(&workdir, &format!("{guest}/top.qcow2"), "base.raw", "raw")?;
            qcow2_over(&workdir, &format!("{guest}/extra.qcow2"), "base.raw", "raw")?;
        }
        let libvirt = Libvirt::start(&workdir, "first", &configuration(&workdir))?;
        let host = Self { workdir, libvirt };
        for guest in ["one", "two"] {
            let text = host.domain(guest, &host.libvirt);
            let file = host.workdir.write(&format!("{guest}.xml"), text.as_bytes())?;
            host.libvirt.virsh(&["define", &file.to_string_lossy()])?;
        }
        Ok(host)
    }

    /// A second libvirt, to which guests can be moved.
    pub fn second(&self) -> Result<Libvirt> {
        self.libvirt.start_beside(&self.workdir, "second", &configuration(&self.workdir))
    }

    fn domain(&self, guest: &str, libvirt: &Libvirt) -> String {
        let template = include_str!("domain.xml").replace("NAME", guest);
        let template = template.replace("EMULATOR", &libvirt.emulator().to_string_lossy());
        template.replace("FOLDER", &self.image(guest, "").to_string_lossy())
    }

    /// A file in the folder of a guest.
    pub fn image(&self, guest: &str, name: &str) -> PathBuf {
        let folder = self.workdir.path(guest);
        if name.is_empty() { folder } else { folder.join(name) }
    }

    /// What QEMU answers to a QMP command.
    pub fn qmp(&self, guest: &str, command: &str) -> Result<Value> {
        let text = self.libvirt.virsh(&["qemu-monitor-command", guest, command])?;
        serde_json::from_str(&text).map_err(|error| Error::Unexpected(format!("{text}: {error}")))
    }

    /// Waits until `virsh domstate` says this.
    pub fn wait_for_state(&self, guest: &str, state: &str) -> Result<()> {
        until(PATIENCE, &format!("{guest} to be {state}"), || {
            Ok((self.libvirt.virsh(&["domstate", guest])? == state).then_some(()))
        })
    }

    /// The disks of a guest and the media in its drives, as libvirt sees them.
    pub fn disks(&self, guest: &str) -> Result<String> {
        self.libvirt.virsh(&["domblklist", guest])
    }

    /// The lines that the broker wrote of what it refused.
    pub fn refusals(&self) -> Result<Vec<String>> {
        let audit = self.workdir.aside().join("chains-of-libvirt/audit");
        let text = fs::read_to_string(&audit).during(format!("read {}", audit.display()))?;
        Ok(text.lines().filter(|line| line.contains(r#""outcome":"refused""#)).map(str::to_owned).collect())
    }
}

fn configuration(workdir: &Workdir) -> String {
    let text = CONFIGURATION.replace("IMAGES", &workdir.files().to_string_lossy());
    let text = text.replace("CHAINS", &workdir.aside().join("chains-of-libvirt").to_string_lossy());
    text.replace("AUDIT", &workdir.aside().join("chains-of-libvirt/audit").to_string_lossy())
}
