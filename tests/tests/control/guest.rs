//! A running guest, and what its monitor and its operator say to it.

use serde_json::{Value, json};
use tests::control::{Control, unique_name};
use tests::{BrokerCommand, Emulator, Error, Qmp, Result, Workdir, qcow2_over, raw_boot_disk};

/// A guest with one disk of its own, and files beside it that it was not granted.
pub struct Guest {
    pub workdir: Workdir,
    pub emulator: Emulator,
    pub qmp: Qmp,
    pub control: Control,
}

impl Guest {
    pub fn start() -> Result<Self> {
        let workdir = Workdir::new()?;
        raw_boot_disk(&workdir, "boot.raw")?;
        workdir.write("data.raw", &[0x5a; 1 << 20])?;
        workdir.write("base.raw", &[0x5a; 1 << 20])?;
        qcow2_over(&workdir, "mid.qcow2", "base.raw", "raw")?;
        qcow2_over(&workdir, "top.qcow2", "mid.qcow2", "qcow2")?;
        let name = unique_name();
        let audit = workdir.aside().join("audit.json").into_os_string();
        let (emulator, qmp) = BrokerCommand::new(&workdir)
            .options(["--name".into(), name.clone().into(), "--audit".into(), audit])
            .boot_sector("file=boot.raw,format=raw")
            .start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        Ok(Self { workdir, emulator, qmp, control: Control::new(&name) })
    }

    pub fn path(&self, name: &str) -> String {
        self.workdir.path(name).to_string_lossy().into_owned()
    }

    /// Adds an image as node `node`.
    pub fn add(&mut self, node: &str, name: &str, format: &str, write: bool) -> Result<Value> {
        let file = json!({ "driver": "file", "filename": self.path(name) });
        let image = json!({ "driver": format, "node-name": node, "read-only": !write, "file": file });
        self.qmp.execute("blockdev-add", image)
    }

    pub fn remove(&mut self, node: &str) -> Result<Value> {
        self.qmp.execute("blockdev-del", json!({ "node-name": node }))
    }

    /// Fails unless adding an image is refused, with a word for the operator.
    pub fn assert_not_granted(&mut self, name: &str, format: &str, write: bool) -> Result<()> {
        let answer = self.add("refused", name, format, write);
        match answer {
            Err(Error::Refused { description, .. }) if description.contains("Permission denied") => Ok(()),
            other => Err(Error::Unexpected(format!("{name} was to be refused: {other:?}"))),
        }
    }

    /// The paths of what `status` says is granted.
    pub fn granted(&self) -> Result<Vec<String>> {
        let status = self.control.status()?;
        let grants = status.get("grants").and_then(Value::as_array).cloned().unwrap_or_default();
        let paths = grants.iter().filter_map(|grant| grant.get("path")?.as_str().map(str::to_owned));
        Ok(paths.collect())
    }

    /// Ends the guest, and fails if anything of it is left.
    pub fn end(mut self) -> Result<()> {
        let files = self.workdir.listing()?;
        self.qmp.quit()?;
        assert_eq!(self.emulator.wait()?.status.code(), Some(0));
        self.emulator.assert_nothing_left(&self.workdir, &files)?;
        assert!(!self.control.folder().exists(), "{} is left", self.control.folder().display());
        Ok(())
    }
}
