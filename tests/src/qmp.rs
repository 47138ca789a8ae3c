//! A client of QEMU's monitor protocol (QMP, `docs/interop/qmp-spec` of QEMU): one JSON object a line.

use std::collections::VecDeque;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use crate::error::{During, Error, Result};
use crate::wait::PATIENCE;

/// A monitor that has been greeted and takes commands.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    greeting: Value,
    unread: Vec<u8>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Waits for QEMU's greeting and leaves negotiation mode.
    ///
    /// # Errors
    /// When the emulator ends first, or [`PATIENCE`] does.
    pub fn greet(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE)).during("set the monitor's time limit")?;
        let mut qmp = Self { stream, greeting: Value::Null, unread: Vec::new(), events: VecDeque::new() };
        qmp.greeting = qmp.read_object()?;
        if qmp.greeting.get("QMP").is_none() {
            return Err(Error::Unexpected(format!("QMP greeted with {}", qmp.greeting)));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// What QEMU greeted with: its version, and what its monitor can do.
    #[must_use]
    pub fn greeting(&self) -> &Value {
        &self.greeting
    }

    /// Executes a command and returns what it returned; events that arrive meanwhile are kept.
    ///
    /// # Errors
    /// [`Error::Refused`] with QEMU's own error; others when the monitor is gone.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = request(command, &arguments);
        self.stream.write_all(&request).during(format!("send {command}"))?;
        self.answer_to(command)
    }

    /// The same with a descriptor beside the command, as `getfd` and `add-fd` take it.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn execute_with(&mut self, command: &str, arguments: Value, descriptor: BorrowedFd) -> Result<Value> {
        let request = request(command, &arguments);
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&self.stream, &[IoSlice::new(&request)], &mut ancillary, SendFlags::empty())
            .during(format!("send {command} with a descriptor"))?;
        self.answer_to(command)
    }

    /// The next event of this name, perhaps one that has already arrived.
    ///
    /// # Errors
    /// When the emulator ends first, or [`PATIENCE`] does.
    pub fn wait_event(&mut self, name: &str) -> Result<Value> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if event.get("event").and_then(Value::as_str) == Some(name) {
                    return Ok(event);
                }
            }
            let object = self.read_object()?;
            self.events.push_back(object);
        }
    }

    /// Asks the emulator to end.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn quit(&mut self) -> Result<()> {
        self.execute("quit", json!({})).map(drop)
    }

    /// Reads until the answer to the command that was just sent.
    fn answer_to(&mut self, command: &str) -> Result<Value> {
        loop {
            let mut object = self.read_object()?;
            if let Some(value) = object.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = object.get("error") {
                let text = |key| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(Error::Refused {
                    command: command.to_owned(),
                    class: text("class"),
                    description: text("desc"),
                });
            }
            self.events.push_back(object);
        }
    }

    /// Reads one line and parses it.
    fn read_object(&mut self) -> Result<Value> {
        let end = loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                break end;
            }
            let mut buffer = [0; 4096];
            let count = match self.stream.read(&mut buffer) {
                // A read with a time limit is not taken up again by the kernel after a stop (signal(7)).
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.during("read from the monitor")?,
            };
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                return Err(Error::Unexpected("the emulator closed its monitor".to_owned()));
            };
            self.unread.extend_from_slice(bytes);
        };
        let line: Vec<u8> = self.unread.drain(..=end).collect();
        serde_json::from_slice(&line)
            .map_err(|error| Error::Unexpected(format!("QMP sent {}: {error}", String::from_utf8_lossy(&line))))
    }
}

/// One command as a line.
fn request(command: &str, arguments: &Value) -> Vec<u8> {
    let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
    line.push('\n');
    line.into_bytes()
}
