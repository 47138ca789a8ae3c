//! Broker's own command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::control::client::Wish;
use crate::control::granted::Wanted;
use crate::control::tap;
use crate::emulator::Vhost;
use crate::plan::Options;
use crate::record;
use crate::run::Request;
use crate::serve::ledger::Limits;

/// Runs QEMU in a sandbox in which none of its files exist.
#[derive(Debug, Parser)]
#[command(
    name = "broker",
    version,
    args_conflicts_with_subcommands = true,
    override_usage = "broker [OPTIONS] -- EMULATOR ARGS...\n       broker plan [OPTIONS] [--json] -- EMULATOR ARGS...\n       broker ctl NAME status|grant|revoke|allow|tap ...\n       broker chain show|accept|forget ...\n       broker bridge-helper [--use-vnet] --br=BRIDGE --fd=SOCKET\n       broker check"
)]
pub struct Cli {
    /// What to do, if not to run an emulator.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run one.
    #[command(flatten)]
    pub run: Run,
}

/// Everything but running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See and change what is recorded of disk images between starts
    Chain {
        /// Where the records are [default: /var/lib/broker/chains for root, else broker/chains beneath XDG_STATE_HOME]
        #[arg(long, value_name = "DIR", global = true)]
        chain_dir: Option<PathBuf>,
        /// What to do
        #[command(subcommand)]
        order: ChainOrder,
    },
    /// Hand a tap on a bridge over, in the place of qemu-bridge-helper
    BridgeHelper {
        /// --br=BRIDGE --fd=SOCKET [--use-vnet] [--queues=N] [--vhost] [--bridge-acl=FILE]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Print what this host offers and what is missing
    Check,
    /// Speak to a guest that runs
    Ctl {
        /// The guest: its --name, else QEMU's -name, else its process number
        name: String,
        /// What to do
        #[command(subcommand)]
        order: Order,
    },
    /// Print all that would be done for an emulator's command line, without doing it
    Plan {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// How it would be run.
        #[command(flatten)]
        run: Run,
    },
}

/// What can be done with a guest that runs.
#[derive(Debug, Subcommand)]
pub enum Order {
    /// Print what is granted to it, and how much of it is used
    Status {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Grant a file, which the emulator may then open by its path (blockdev-add, blockdev-change-medium, ...)
    Grant {
        /// A regular file or a block device
        path: PathBuf,
        /// For writing too
        #[arg(long)]
        write: bool,
        /// For one use: until the first open if it is only read, else until QEMU goes back to reading it
        #[arg(long)]
        once: bool,
        /// Its format; its backing chain is granted with it, for reading
        #[arg(long)]
        format: Option<String>,
        /// What its headers name may lie beneath DIR, beside its own folder
        #[arg(long, value_name = "DIR", requires = "format")]
        image_root: Vec<PathBuf>,
        /// Where the chains of images are recorded, as for the guest itself
        #[arg(long, value_name = "DIR")]
        chain_dir: Option<PathBuf>,
    },
    /// Take back what was granted while the guest ran; what the emulator has open stays open
    Revoke {
        /// As it was granted
        path: PathBuf,
    },
    /// Hand a network interface over, on a monitor where netdev_add then finds it; prints what to say there
    Tap(Tap),
    /// Allow something that is refused by default
    Allow {
        /// What
        #[command(subcommand)]
        what: What,
    },
}

/// A network interface for a guest that runs.
#[derive(Debug, Args)]
pub struct Tap {
    /// The socket of a QMP monitor of the guest that nobody else is connected to
    #[arg(long, value_name = "SOCKET")]
    qmp: PathBuf,
    /// A tap or macvtap that is there, or the name of a new tap [default: a new tap]
    #[arg(long, value_name = "NAME", conflicts_with = "bridge")]
    ifname: Option<String>,
    /// A new tap on this bridge
    #[arg(long, value_name = "BRIDGE")]
    bridge: Option<String>,
    /// Who may use which bridge [default: /etc/qemu/bridge.conf]
    #[arg(long, value_name = "FILE", requires = "bridge")]
    bridge_acl: Option<PathBuf>,
    /// Queues
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=MAX_QUEUES))]
    queues: u16,
    /// Whether the kernel moves the frames (vhost-net): on, off, or try
    #[arg(long, value_name = "WHEN", default_value = "off", value_parser = parse_vhost)]
    vhost: Vhost,
    /// The network's id in QEMU [default: the interface's name]
    #[arg(long)]
    id: Option<String>,
    /// Say netdev_add too
    #[arg(long)]
    add: bool,
}

/// `MAX_TAP_QUEUES` of drivers/net/tun.c.
const MAX_QUEUES: i64 = 256;

impl From<Tap> for tap::Wish {
    fn from(tap: Tap) -> Self {
        let Tap { qmp: monitor, ifname: interface, bridge, bridge_acl, queues, vhost, id, add } = tap;
        Self { monitor, interface, bridge, bridge_acl, queues, vhost, id, add }
    }
}

fn parse_vhost(text: &str) -> Result<Vhost, &'static str> {
    match text {
        "on" => Ok(Vhost::On),
        "off" => Ok(Vhost::Off),
        "try" => Ok(Vhost::Try),
        _ => Err("say on, off or try"),
    }
}

/// What can be allowed.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Let QEMU write a backing file, to commit into it
    Commit {
        /// The backing file
        path: PathBuf,
        /// For one commit
        #[arg(long)]
        once: bool,
    },
}

impl From<Order> for Wish {
    fn from(order: Order) -> Self {
        match order {
            Order::Status { json } => Self::Status { json },
            Order::Grant { path, write, once, format, image_root: image_roots, chain_dir } => {
                Self::Grant { wanted: Wanted { path, write, format, image_roots, chain_dir }, once }
            }
            Order::Revoke { path } => Self::Revoke(path),
            Order::Tap(tap) => Self::Tap(tap.into()),
            Order::Allow { what: What::Commit { path, once } } => Self::AllowCommit { path, once },
        }
    }
}

/// What can be done with records of image chains.
#[derive(Debug, Subcommand)]
pub enum ChainOrder {
    /// Print what is recorded
    Show {
        /// The image whose chain to print, instead of all
        image: Option<PathBuf>,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Record what the headers of an image, and of all below it, say now
    Accept {
        /// The image
        image: PathBuf,
        /// What the image is opened as [default: qcow2]
        #[arg(long)]
        format: Option<String>,
        /// What headers name may lie beneath DIR, beside the image's own folder
        #[arg(long, value_name = "DIR")]
        image_root: Vec<PathBuf>,
    },
    /// Forget an image, so that it is taken as it is at its next start
    Forget {
        /// The image
        #[arg(required_unless_present = "missing", conflicts_with = "missing")]
        image: Option<PathBuf>,
        /// Forget all images that are not there any more
        #[arg(long)]
        missing: bool,
    },
}

impl From<ChainOrder> for record::command::Wish {
    fn from(order: ChainOrder) -> Self {
        match order {
            ChainOrder::Show { image, json } => Self::Show { image, json },
            ChainOrder::Accept { image, format, image_root } => Self::Accept { image, format, image_roots: image_root },
            ChainOrder::Forget { image, .. } => image.map_or(Self::ForgetMissing, Self::Forget),
        }
    }
}

/// Seconds that an open may take. An NFSv4 server that restarts grants nothing for 90 seconds (its grace period,
/// nfsd(7)), and a guest should outlive that.
const OPEN_TIMEOUT: u32 = 120;

/// What `--allow` names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowance {
    AnyCommit,
    Commit(PathBuf),
    Create(PathBuf),
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
    /// create=DIR, make new files beneath DIR
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
    /// How long the emulator waits for a file until it is told that it failed
    #[arg(long, value_name = "SECONDS", default_value_t = OPEN_TIMEOUT, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    open_timeout: u32,
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
    emulator: Vec<OsString>,
}

impl From<Run> for Request {
    fn from(run: Run) -> Self {
        Self {
            options: options(&run),
            words: run.emulator,
            audit: run.audit,
            name: run.name,
            verbose: run.verbose,
            open_timeout: Duration::from_secs(run.open_timeout.into()),
            own_socket: run.protocol_socket,
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
        ..Options::default()
    };
    for allowance in &run.allow {
        match allowance {
            Allowance::AnyCommit => options.commits.all = true,
            Allowance::Commit(path) => options.commits.named.push(path.clone()),
            Allowance::Create(folder) => options.creation_folders.push(folder.clone()),
        }
    }
    options
}

fn parse_allowance(text: &str) -> Result<Allowance, String> {
    match text.split_once('=') {
        None if text == "commit" => Ok(Allowance::AnyCommit),
        Some(("commit", path)) if !path.is_empty() => Ok(Allowance::Commit(path.into())),
        Some(("create", folder)) if !folder.is_empty() => Ok(Allowance::Create(folder.into())),
        _ => Err("say commit, commit=PATH or create=DIR".into()),
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
