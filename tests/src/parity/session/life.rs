//! The beginning and the end of a guest's life, and what lies between two of them: its saved state.

use std::fs::File;
use std::os::fd::AsFd;

use serde_json::{Value, json};

use super::{Said, Session, command_line};
use crate::emulator::Emulator;
use crate::error::{During, Error, Result};
use crate::parity::Operation;
use crate::parity::monitor::Monitor;
use crate::parity::normal::Normal;
use crate::parity::place::Place;
use crate::parity::start::{Side, start};
use crate::parity::variant::{Guest, Variant};
use crate::wait::{PATIENCE, until};

impl<'a> Session<'a> {
    /// Starts QEMU.
    pub(crate) fn start(operation: &'a Operation, variant: &'a Variant, side: Side, place: &'a Place) -> Result<Self> {
        let (emulator, monitor) = launch(operation, variant, side, place, &[])?;
        let (normal, said) = (Normal::new(place, variant), Said::default());
        Ok(Self { operation, variant, side, place, normal, emulator, monitor, said })
    }
}

impl Session<'_> {
    /// Saves the guest to a file that QEMU gets as a descriptor, as libvirt does.
    ///
    /// # Errors
    /// When the save fails.
    pub fn save(&mut self) -> Result<()> {
        let path = self.place.workdir.aside().join("saved");
        self.give(File::create(&path).during(format!("create {}", path.display()))?)?;
        self.qmp("migrate", json!({ "uri": "fd:file" }))?;
        self.wait_migrated()
    }

    /// Quits, starts anew, and loads what [`Self::save`] saved.
    ///
    /// # Errors
    /// When loading fails.
    pub fn restart_from_saved(&mut self) -> Result<()> {
        self.restart(&["-incoming", "defer"])?;
        let path = self.place.workdir.aside().join("saved");
        self.give(File::open(&path).during(format!("open {}", path.display()))?)?;
        self.qmp("migrate-incoming", json!({ "uri": "fd:file" }))?;
        self.wait_migrated()
    }

    /// Quits, and starts QEMU again with further words.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self, arguments: &[&str]) -> Result<()> {
        self.qmp("quit", json!({}))?;
        self.wait("SHUTDOWN")?;
        self.keep_end()?;
        let (emulator, monitor) = launch(self.operation, self.variant, self.side, self.place, arguments)?;
        self.emulator = emulator;
        let earlier = std::mem::replace(&mut self.monitor, monitor);
        self.keep_events(earlier)
    }

    /// Looks at all disks and nodes, quits, and tells what was said.
    pub(crate) fn finish(mut self) -> Result<Said> {
        for query in ["query-status", "query-block", "query-jobs"] {
            self.qmp(query, json!({}))?;
        }
        self.qmp("query-named-block-nodes", json!({ "flat": true }))?;
        self.qmp("quit", json!({}))?;
        self.wait("SHUTDOWN")?;
        self.keep_end()?;
        let Self { monitor, normal, mut said, .. } = self;
        let events = monitor.read_to_the_end()?.into_iter().filter(|event| !is_cut_off(event));
        said.events.extend(events.map(|event| normal.value(event).to_string()));
        Ok(said)
    }

    /// Hands QEMU a file under the name `file`.
    fn give(&mut self, file: File) -> Result<()> {
        let arguments = json!({ "fdname": "file" });
        let answer = self.monitor.execute("getfd", &arguments, Some(file.as_fd()))?;
        self.keep("getfd", &arguments, answer).map(drop)
    }

    /// Waits for the end of a migration, which is not kept: how often it is asked for is a matter of time.
    fn wait_migrated(&mut self) -> Result<()> {
        let monitor = &mut self.monitor;
        until(PATIENCE, "the end of the migration", || {
            let answer = monitor.execute("query-migrate", &json!({}), None)?;
            match answer.pointer("/return/status").and_then(Value::as_str) {
                Some("completed") => Ok(Some(())),
                Some("failed" | "cancelled") => Err(Error::Unexpected(format!("the migration failed: {answer}"))),
                _ => Ok(None),
            }
        })
    }

    /// Keeps the events of a monitor that has ended.
    fn keep_events(&mut self, monitor: Monitor) -> Result<()> {
        let events = monitor.read_to_the_end()?.into_iter().filter(|event| !is_cut_off(event));
        self.said.events.extend(events.map(|event| self.normal.value(event).to_string()));
        Ok(())
    }

    /// Waits for the end of the emulator and of what stands beside it, and keeps its status and its messages. Of those
    /// of the broker only refusals count.
    fn keep_end(&mut self) -> Result<()> {
        let finished = self.emulator.wait()?;
        let counts = |line: &&str| !line.starts_with("broker: ") || line.starts_with("broker: refused");
        let lines: Vec<String> = finished.stderr.lines().filter(counts).map(|line| self.normal.text(line)).collect();
        self.said.ends.push(format!("{}; {lines:?}", finished.status));
        let listing = self.place.workdir.listing()?;
        self.emulator.assert_nothing_left(&self.place.workdir, &listing)
    }
}

/// Starts QEMU with the words of operation and variant, and `more`.
fn launch(
    operation: &Operation,
    variant: &Variant,
    side: Side,
    place: &Place,
    more: &[&str],
) -> Result<(Emulator, Monitor)> {
    let mut arguments = command_line::arguments(variant, place);
    arguments.extend(operation.arguments.iter().map(|word| place.word(word)));
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    let options = place.options(operation.options);
    let (emulator, stream) = start(side, &place.workdir, variant.user, options, arguments)?;
    let greeted = Monitor::greet(stream).and_then(|monitor| {
        if variant.guest == Guest::Writing && more.is_empty() {
            emulator.wait_for_writes(1)?;
        }
        Ok(monitor)
    });
    match greeted {
        Ok(monitor) => Ok((emulator, monitor)),
        Err(error) => Err(emulator.explain(error)),
    }
}

/// Whether an event tells of a write that QEMU itself cut off when it let go of its disks at the end, bare as well as
/// brokered: whether the guest had one under way then is a matter of time.
fn is_cut_off(event: &Value) -> bool {
    event.get("event").and_then(Value::as_str) == Some("BLOCK_IO_ERROR")
        && event.pointer("/data/reason").and_then(Value::as_str) == Some("No medium found")
}
