//! One guest's life on one side, as a script steers it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::emulator::Emulator;
use crate::error::{Error, Result};
use crate::parity::Operation;
use crate::parity::monitor::Monitor;
use crate::parity::normal::Normal;
use crate::parity::place::Place;
use crate::parity::start::Side;
use crate::parity::variant::{Form, Guest, Variant};

mod command_line;
mod life;

/// What one side has said, in the order in which it said it.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Commands with their answers.
    pub(crate) answers: Vec<String>,
    /// Events. Whether one comes before or after the answer to a command is a matter of time.
    pub(crate) events: Vec<String>,
    /// How each start ended, with what QEMU wrote to its standard error.
    pub(crate) ends: Vec<String>,
}

/// A running guest, and its monitor.
#[derive(Debug)]
pub struct Session<'a> {
    operation: &'a Operation,
    variant: &'a Variant,
    side: Side,
    place: &'a Place,
    normal: Normal,
    emulator: Emulator,
    monitor: Monitor,
    said: Said,
}

impl Session<'_> {
    /// Executes a command that must succeed, and returns what it returned.
    ///
    /// # Errors
    /// [`Error::Refused`] with QEMU's own error; others when the monitor is gone.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let answer = self.monitor.execute(command, &arguments, None)?;
        self.keep(command, &arguments, answer)
    }

    /// Executes a command of the monitor for people, which says nothing when it succeeds.
    ///
    /// # Errors
    /// When it says something.
    pub fn hmp(&mut self, line: &str) -> Result<()> {
        let answer = self.qmp("human-monitor-command", json!({ "command-line": line }))?;
        match answer.as_str() {
            Some("") => Ok(()),
            _ => Err(Error::Unexpected(format!("{line:?} said {answer}"))),
        }
    }

    /// Waits for an event of this name.
    ///
    /// # Errors
    /// When the emulator ends first.
    pub fn wait(&mut self, name: &str) -> Result<Value> {
        self.monitor.wait(name, |event| event.get("event").and_then(Value::as_str) == Some(name))
    }

    /// Waits until a job has come to a status (`JobStatus` of QEMU's `qapi/job.json`).
    ///
    /// # Errors
    /// When the emulator ends first.
    pub fn wait_job(&mut self, job: &str, status: &str) -> Result<()> {
        let text = |event: &Value, key| event.pointer(key).and_then(Value::as_str).map(str::to_owned);
        let wanted = |event: &Value| {
            text(event, "/data/id").as_deref() == Some(job) && text(event, "/data/status").as_deref() == Some(status)
        };
        self.monitor.wait(&format!("{job} to be {status}"), wanted).map(drop)
    }

    /// Executes a command that makes a job, waits for the job's end, and fails unless it succeeded. `arguments` name
    /// the job `job`, and leave it to be dismissed.
    ///
    /// # Errors
    /// QEMU's error, of the command or of the job.
    pub fn job(&mut self, command: &str, arguments: Value) -> Result<()> {
        self.qmp(command, arguments)?;
        self.wait_job("job", "concluded")?;
        let jobs = self.qmp("query-jobs", json!({}))?;
        if let Some(error) = jobs.pointer("/0/error") {
            return Err(Error::Unexpected(format!("the job of {command} failed: {error}")));
        }
        self.qmp("job-dismiss", json!({ "id": "job" })).map(drop)
    }

    /// How QEMU is told of a file: beside the images, or in the folder of the media if its name begins with `media/`.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        self.place.name(name)
    }

    /// Where a file is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// How QEMU is told of the guest's disk.
    #[must_use]
    pub fn disk(&self) -> String {
        self.place.name(self.variant.disk())
    }

    /// The name of the medium that takes the place of the first.
    #[must_use]
    pub fn second_medium(&self) -> &'static str {
        self.variant.second_medium()
    }

    /// Whether the guest's disk, `disk`, is a node; else it is a drive.
    #[must_use]
    pub fn has_nodes(&self) -> bool {
        self.variant.form != Form::Drive
    }

    /// Writes 64 KiB of the guest's disk, by way of the guest's device, at so many KiB.
    ///
    /// # Errors
    /// QEMU's.
    pub fn write_disk(&mut self, byte: u8, kibibytes: u32) -> Result<()> {
        self.hmp(&format!("qemu-io -d vd0/virtio-backend \"write -q -P {byte} {kibibytes}k 64k\""))
    }

    /// Waits for some writes of a guest that runs; a stopped one makes none.
    ///
    /// # Errors
    /// When they do not come.
    pub fn let_guest_write(&self) -> Result<()> {
        match self.variant.guest {
            Guest::Writing => self.emulator.wait_for_writes(2),
            Guest::Stopped => Ok(()),
        }
    }

    /// Keeps an answer, and takes it apart.
    fn keep(&mut self, command: &str, arguments: &Value, mut answer: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments, "answer": answer });
        self.said.answers.push(self.normal.value(line).to_string());
        if let Some(value) = answer.get_mut("return") {
            return Ok(value.take());
        }
        let text = |key| answer.pointer(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (class, description) = (text("/error/class"), text("/error/desc"));
        Err(Error::Refused { command: format!("{command} {arguments}"), class, description })
    }
}
