//! Networks are opened here: the last that is done with the operator's rights before the broker is forked off.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::{Start, scripts};
use crate::open::net::{self, Interface, Wanted, vhost, way};
use crate::plan::networks::PlannedNetwork;

impl Start {
    /// Opens the networks of the plan, runs their scripts, and puts the numbers of the descriptors into the emulator's
    /// arguments. The descriptors are for the emulator alone; all are closed when one network fails, and what was made goes
    /// with them.
    ///
    /// # Errors
    /// [`super::Error::Network`].
    pub fn open_networks(&mut self) -> Result<Vec<OwnedFd>, super::Error> {
        let daemonizes = self.plan.command.daemonize;
        let mut inherited = Vec::new();
        for planned in std::mem::take(&mut self.plan.networks) {
            let opened = open(&planned, daemonizes)
                .map_err(|source| Error { option: planned.network.option.clone(), source: source.into() })?;
            if let Some(word) = self.plan.command.argv.get_mut(planned.network.word) {
                *word = planned.network.rewritten(&numbers(&opened.queues), &numbers(&opened.vhosts));
            }
            inherited.extend(opened.queues.into_iter().chain(opened.vhosts).chain(opened.life));
        }
        Ok(inherited)
    }
}

/// What one network gives the emulator.
struct Opened {
    queues: Vec<OwnedFd>,
    vhosts: Vec<OwnedFd>,
    /// Closed with the emulator's end, for which a script waits.
    life: Option<OwnedFd>,
}

fn open(planned: &PlannedNetwork, daemonizes: bool) -> Result<Opened, Cause> {
    let network = &planned.network;
    // First what makes nothing.
    let vhosts = if planned.vhost { vhost::open(network.queues)? } else { Vec::new() };
    let wanted = Wanted { queues: network.queues, vnet_hdr: network.vnet_hdr };
    let Some(way) = &planned.way else { return Ok(Opened { queues: Vec::new(), vhosts, life: None }) };
    let Interface { name, queues } = way.open(wanted)?;
    if let Some(script) = &planned.up {
        scripts::run_up(script, &name)?;
    }
    let life = match (&planned.down, queues.first()) {
        (Some(script), Some(queue)) => Some(scripts::await_down(script, &name, queue, daemonizes)?),
        _ => None,
    };
    Ok(Opened { queues, vhosts, life })
}

fn numbers(descriptors: &[OwnedFd]) -> Vec<RawFd> {
    descriptors.iter().map(AsRawFd::as_raw_fd).collect()
}

/// A network that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {source}")]
pub struct Error {
    /// The option that names it.
    option: String,
    /// Why not.
    source: Box<Cause>,
}

/// Why a network could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The interface.
    #[error(transparent)]
    Way(#[from] way::Error),
    /// vhost-net.
    #[error(transparent)]
    Vhost(#[from] net::Error),
    /// A script.
    #[error(transparent)]
    Script(#[from] scripts::Error),
}
