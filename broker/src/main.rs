//! The `broker` program; all it does itself is to map errors to an exit status.

use std::process::ExitCode;

use broker::cli::{self, Cli, Command};
use broker::control::client;
use broker::readable::readable;
use broker::record::command;
use broker::run::{self, Error, Request};
use broker::{another_name, bridge_helper, check, coverage, plan};
use clap::Parser;

fn main() -> ExitCode {
    if let Some(status) = bridge_helper::come_first() {
        return status;
    }
    let argv: Vec<_> = std::env::args_os().collect();
    if let Some(name) = argv.first().and_then(|word| another_name::of(word)) {
        return match another_name::request(name, argv.clone()) {
            Ok(request) => start(&request),
            Err(error) => fail(&error.into()),
        };
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command {
        // It came first, and stands among the commands to be found there.
        Some(Command::BridgeHelper { .. }) => bridge_helper::run(2),
        Some(Command::Check) => check::run(),
        Some(Command::Ctl { name, order }) => match client::run(&name, &order.into()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail_at(&error),
        },
        Some(Command::Chain { chain_dir, order }) => match command::run(chain_dir.as_deref(), &order.into()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail_at(&error),
        },
        Some(Command::Plan { json, coverage: true, run }) => match coverage::run(&Request::from(run).words, json) {
            Ok(status) => status,
            Err(error) => fail_at(&error),
        },
        Some(Command::Plan { json, run, .. }) => match run::make_plan(&run.into(), false) {
            Ok(plan) => plan::show::print(&plan, json),
            Err(error) => fail(&error),
        },
        None => start(&cli.run.into()),
    }
}

fn start(request: &Request) -> ExitCode {
    match run::run(request) {
        Ok(never) => match never {},
        Err(error) => fail(&error),
    }
}

/// Help goes to standard output and is a success; a mistake on broker's own command line is broker's failure.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        eprintln!("broker: {}; see `broker --help`", cli::one_line(error));
        return ExitCode::from(125);
    }
    // A closed standard output is no reason to fail.
    let _ = error.print();
    ExitCode::SUCCESS
}

/// The failure of what is not a start.
fn fail_at(error: &dyn std::error::Error) -> ExitCode {
    tell(error);
    ExitCode::from(125)
}

fn fail(error: &Error) -> ExitCode {
    if !error.is_told() {
        tell(error);
    }
    ExitCode::from(error.exit_status())
}

/// One line, whatever names are in it.
fn tell(error: &dyn std::error::Error) {
    eprintln!("broker: {}", readable(error.to_string().as_bytes()));
}
