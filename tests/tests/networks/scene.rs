//! A network namespace, a work folder, and starts in both.

use std::fs;
use std::path::Path;

use tests::{
    BrokerCommand, During, Emulator, Error, Finished, Network, PATIENCE, PLAIN_QEMU, Process, Result, Workdir, until,
};

/// What one test has.
pub(crate) struct Scene {
    pub(crate) network: Network,
    pub(crate) workdir: Workdir,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { network: Network::new()?, workdir: Workdir::new()? })
    }

    /// A start of a guest that is halted, with a card on each of `networks`, the values of `-netdev` without their ids.
    pub(crate) fn start(&self, networks: &[&str]) -> BrokerCommand<'_> {
        let mut command = BrokerCommand::new(&self.workdir).inside(&self.network).args(PLAIN_QEMU).args(["-S"]);
        for (number, network) in networks.iter().enumerate() {
            let netdev = format!("{network},id=n{number}");
            let card = format!("virtio-net-pci,netdev=n{number},romfile=");
            command = command.args(["-netdev", &netdev, "-device", &card]);
        }
        command
    }

    /// Writes a script and returns its path. A process of its own writes it: one that this process had written could not
    /// be executed while another test forks (ETXTBSY, execve(2)).
    pub(crate) fn script(&self, name: &str, body: &str) -> Result<String> {
        let path = self.path(name);
        let text = format!("#!/bin/sh\n{body}\n");
        let write = "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"";
        self.network.run(None, "sh", &["-c", write, "sh", &path, &text])?;
        Ok(path)
    }

    /// The path of a file beside the output of the start.
    pub(crate) fn path(&self, name: &str) -> String {
        self.workdir.aside().join(name).to_string_lossy().into_owned()
    }

    /// Waits until there is a file that ends with a line, and returns what is in it.
    pub(crate) fn wait_for(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        until(PATIENCE, &path, || Ok(fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))))
    }

    /// Runs a start that must fail before there is an emulator: with one line that holds all of `words`, and with nothing
    /// left, not even for a moment, but what a script at the end takes.
    pub(crate) fn refuse(&self, command: BrokerCommand<'_>, words: &[&str]) -> Result<()> {
        let (interfaces, files) = (self.network.interfaces()?, self.workdir.listing()?);
        let mut emulator = command.start()?;
        let finished = emulator.wait()?;
        assert_eq!(finished.status.code(), Some(125), "{finished:?}");
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("broker: ") && words.iter().all(|word| last.contains(word)),
            "{words:?}: {finished:?}"
        );
        emulator.assert_nothing_left(&self.workdir, &files)?;
        assert_eq!(self.network.interfaces()?, interfaces);
        Ok(())
    }

    /// Ends a guest by its monitor; then nothing may be left.
    pub(crate) fn quit(&self, mut emulator: Emulator, mut qmp: tests::Qmp, interfaces: &[String]) -> Result<Finished> {
        qmp.quit()?;
        let finished = emulator.wait()?;
        assert!(finished.status.success(), "{finished:?}");
        self.assert_clean(&emulator, interfaces)?;
        Ok(finished)
    }

    /// Nothing is left of a start but these interfaces.
    pub(crate) fn assert_clean(&self, emulator: &Emulator, interfaces: &[String]) -> Result<()> {
        emulator.assert_nothing_left(&self.workdir, &self.workdir.listing()?)?;
        assert_eq!(self.network.interfaces()?, interfaces);
        Ok(())
    }
}

/// How many descriptors of `/dev/net/tun` a process has.
pub(crate) fn taps_of(process: Process) -> Result<usize> {
    Ok(process.descriptors()?.values().filter(|target| target.ends_with("net/tun")).count())
}

/// How many each process beside the emulator has, by its name.
pub(crate) fn taps_of_helpers(emulator: &Emulator) -> Result<Vec<(String, usize)>> {
    let mut found = Vec::new();
    for process in emulator.helpers()? {
        let name = process.status().map(|status| status.field("Name").to_owned()).unwrap_or_default();
        found.push((name, taps_of(process)?));
    }
    Ok(found)
}

/// A copy of a program that is root's and setuid.
pub(crate) fn setuid_copy(scene: &Scene, program: &Path, name: &str) -> Result<String> {
    let path = scene.path(name);
    let program = program.to_str().ok_or_else(|| Error::Unexpected("a path that is not text".to_owned()))?;
    scene.network.run(None, "install", &["-m", "4755", "-o", "0", "-g", "0", program, &path])?;
    fs::metadata(&path).during(format!("stat {path}"))?;
    Ok(path)
}
