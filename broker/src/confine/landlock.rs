//! Landlock domains with hard requirements: every right that the kernel knows is handled, each rule is spelled bit by
//! bit, and what cannot be enforced is an error.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags};

/// Rights as a set.
pub type Rights = BitFlags<AccessFs>;

/// One path of the sandbox and what the emulator may do beneath it.
#[derive(Debug)]
pub struct Rule {
    /// A path of the sandbox.
    pub path: PathBuf,
    /// Rights; on a file, those that have no meaning there are left out.
    pub rights: Rights,
}

/// The domain of emulator and agent.
#[derive(Debug)]
pub struct EmulatorDomain {
    /// Landlock ABI of the kernel.
    pub abi: ABI,
    /// Its rules.
    pub rules: Vec<Rule>,
}

impl EmulatorDomain {
    /// Makes the ruleset; the paths are looked up now.
    ///
    /// # Errors
    /// [`Error::Path`]: a path of the sandbox is missing. [`Error::Rules`]: the kernel refused a rule.
    pub fn build(&self) -> Result<Domain, Error> {
        let mut ruleset = handle_everything(self.abi)?;
        for rule in &self.rules {
            let target = rustix::fs::openat(CWD, &rule.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(|source| Error::Path { path: rule.path.clone(), source: source.into() })?;
            ruleset = add_rule(ruleset, self.abi, target.as_fd(), rule.rights)?;
        }
        Ok(Domain { ruleset })
    }
}

/// A finished ruleset, which can be enforced several times: each time is a layer of its own.
#[derive(Debug)]
pub struct Domain {
    ruleset: RulesetCreated,
}

impl Domain {
    /// Enforces the ruleset on this process, for good.
    ///
    /// # Errors
    /// [`Error::Rules`]: no_new_privs is missing, or there are 16 layers already. [`Error::NotEnforced`].
    pub fn enforce(&self) -> Result<(), Error> {
        let layer = self.ruleset.try_clone().map_err(Error::Clone)?;
        enforce(layer)
    }
}

/// What a process may do with sockets that it makes, as far as Landlock has rights for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkRights {
    /// Whether it makes any; without, its filter has no call to do so.
    pub sockets: bool,
    /// TCP ports that it may bind; none: any.
    pub bind: Option<BTreeSet<u16>>,
    /// TCP ports that it may connect to.
    pub connect: BTreeSet<u16>,
    /// Whether it may connect to abstract UNIX sockets that processes outside its domain have bound.
    pub abstract_sockets: bool,
}

/// Enforces a domain on this process in which `grants` are the only files: each descriptor with its rights.
///
/// # Errors
/// [`Error::Rules`], [`Error::NotEnforced`].
pub fn enforce_grants(abi: ABI, grants: &[(BorrowedFd<'_>, Rights)], network: &NetworkRights) -> Result<(), Error> {
    let (mut ports, mut scopes) = (AccessNet::from_all(abi), Scope::from_all(abi));
    if network.sockets && network.bind.is_none() {
        ports.remove(AccessNet::BindTcp);
    }
    if network.abstract_sockets {
        scopes.remove(Scope::AbstractUnixSocket);
    }
    let mut ruleset = handle(abi, ports, scopes)?;
    for (target, rights) in grants {
        ruleset = add_rule(ruleset, abi, *target, *rights)?;
    }
    if abi >= ABI::V4 {
        for port in network.bind.iter().flatten() {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
        for port in &network.connect {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    enforce(ruleset)
}

/// The Landlock ABI of the running kernel, as far as it is known here.
///
/// # Errors
/// [`Error::Missing`]: none.
pub fn abi() -> Result<ABI, Error> {
    crate::sys::landlock::abi_version().map(ABI::from).map_err(Error::Missing)
}

fn handle_everything(abi: ABI) -> Result<RulesetCreated, Error> {
    handle(abi, AccessNet::from_all(abi), Scope::from_all(abi))
}

/// Handles all rights to files, and these to the network and to other processes.
fn handle(abi: ABI, ports: BitFlags<AccessNet>, scopes: BitFlags<Scope>) -> Result<RulesetCreated, Error> {
    let mut ruleset =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::from_all(abi))?;
    if abi >= ABI::V4 {
        ruleset = ruleset.handle_access(ports)?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(scopes)?;
    }
    Ok(ruleset.create()?.no_new_privs(false))
}

fn add_rule(
    ruleset: RulesetCreated,
    abi: ABI,
    target: BorrowedFd<'_>,
    rights: Rights,
) -> Result<RulesetCreated, Error> {
    let status = rustix::fs::fstat(target).map_err(|source| Error::Clone(source.into()))?;
    let meaningful = if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        AccessFs::from_all(abi)
    } else {
        AccessFs::from_file(abi)
    };
    let rights = rights & meaningful;
    if rights.is_empty() {
        return Ok(ruleset);
    }
    Ok(ruleset.add_rule(PathBeneath::new(target, rights))?)
}

fn enforce(ruleset: RulesetCreated) -> Result<(), Error> {
    let status = ruleset.restrict_self()?;
    if status.ruleset == RulesetStatus::FullyEnforced { Ok(()) } else { Err(Error::NotEnforced) }
}

/// Why there is no Landlock domain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has none.
    #[error("this kernel offers no Landlock ({0}); boot with `lsm=landlock,...`, or use Linux 5.19 or newer")]
    Missing(std::io::Error),
    /// A path of the sandbox is not there.
    #[error("cannot find {} in the sandbox for its Landlock rule: {source}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What `open(2)` said.
        source: std::io::Error,
    },
    /// The kernel refused a rule or the domain.
    #[error("cannot set up Landlock: {0}")]
    Rules(#[from] RulesetError),
    /// A descriptor could not be used.
    #[error("cannot set up Landlock: {0}")]
    Clone(std::io::Error),
    /// Less was enforced than asked for.
    #[error("the kernel enforced only a part of the Landlock rules; use a newer one, or report this")]
    NotEnforced,
}
