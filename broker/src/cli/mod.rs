//! Broker's own command line.

mod start;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use start::Run;

use crate::control::client::Wish;
use crate::control::granted::Wanted;
use crate::control::tap;
use crate::emulator::Vhost;
use crate::record;

/// Runs QEMU in a sandbox in which none of its files exist.
#[derive(Debug, Parser)]
#[command(
    name = "broker",
    version,
    args_conflicts_with_subcommands = true,
    override_usage = "broker [OPTIONS] -- EMULATOR ARGS...\n       broker plan [OPTIONS] [--json] -- EMULATOR ARGS...\n       broker plan --coverage [--json] [-- EMULATOR]\n       broker ctl NAME status|grant|revoke|allow|tap ...\n       broker chain show|accept|forget ...\n       broker bridge-helper [--use-vnet] --br=BRIDGE --fd=SOCKET\n       broker check"
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
        /// Print instead which of the emulator's options, backends and drivers are served [default: qemu-system-x86_64's]
        #[arg(long)]
        coverage: bool,
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

/// The options of a start that stand in a configuration file. Of an option that takes one value the last counts.
///
/// # Errors
/// What is wrong with them, on one line.
pub fn parse_options(words: &[String]) -> Result<Run, String> {
    const OTHER: &str = "only options of a start may stand here, no command and no emulator";
    let command = Cli::command().no_binary_name(true).args_override_self(true);
    let parsed = command.try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(Cli { command: None, run }) if run.emulator.is_empty() => Ok(run),
        Ok(_) => Err(OTHER.to_owned()),
        Err(error) if error.use_stderr() => Err(one_line(&error)),
        Err(_) => Err(OTHER.to_owned()),
    }
}

/// A mistake on broker's command line.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    // What is missing stands on lines of its own, before a blank one.
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}
