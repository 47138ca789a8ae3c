//! Broker's own command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::plan::Options;
use crate::run::Request;

/// Runs QEMU in a sandbox in which none of its files exist.
#[derive(Debug, Parser)]
#[command(
    name = "broker",
    version,
    args_conflicts_with_subcommands = true,
    override_usage = "broker [OPTIONS] -- EMULATOR ARGS...\n       broker plan [OPTIONS] [--json] -- EMULATOR ARGS...\n       broker check"
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
    /// Print what this host offers and what is missing
    Check,
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

/// What running takes.
#[derive(Debug, Args)]
pub struct Run {
    /// Backing files that an image's header names may lie beneath DIR, beside the folders of the images named
    #[arg(long, value_name = "DIR")]
    image_root: Vec<PathBuf>,
    /// Run the emulator as this user and group (root only)
    #[arg(long, value_name = "UID:GID", value_parser = parse_user)]
    user: Option<(u32, u32)>,
    /// The guest's name in messages and in the audit file [default: QEMU's -name, else the pid]
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
            words: run.emulator,
            options: Options { image_roots: run.image_root, user: run.user },
            audit: run.audit,
            name: run.name,
            verbose: run.verbose,
        }
    }
}

fn parse_user(text: &str) -> Result<(u32, u32), String> {
    let parse = |part: &str| part.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    text.split_once(':')
        .and_then(|(uid, gid)| Some((parse(uid)?, parse(gid)?)))
        .ok_or_else(|| "give numbers, as in --user 64055:64055 (`id -u NAME` and `id -g NAME` print them)".into())
}
