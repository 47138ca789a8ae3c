//! What the operator learns: a line on standard error for each refusal, and each decision as a JSON line in a file.
//! A guest cannot fill a disk with it: names are cut, and lines beyond a rate are counted instead of written. A pipe on standard
//! error whose reader stops to read blocks nothing; a file should be on a disk that answers.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags};
use serde::Serialize;

use super::refusal::Refusal;

/// Lines in a burst; a guest asks for a handful when it starts, and for none for hours afterwards.
const BURST: u32 = 100;

/// Lines a second in the long run: what a hostile guest can write is less than 100 MB a day.
const LINES_PER_SECOND: u32 = 1;

/// Bytes of a name that are written down.
const NAME_SHOWN: usize = 256;

/// Bytes of a line on standard error. A pipe that can be written takes so many without blocking: `PIPE_BUF`, pipe(7).
const LINE: usize = 4096;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A descriptor was handed over, or a name removed.
    Granted,
    /// The policy said no.
    Refused,
    /// The policy said yes, and the kernel or the file server no.
    Failed,
}

/// One decision.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Event<'a> {
    /// `open`, `create`, `unlink`, `commit`, `medium`, `call` or `control`.
    pub request: &'static str,
    /// The name as the emulator spelled it, escaped; or the system call's.
    pub name: &'a str,
    /// In the notation of open(2), where it was an open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<&'a str>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// What would allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970, UTC.
    time: f64,
    guest: &'a str,
    /// The process that was started.
    pid: u32,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

#[derive(Serialize)]
struct Dropped<'a> {
    time: f64,
    guest: &'a str,
    pid: u32,
    /// Lines that the rate limit left out before this one.
    dropped: u64,
}

/// Counts at the end.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    granted: u64,
    refused: u64,
    failed: u64,
}

/// Where decisions are written.
#[derive(Debug)]
pub struct Audit {
    guest: String,
    pid: u32,
    file: Option<File>,
    terminal: Option<OwnedFd>,
    verbose: bool,
    tells_refusals: bool,
    allowance: f64,
    refilled: Instant,
    dropped: u64,
    totals: Totals,
}

impl Audit {
    /// Writes for the guest named `guest` whose emulator is `pid`: JSON lines to `file`, and to `terminal` refusals, or
    /// everything if `verbose`.
    #[must_use]
    pub fn new(guest: String, pid: u32, file: Option<File>, terminal: Option<OwnedFd>, verbose: bool) -> Self {
        Self {
            guest,
            pid,
            file,
            terminal,
            verbose,
            tells_refusals: true,
            allowance: f64::from(BURST),
            refilled: Instant::now(),
            dropped: 0,
            totals: Totals::default(),
        }
    }

    /// Has refusals told on the terminal, as they are at first, or not.
    pub fn tell_refusals(&mut self, tells: bool) {
        self.tells_refusals = tells;
    }

    /// The guest's name.
    #[must_use]
    pub fn guest(&self) -> &str {
        &self.guest
    }

    /// The process that was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Requests that were granted, refused, and that failed.
    #[must_use]
    pub fn totals(&self) -> [u64; 3] {
        [self.totals.granted, self.totals.refused, self.totals.failed]
    }

    /// Records a grant.
    pub fn granted(&mut self, request: &'static str, name: &str, flags: Option<&str>) {
        self.totals.granted += 1;
        self.record(&Event { request, name, flags, outcome: Outcome::Granted, reason: None, advice: None });
    }

    /// Records an order of the operator that was carried out.
    pub fn ordered(&mut self, order: &str) {
        let (request, outcome) = ("control", Outcome::Granted);
        self.record(&Event { request, name: order, flags: None, outcome, reason: None, advice: None });
    }

    /// Records a refusal.
    pub fn refused(&mut self, request: &'static str, name: &str, flags: Option<&str>, refusal: &Refusal) {
        self.totals.refused += 1;
        let (reason, advice) = (Some(refusal.reason.as_str()), Some(refusal.advice.as_str()));
        self.record(&Event { request, name, flags, outcome: Outcome::Refused, reason, advice });
    }

    /// Records that what was granted did not work out.
    pub fn failed(&mut self, request: &'static str, name: &str, flags: Option<&str>, error: &std::io::Error) {
        self.totals.failed += 1;
        let reason = error.to_string();
        let event = Event { request, name, flags, outcome: Outcome::Failed, reason: Some(&reason), advice: None };
        self.record(&event);
    }

    /// Lets go of standard error, as a daemon does.
    pub fn leave_terminal(&mut self) {
        self.terminal = None;
    }

    /// Says something on standard error that is no decision.
    pub fn say(&mut self, text: &str) {
        self.write_terminal(&format!("broker: {text}\n"));
    }

    /// The last words: how much there was of what.
    pub fn summarize(&mut self) {
        self.report_dropped();
        if self.verbose {
            let Totals { granted, refused, failed } = self.totals;
            self.say(&format!("{}: {granted} opened, {refused} refused, {failed} failed", self.guest));
        }
    }

    fn record(&mut self, event: &Event<'_>) {
        let shown = self.verbose || (self.tells_refusals && event.outcome == Outcome::Refused);
        // What nobody would read uses up no line, or grants could hide a refusal.
        if self.file.is_none() && !shown {
            return;
        }
        if !self.may_write() {
            self.dropped += 1;
            return;
        }
        self.report_dropped();
        let event = &Event { name: shortened(event.name, NAME_SHOWN), ..*event };
        self.write_file(&Line { time: now(), guest: &self.guest, pid: self.pid, event });
        if shown {
            self.write_terminal(&sentence(event));
        }
    }

    fn report_dropped(&mut self) {
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            self.write_file(&Dropped { time: now(), guest: &self.guest, pid: self.pid, dropped });
            self.say(&format!("{dropped} more decisions came too fast to be written down"));
        }
    }

    /// A bucket of tokens that refills with time.
    fn may_write(&mut self) -> bool {
        let passed = self.refilled.elapsed();
        self.refilled += passed;
        let gained = passed.as_secs_f64() * f64::from(LINES_PER_SECOND);
        self.allowance = (self.allowance + gained).min(f64::from(BURST));
        let enough = self.allowance >= 1.0;
        if enough {
            self.allowance -= 1.0;
        }
        enough
    }

    /// A full disk must not end the guest's broker: what cannot be written is lost.
    fn write_file(&self, line: &impl Serialize) {
        if let (Some(mut file), Ok(mut line)) = (self.file.as_ref(), serde_json::to_vec(line)) {
            line.push(b'\n');
            let _ = file.write_all(&line);
        }
    }

    /// Written only where it does not block: a reader that stopped reading must not stop the broker.
    fn write_terminal(&self, line: &str) {
        let mut line = shortened(line, LINE - 1).trim_end_matches('\n').to_owned();
        line.push('\n');
        let Some(terminal) = &self.terminal else { return };
        let mut descriptors = [PollFd::new(terminal, PollFlags::OUT)];
        let at_once = rustix::time::Timespec::default();
        let ready = rustix::event::poll(&mut descriptors, Some(&at_once));
        if ready.is_ok_and(|count| count > 0) {
            let _ = rustix::io::write(terminal.as_fd(), line.as_bytes());
        }
    }
}

/// The start of `text`, at most `limit` bytes.
fn shortened(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn sentence(event: &Event<'_>) -> String {
    let Event { request, name, flags, outcome, reason, advice } = event;
    let outcome = match outcome {
        Outcome::Granted => "granted",
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
    };
    let mut line = format!("broker: {outcome}: {request} {name}");
    for (before, part) in [(" ", flags), (": ", reason), ("; to allow it: ", advice)] {
        if let Some(part) = part {
            line.push_str(before);
            line.push_str(part);
        }
    }
    line.push('\n');
    line
}

/// Seconds since 1970, to the millisecond.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    (since.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Refusal {
        Refusal { reason: "no".into(), advice: "ask".into() }
    }

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let file = tempfile();
        let mut audit = Audit::new("g".into(), 1, Some(file.try_clone().unwrap()), None, false);
        for _ in 0..10_000 {
            audit.refused("open", "/x", None, &refusal());
        }
        audit.summarize();
        let text = read(file);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let dropped: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
        let written = lines.iter().filter(|line| line["outcome"] == "refused").count() as u64;
        assert_eq!(dropped + written, 10_000);
        assert!(written <= 101, "{written} lines");
    }

    #[test]
    fn grants_that_are_not_written_down_hide_no_refusal() {
        let terminal = tempfile();
        let descriptor = OwnedFd::from(terminal.try_clone().unwrap());
        let mut audit = Audit::new("g".into(), 1, None, Some(descriptor), false);
        for _ in 0..10_000 {
            audit.granted("open", "/x", None);
        }
        audit.refused("open", "/y", None, &refusal());
        assert_eq!(read(terminal), "broker: refused: open /y: no; to allow it: ask\n");
    }

    #[test]
    fn a_sentence_says_what_why_and_what_would_help() {
        let event = Event {
            request: "open",
            name: "/x",
            flags: Some("O_RDWR"),
            outcome: Outcome::Refused,
            reason: Some("no"),
            advice: Some("ask"),
        };
        assert_eq!(sentence(&event), "broker: refused: open /x O_RDWR: no; to allow it: ask\n");
    }

    fn tempfile() -> File {
        let descriptor = rustix::fs::memfd_create("audit", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        File::from(descriptor)
    }

    fn read(mut file: File) -> String {
        use std::io::{Read, Seek};
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }
}
