//! What stands before `--`: the options of a start.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::emulator::{Endpoint, EndpointUse};
use crate::plan::Options;
use crate::run::Request;
use crate::serve::ledger::Limits;

/// Seconds that an open may take. An NFSv4 server that restarts grants nothing for 90 seconds (its grace period,
/// nfsd(7)), and a guest should outlive that.
const OPEN_TIMEOUT: u32 = 120;

/// What `--allow` names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowance {
    AnyCommit,
    Commit(PathBuf),
    Create(PathBuf),
    Attach(PathBuf),
    Display,
}

/// What running takes.
#[derive(Debug, Args)]
pub struct Run {
    /// Backing files that an image's header names may lie beneath DIR, beside the folders of the images named
    #[arg(long, value_name = "DIR")]
    image_root: Vec<PathBuf>,
    /// Where the chains of images are recorded; every start compares them with what it finds
    /// [default: /var/lib/broker/chains for root, else broker/chains in XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    chain_dir: Option<PathBuf>,
    /// Run the emulator as this user and group (root only)
    #[arg(long, value_name = "UID:GID", value_parser = parse_user)]
    user: Option<(u32, u32)>,
    /// Open images, media and new files as this user and group, with the user's groups (root only) [default: who starts
    /// broker]
    #[arg(long, value_name = "UID:GID", value_parser = parse_user)]
    image_user: Option<(u32, u32)>,
    /// A medium that may be inserted later, read-only: a file, or a device such as /dev/sr0
    #[arg(long, value_name = "PATH")]
    medium: Vec<PathBuf>,
    /// Regular files beneath DIR may be inserted later, read-only, also those that are put there later
    #[arg(long, value_name = "DIR")]
    medium_dir: Vec<PathBuf>,
    /// What the emulator may do while the guest runs: commit, into any backing file; commit=PATH, into that one;
    /// create=DIR, make new files beneath DIR; attach=DIR, read and write the regular files beneath DIR; display, open
    /// windows on the desktop of who starts it
    #[arg(long, value_name = "WHAT", value_parser = parse_allowance)]
    allow: Vec<Allowance>,
    /// Files that were created for the guest and exist, at a time
    #[arg(long, value_name = "N", default_value_t = Limits::default().files)]
    create_files: u32,
    /// Bytes that those files may take up on disk until another one is created; K, M, G and T stand for powers of 1024
    #[arg(long, value_name = "SIZE", default_value = "1T", value_parser = parse_size)]
    create_bytes: u64,
    /// Who owns new files (root only) [default: who starts broker]
    #[arg(long, value_name = "UID:GID", value_parser = parse_user)]
    create_owner: Option<(u32, u32)>,
    /// Which bridges may be used, in the syntax of QEMU's bridge.conf [default: /etc/qemu/bridge.conf]
    #[arg(long, value_name = "FILE")]
    bridge_acl: Option<PathBuf>,
    /// A socket that the emulator may listen on while the guest runs (nbd-server-start, migrate-incoming, chardev-add ...):
    /// HOST:PORT, :PORT, HOST:FIRST-LAST, unix:PATH or abstract:NAME
    #[arg(long, value_name = "ADDRESS", value_parser = OsStringValueParser::new().try_map(parse_listen))]
    listen: Vec<Endpoint>,
    /// A socket that the emulator may connect to while the guest runs (migrate, blockdev-add ...): HOST:PORT,
    /// HOST:FIRST-LAST, unix:PATH or abstract:NAME
    #[arg(long, value_name = "ADDRESS", value_parser = OsStringValueParser::new().try_map(parse_connect))]
    connect: Vec<Endpoint>,
    /// How long the emulator waits for a file until it is told that it failed
    #[arg(long, value_name = "SECONDS", default_value_t = OPEN_TIMEOUT, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    open_timeout: u32,
    /// Give the emulator every descriptor that was left open for it, and not only those that its arguments name; for
    /// managers such as libvirt, which close all others and tell QEMU of some later
    #[arg(long)]
    keep_descriptors: bool,
    /// Give the emulator a connection to the broker of its own, by its number in BROKER_SOCKET
    #[arg(long)]
    protocol_socket: bool,
    /// The guest's name in messages, in the audit file and for `broker ctl` [default: QEMU's -name, else the pid]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Append every decision to FILE, a JSON object a line
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Say what is being opened, and how much at the end
    #[arg(short, long)]
    verbose: bool,
    /// The emulator and its arguments
    #[arg(last = true, value_name = "EMULATOR ARGS")]
    pub(super) emulator: Vec<OsString>,
}

impl From<Run> for Request {
    fn from(run: Run) -> Self {
        Self {
            options: options(&run),
            words: run.emulator,
            binary: None,
            audit: run.audit,
            name: run.name,
            verbose: run.verbose,
            open_timeout: Duration::from_secs(run.open_timeout.into()),
            own_socket: run.protocol_socket,
            keeps_descriptors: run.keep_descriptors,
        }
    }
}

fn options(run: &Run) -> Options {
    let mut options = Options {
        image_roots: run.image_root.clone(),
        chain_dir: run.chain_dir.clone(),
        user: run.user,
        image_user: run.image_user,
        media: run.medium.clone(),
        medium_folders: run.medium_dir.clone(),
        limits: Limits { files: run.create_files, bytes: run.create_bytes },
        owner: run.create_owner,
        bridge_acl: run.bridge_acl.clone(),
        endpoints: run.listen.iter().chain(&run.connect).cloned().collect(),
        ..Options::default()
    };
    for allowance in &run.allow {
        match allowance {
            Allowance::AnyCommit => options.commits.all = true,
            Allowance::Commit(path) => options.commits.named.push(path.clone()),
            Allowance::Create(folder) => options.creation_folders.push(folder.clone()),
            Allowance::Attach(folder) => options.attachment_folders.push(folder.clone()),
            Allowance::Display => options.allowed.windows = true,
        }
    }
    options
}

fn parse_listen(address: OsString) -> Result<Endpoint, String> {
    Endpoint::granted("--listen", EndpointUse::Listen, &address)
}

fn parse_connect(address: OsString) -> Result<Endpoint, String> {
    Endpoint::granted("--connect", EndpointUse::Connect, &address)
}

fn parse_allowance(text: &str) -> Result<Allowance, String> {
    match text.split_once('=') {
        None if text == "commit" => Ok(Allowance::AnyCommit),
        None if text == "display" => Ok(Allowance::Display),
        Some(("commit", path)) if !path.is_empty() => Ok(Allowance::Commit(path.into())),
        Some(("create", folder)) if !folder.is_empty() => Ok(Allowance::Create(folder.into())),
        Some(("attach", folder)) if !folder.is_empty() => Ok(Allowance::Attach(folder.into())),
        _ => Err("say commit, commit=PATH, create=DIR, attach=DIR or display".into()),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((end, 'K')) => (text.get(..end), 10),
        Some((end, 'M')) => (text.get(..end), 20),
        Some((end, 'G')) => (text.get(..end), 30),
        Some((end, 'T')) => (text.get(..end), 40),
        _ => (Some(text), 0),
    };
    let number = digits.and_then(|digits| digits.parse::<u64>().ok());
    let size = number.and_then(|number| number.checked_mul(1 << shift));
    size.ok_or_else(|| "give a number of bytes, as in 500G".into())
}

fn parse_user(text: &str) -> Result<(u32, u32), String> {
    let parse = |part: &str| part.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    text.split_once(':')
        .and_then(|(uid, gid)| Some((parse(uid)?, parse(gid)?)))
        .ok_or_else(|| "give numbers, as in 64055:64055 (`id -u NAME` and `id -g NAME` print them)".into())
}
