//! What is to be seen of one side.

use std::fs::File;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde_json::{Value, json};
use tests::{BrokerCommand, During, Emulator, Error, Network, Qmp, Result, Workdir};

use crate::fixtures;
use crate::line::Line;
use crate::normal::Normal;

/// What is asked of every guest.
const QUESTIONS: &[&str] = &[
    "query-status",
    "query-name",
    "query-kvm",
    "query-uuid",
    "query-chardev",
    "query-block",
    "query-named-block-nodes",
    "query-pci",
    "query-cpus-fast",
    "query-memdev",
    "query-iothreads",
    "query-memory-size-summary",
    "query-tpms",
    "query-rx-filter",
    "query-vnc-servers",
    "query-spice",
    "query-migrate",
    "query-migrate-capabilities",
    "query-migrate-parameters",
    "query-command-line-options",
    "query-memory-devices",
    "query-hotpluggable-cpus",
    "query-current-machine",
    "query-balloon",
    "query-fdsets",
    "query-jobs",
    "query-block-exports",
    "query-mice",
];

/// `RAW_LOCK_SHARED_BASE` and `BLK_PERM_WRITE` of QEMU (block/file-posix.c, include/block/block-common.h): who has this byte
/// locked shares writing with nobody.
const UNSHARED_WRITING: i64 = 200 + 1;

/// Without the broker, or under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Bare,
    Brokered,
}

/// All that is compared, a line each: what was asked, and the answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether QMP greeted.
    pub(crate) greeted: bool,
    /// Answers of the monitor.
    pub(crate) answers: Vec<String>,
    /// The exit status.
    pub(crate) status: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error, without the broker's notices.
    pub(crate) stderr: String,
    /// What the broker said.
    pub(crate) broker: Vec<String>,
}

/// Runs a line on one side.
pub(crate) fn observe(line: &Line, side: Side) -> Result<Seen> {
    let workdir = Workdir::new()?;
    let folder = workdir.files();
    let here = |word: &String| word.replace("$DIR", &folder.to_string_lossy());
    let words: Vec<String> = line.words.iter().map(here).collect();
    fixtures::place(&line.words, &folder)?;
    let _lock = line.locked.as_ref().map(|name| lock(&workdir, name)).transpose()?;
    let network = line.network.then(network).transpose()?;
    let (Some(program), arguments) = (words.first(), words.get(1..).unwrap_or_default()) else {
        return Err(Error::Unexpected(format!("{} has no program", line.name)));
    };
    let mut command = BrokerCommand::new(&workdir).program(program).args(arguments);
    command = command.options(line.options.iter().map(here));
    if side == Side::Bare {
        command = command.bare();
    }
    if let Some(network) = &network {
        command = command.inside(network);
    }
    let normal = Normal::new(&workdir);
    if !program.contains("qemu-system-") {
        return end(&mut command.start()?, Seen::default(), &normal);
    }
    let (mut emulator, monitor) = command.args(["-S"]).start_with_monitor_or_end()?;
    let mut seen = Seen::default();
    if let Some(mut monitor) = monitor {
        seen.greeted = true;
        seen.answers = ask_all(&mut monitor, &normal)?;
        monitor.quit()?;
    }
    end(&mut emulator, seen, &normal)
}

/// Waits for the end, and adds what was said.
fn end(emulator: &mut Emulator, mut seen: Seen, normal: &Normal) -> Result<Seen> {
    let finished = emulator.wait()?;
    seen.status = finished.status.code();
    seen.stdout = normal.text(&finished.stdout);
    for said in finished.stderr.lines() {
        if said.starts_with("broker: ") {
            seen.broker.push(said.to_owned());
        } else {
            seen.stderr.push_str(&normal.text(said));
            seen.stderr.push('\n');
        }
    }
    Ok(seen)
}

fn ask_all(monitor: &mut Qmp, normal: &Normal) -> Result<Vec<String>> {
    let mut answers = vec![normal.value(monitor.greeting().clone()).to_string()];
    for question in QUESTIONS {
        let answer = ask(monitor, question, json!({}))?;
        answers.push(format!("{question}: {}", normal.list(answer)));
    }
    answers.extend(tree(monitor, normal)?);
    Ok(answers)
}

/// All objects of the guest and their properties, in the order of letters.
fn tree(monitor: &mut Qmp, normal: &Normal) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut left = vec![String::from("/")];
    while let Some(path) = left.pop() {
        let properties = ask(monitor, "qom-list", json!({ "path": path }))?;
        for property in properties.as_array().into_iter().flatten() {
            let text = |key: &str| property.get(key).and_then(Value::as_str).unwrap_or_default();
            let (name, kind) = (text("name"), text("type"));
            lines.push(normal.text(&format!("{path} has {name} of {kind}")));
            if kind.starts_with("child<") {
                left.push(format!("{}/{name}", path.trim_end_matches('/')));
            }
        }
    }
    lines.sort_unstable();
    Ok(lines)
}

/// The answer, or QEMU's error: some machines have no such thing.
fn ask(monitor: &mut Qmp, question: &str, arguments: Value) -> Result<Value> {
    match monitor.execute(question, arguments) {
        Err(Error::Refused { class, description, .. }) => Ok(json!(format!("{class}: {description}"))),
        answer => answer,
    }
}

/// Locks a file as a QEMU does that writes it and lets no other do so. The lock goes with the file.
fn lock(workdir: &Workdir, name: &str) -> Result<File> {
    let path = workdir.path(name);
    let file = File::open(&path).during(format!("open {}", path.display()))?;
    let read = libc::c_short::try_from(libc::F_RDLCK).unwrap_or_default();
    let range = libc::flock { l_type: read, l_whence: 0, l_start: UNSHARED_WRITING, l_len: 1, l_pid: 0 };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&range)).during(format!("lock {}", path.display()))?;
    Ok(file)
}

fn network() -> Result<Network> {
    let network = Network::new()?;
    for words in ["link add br0 type bridge", "link set br0 up", "tuntap add dev tap0 mode tap"] {
        network.ip(words)?;
    }
    Ok(network)
}
