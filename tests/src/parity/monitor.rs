//! A client of QEMU's monitor (QMP, `docs/interop/qmp-spec` of QEMU) that keeps every event in its order.

use std::io::{BufRead, BufReader, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use crate::error::{During, Error, Result};
use crate::wait::PATIENCE;

/// A monitor that takes commands.
#[derive(Debug)]
pub(crate) struct Monitor {
    stream: BufReader<UnixStream>,
    events: Vec<Value>,
    /// How many of the events a wait has looked at.
    seen: usize,
}

impl Monitor {
    /// Waits for QEMU's greeting and leaves negotiation mode.
    pub(crate) fn greet(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE)).during("set the monitor's time limit")?;
        let mut monitor = Self { stream: BufReader::new(stream), events: Vec::new(), seen: 0 };
        let greeting = monitor.read()?;
        if greeting.as_ref().is_none_or(|greeting| greeting.get("QMP").is_none()) {
            return Err(Error::Unexpected(format!("QMP greeted with {greeting:?}")));
        }
        monitor.execute("qmp_capabilities", &json!({}), None)?;
        Ok(monitor)
    }

    /// Executes a command, with a descriptor beside it if there is one, and gives the answer: an object with `return`
    /// or with `error`.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value, file: Option<BorrowedFd>) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        let descriptors: Vec<BorrowedFd> = file.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let bytes = [IoSlice::new(line.as_bytes())];
        sendmsg(self.stream.get_ref(), &bytes, &mut ancillary, SendFlags::NOSIGNAL)
            .during(format!("send {command}"))?;
        while let Some(object) = self.read()? {
            if object.get("event").is_none() {
                return Ok(object);
            }
            self.events.push(object);
        }
        Err(Error::Unexpected(format!("the emulator closed its monitor after {command}")))
    }

    /// The next event that is `wanted`, of those that no earlier call has looked at.
    pub(crate) fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            while let Some(event) = self.events.get(self.seen) {
                self.seen += 1;
                if wanted(event) {
                    return Ok(event.clone());
                }
            }
            match self.read()? {
                Some(event) => self.events.push(event),
                None => return Err(Error::Unexpected(format!("the emulator closed its monitor before {what}"))),
            }
        }
    }

    /// All events, to the last.
    pub(crate) fn read_to_the_end(mut self) -> Result<Vec<Value>> {
        while let Some(event) = self.read()? {
            self.events.push(event);
        }
        Ok(self.events)
    }

    /// Reads one line and parses it; nothing at the end, which is a reset when QEMU ends before it has read the last
    /// byte of `quit`.
    fn read(&mut self) -> Result<Option<Value>> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            result => result.during("read from the monitor")?,
        };
        let value = serde_json::from_slice(&line);
        value
            .map(Some)
            .map_err(|error| Error::Unexpected(format!("QMP sent {}: {error}", String::from_utf8_lossy(&line))))
    }
}
