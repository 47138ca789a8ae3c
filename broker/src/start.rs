//! From a plan to a start: what has to be made on the host is made, and the sandbox is described.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use landlock::AccessFs;
use sandbox_profiles::{LandlockRight, Place, Profile};

use crate::agent::keeper;
use crate::agent::names::Names;
use crate::confine::landlock::{EmulatorDomain, Rights, Rule};
use crate::confine::mounts::{Exposed, Layout, PrivateDirectory};
use crate::confine::{Command, Sandbox, seccomp, settle};
use crate::open::output::{self, Home};
use crate::open::private::PrivateFolder;
use crate::paths::absolute_path;
use crate::plan::{Output, Plan};
use crate::serve::grants::{Access, Grant};

/// A start that is ready to be carried out.
#[derive(Debug)]
pub struct Start {
    plan: Plan,
    private: Vec<(PathBuf, Option<PrivateFolder>)>,
}

/// What is left to the broker of a start.
#[derive(Debug)]
pub struct Belongings {
    private: Vec<PrivateFolder>,
}

impl Start {
    /// Makes the files and folders that the plan has for this guest. If one cannot be made, the others are removed again.
    ///
    /// # Errors
    /// [`Error::Make`].
    pub fn prepare(mut plan: Plan) -> Result<Self, Error> {
        let outputs = std::mem::take(&mut plan.outputs);
        let mut start = Self { plan, private: Vec::new() };
        match start.make_all(&outputs) {
            Ok(()) => Ok(start),
            Err(error) => {
                start.abandon();
                Err(error)
            }
        }
    }

    fn make_all(&mut self, outputs: &[Output]) -> Result<(), Error> {
        for output in outputs {
            let grant = make_output(output)?;
            self.plan.grants.push(grant);
        }
        let identity = self.plan.identity;
        for private in &self.plan.private {
            let on_disk = private.on_disk_in.as_ref();
            let folder = on_disk.map(|parent| {
                let made = PrivateFolder::make(parent, identity.uid, identity.gid);
                made.map_err(|source| Error::Make { what: parent.clone(), source })
            });
            self.private.push((private.at.clone(), folder.transpose()?));
        }
        Ok(())
    }

    /// Removes what was made.
    pub fn abandon(&self) {
        remove_unopened(self.plan.grants.iter());
        remove_folders(self.private.iter().filter_map(|(_, folder)| folder.as_ref()));
    }

    /// The plan, with all grants.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Every descriptor that the broker needs.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.broker_rights().into_iter().map(|(descriptor, _)| descriptor)
    }

    /// The rights of the broker itself: one rule a grant, and what takes cleaning up.
    #[must_use]
    pub fn broker_rights(&self) -> Vec<(BorrowedFd<'_>, Rights)> {
        let mut rights = Vec::new();
        for grant in &self.plan.grants {
            let writes = grant.access == Access::ReadWrite;
            let wanted = if writes { settle::writing() } else { settle::reading() };
            rights.push((grant.pin.as_fd(), wanted));
            rights.extend(grant.home.as_ref().map(|home| (home.folder.as_fd(), settle::removing_files())));
        }
        for folder in self.private.iter().filter_map(|(_, folder)| folder.as_ref()) {
            rights.push((folder.parent.as_fd(), settle::removing_folders()));
            rights.push((folder.pin.as_fd(), settle::emptying()));
        }
        rights
    }

    /// The sandbox of this start; `keeper` and `life` are the agent's.
    ///
    /// # Errors
    /// [`Error::Nul`], [`Error::Filter`].
    pub fn sandbox(&self, broker: OwnedFd, life: Option<OwnedFd>) -> Result<Sandbox, Error> {
        let plan = &self.plan;
        let descriptors: Vec<i32> = (0..3).chain(plan.command.descriptors.iter().copied()).collect();
        let variant = plan.host.filter_variant(&descriptors, plan.command.io_uring, std::process::id());
        Ok(Sandbox {
            layout: self.layout(),
            identity: plan.identity,
            domain: self.domain(),
            filter: seccomp::compile(Profile::QemuSystem, &variant).map_err(Error::Filter)?,
            agent: keeper::Config {
                names: self.names(),
                broker,
                life,
                abi: plan.host.abi,
                needs_capability: plan.host.ptrace_scope > 0,
            },
            emulator: self.command()?,
        })
    }

    /// The grants, for the broker, and what it has to remove at the end.
    #[must_use]
    pub fn into_grants(self) -> (Vec<Grant>, Belongings) {
        let private = self.private.into_iter().filter_map(|(_, folder)| folder).collect();
        (self.plan.grants, Belongings { private })
    }

    fn layout(&self) -> Layout {
        let plan = &self.plan;
        let firmware = plan.firmware_folders.iter().map(|folder| folder.path.clone());
        let mut links = plan.installation.links.clone();
        // QEMU finds its firmware and modules from where its program lies. There is no /proc, but this name.
        links.push((PathBuf::from("/proc/self/exe"), plan.installation.binary.clone()));
        Layout {
            trees: plan.installation.trees.iter().cloned().chain(firmware).collect(),
            links,
            devices: sandbox_profiles::devices().map(|device| PathBuf::from(device.path)).collect(),
            private: self
                .private
                .iter()
                .map(|(at, folder)| PrivateDirectory {
                    at: at.clone(),
                    on_disk: folder.as_ref().map(|folder| Arc::clone(&folder.pin)),
                })
                .collect(),
            grants: plan
                .grants
                .iter()
                .map(|grant| Exposed {
                    at: absolute_path(&plan.working_directory, OsStr::from_bytes(&grant.name)),
                    pin: Arc::clone(&grant.pin),
                })
                .collect(),
            working_directory: plan.working_directory.clone(),
        }
    }

    fn domain(&self) -> EmulatorDomain {
        let layout = self.layout();
        let programs = std::iter::once(&self.plan.installation.binary).chain(&self.plan.installation.loader);
        let private = layout.private.iter().map(|directory| &directory.at);
        let rules = rules(Place::ReadOnly, layout.trees.iter())
            .chain(rules(Place::Program, programs))
            .chain(rules(Place::Device, layout.devices.iter()))
            .chain(rules(Place::Private, private))
            .collect();
        EmulatorDomain { abi: self.plan.host.abi, rules }
    }

    fn names(&self) -> Names {
        let plan = &self.plan;
        let mut brokered: HashSet<Vec<u8>> = HashSet::new();
        for grant in &plan.grants {
            brokered.insert(grant.name.clone());
            brokered.insert(crate::paths::absolute(&plan.working_directory, &grant.name));
        }
        brokered.extend(plan.absent.iter().map(|(name, _)| name.clone()));
        let layout = self.layout();
        let links = layout.links.iter().map(|(at, _)| at);
        let private = layout.private.iter().map(|directory| &directory.at);
        let paths = layout.trees.iter().chain(links).chain(&layout.devices).chain(private);
        let mut native: Vec<Vec<u8>> = paths.map(|path| path.as_os_str().as_bytes().to_vec()).collect();
        native.extend(plan.firmware_folders.iter().map(|folder| folder.name.clone()));
        Names::new(brokered, native)
    }

    fn command(&self) -> Result<Command, Error> {
        let nul = |_| Error::Nul;
        let arguments = self.plan.command.argv.iter().map(|word| CString::new(word.as_bytes()));
        let environment =
            std::env::vars_os().map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
        Ok(Command {
            path: CString::new(self.plan.installation.binary.as_os_str().as_bytes()).map_err(nul)?,
            arguments: arguments.collect::<Result<_, _>>().map_err(nul)?,
            environment: environment.collect::<Result<_, _>>().map_err(nul)?,
        })
    }
}

impl Belongings {
    /// Removes what was made for a guest that has ended: its private folders, and the files that it never opened.
    pub fn remove<'a>(&self, grants: impl Iterator<Item = &'a Grant>) {
        remove_unopened(grants);
        remove_folders(self.private.iter());
    }
}

fn remove_unopened<'a>(grants: impl Iterator<Item = &'a Grant>) {
    for grant in grants {
        if let Some(home) = &grant.home
            && home.created
            && !grant.opened.load(Ordering::Relaxed)
        {
            // Somebody else has removed or replaced it: then there is nothing to do.
            let _ = output::remove(home, &grant.pin);
        }
    }
}

fn remove_folders<'a>(folders: impl Iterator<Item = &'a PrivateFolder>) {
    for folder in folders {
        // Nobody is left to be told; what remains is an empty folder with a name that says whose it was.
        let _ = folder.remove();
    }
}

fn make_output(planned: &Output) -> Result<Grant, Error> {
    let made: io::Result<(_, Home)> = output::make(Path::new(&planned.name), planned.mode);
    let (pin, home) = made.map_err(|source| Error::Make { what: PathBuf::from(&planned.name), source })?;
    Ok(Grant {
        role: planned.role,
        option: planned.option.clone(),
        access: Access::ReadWrite,
        pin: Arc::new(pin),
        view: None,
        name: planned.name.as_bytes().to_vec(),
        home: Some(home),
        opened: AtomicBool::new(false),
    })
}

fn rules<'a>(place: Place, paths: impl Iterator<Item = &'a PathBuf>) -> impl Iterator<Item = Rule> {
    let rights: Rights =
        sandbox_profiles::grants(place).flat_map(|grant| grant.rights).filter_map(|right| access(*right)).collect();
    paths.map(move |path| Rule { path: path.clone(), rights })
}

/// The landlock crate's name for a file system right of a profile.
fn access(right: LandlockRight) -> Option<AccessFs> {
    Some(match right {
        LandlockRight::Execute => AccessFs::Execute,
        LandlockRight::WriteFile => AccessFs::WriteFile,
        LandlockRight::ReadFile => AccessFs::ReadFile,
        LandlockRight::ReadDir => AccessFs::ReadDir,
        LandlockRight::RemoveDir => AccessFs::RemoveDir,
        LandlockRight::RemoveFile => AccessFs::RemoveFile,
        LandlockRight::MakeChar => AccessFs::MakeChar,
        LandlockRight::MakeDir => AccessFs::MakeDir,
        LandlockRight::MakeReg => AccessFs::MakeReg,
        LandlockRight::MakeSock => AccessFs::MakeSock,
        LandlockRight::MakeFifo => AccessFs::MakeFifo,
        LandlockRight::MakeBlock => AccessFs::MakeBlock,
        LandlockRight::MakeSym => AccessFs::MakeSym,
        LandlockRight::Refer => AccessFs::Refer,
        LandlockRight::Truncate => AccessFs::Truncate,
        LandlockRight::IoctlDev => AccessFs::IoctlDev,
        LandlockRight::BindTcp
        | LandlockRight::ConnectTcp
        | LandlockRight::ScopeAbstractUnixSocket
        | LandlockRight::ScopeSignal => return None,
    })
}

/// Why a start could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be made.
    #[error("cannot make {}: {source}", what.display())]
    Make {
        /// The file, or the folder in which one was to be made.
        what: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The filter does not compile.
    #[error(transparent)]
    Filter(seccomp::Error),
    /// A word that no program could be given.
    #[error("an argument or a variable of the environment holds a NUL byte")]
    Nul,
}
