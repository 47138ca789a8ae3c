//! The sandbox of one start, described for the code that makes it.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use landlock::AccessFs;
use protocol::SOCKET_VARIABLE as OWN_SOCKET;
use sandbox_profiles::{LandlockRight, Place, Profile};

use super::{Error, Start, name_service};
use crate::agent::keeper;
use crate::agent::names::Names;
use crate::confine::landlock::{EmulatorDomain, Rights, Rule};
use crate::confine::mounts::{Exposed, Layout, PrivateDirectory, SharedDirectory};
use crate::confine::shared_mounts::SharedMounts;
use crate::confine::{Command, Sandbox, seccomp};
use crate::emulator::Program;
use crate::paths::absolute_path;
use crate::plan::sockets;
use crate::serve::folders::Purpose;

/// Where the loader looks last for a library (ld.so(8)), which an optional one may lack. Of these folders the sandbox has
/// what it shows.
const LIBRARIES: [&str; 2] = ["/lib", "/usr/lib"];

impl Start {
    /// The sandbox of this start; `broker` and `life` are the agent's, `own` is the emulator's own connection.
    ///
    /// # Errors
    /// [`Error::Nul`], [`Error::Filter`].
    pub fn sandbox(&self, broker: OwnedFd, life: Option<OwnedFd>, own: Option<OwnedFd>) -> Result<Sandbox, Error> {
        let plan = &self.plan;
        let descriptors: Vec<i32> = (0..3).chain(plan.command.descriptors.iter().copied()).collect();
        let variant =
            plan.host.filter_variant(&descriptors, plan.grants_terminals(), &plan.command, std::process::id());
        Ok(Sandbox {
            layout: self.layout(),
            identity: plan.identity.clone(),
            domain: self.domain(),
            filter: seccomp::compile(profile(plan.command.program), &variant).map_err(Error::Filter)?,
            agent: keeper::Config {
                names: self.names(),
                broker,
                life,
                shared: SharedMounts::default(),
                abi: plan.host.abi,
                io_uring: plan.command.io_uring,
                needs_capability: plan.host.ptrace_scope > 0,
            },
            emulator: self.command(own)?,
        })
    }

    fn layout(&self) -> Layout {
        let plan = &self.plan;
        let firmware = plan.firmware_folders.iter().map(|folder| folder.path.clone());
        let mut links = plan.installation.links.clone();
        // QEMU finds its firmware and modules from where its program lies. There is no /proc, but this name.
        links.push((PathBuf::from("/proc/self/exe"), plan.installation.binary.clone()));
        links.extend(plan.shown.links.iter().cloned());
        Layout {
            trees: plan.installation.trees.iter().chain(&plan.shown.trees).cloned().chain(firmware).collect(),
            links,
            devices: sandbox_profiles::devices().map(|device| PathBuf::from(device.path)).collect(),
            folders: plan.shown.folders.clone(),
            private: self
                .private
                .iter()
                .map(|(at, folder)| PrivateDirectory {
                    at: at.clone(),
                    on_disk: folder.as_ref().map(|folder| Arc::clone(&folder.pin)),
                })
                .collect(),
            shared: plan
                .shared
                .iter()
                .map(|shared| SharedDirectory {
                    at: shared.at.clone(),
                    pin: Arc::clone(&shared.pin),
                    read_only: shared.read_only,
                })
                .collect(),
            own_descriptors: plan.shows_descriptors(),
            grants: plan
                .grants
                .iter()
                .filter(|grant| grant.pin.is_shown())
                .map(|grant| Exposed {
                    at: absolute_path(&plan.working_directory, OsStr::from_bytes(&grant.name)),
                    pin: Arc::clone(&grant.pin),
                })
                .collect(),
            awaited: self.awaited().collect(),
            media: plan
                .folders
                .iter()
                .filter(|folder| folder.purpose == Purpose::Media)
                .map(|folder| Arc::clone(&folder.pin))
                .collect(),
            texts: self.texts(),
            working_directory: plan.working_directory.clone(),
        }
    }

    /// Small files, those of the names of hosts before one that the environment names.
    fn texts(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut texts = name_service::files(&self.plan.sockets, self.plan.command.internet);
        let others = self.plan.shown.texts.iter().filter(|(path, _)| !texts.iter().any(|(known, _)| known == path));
        let others: Vec<_> = others.cloned().collect();
        texts.extend(others);
        texts
    }

    /// Files that the program is to make.
    fn awaited(&self) -> impl Iterator<Item = PathBuf> {
        let folders = self.plan.folders.iter();
        folders.filter_map(|folder| folder.only.as_ref().map(|only| folder.at.join(&only.name)))
    }

    fn domain(&self) -> EmulatorDomain {
        let layout = self.layout();
        let programs = std::iter::once(&self.plan.installation.binary).chain(&self.plan.installation.loader);
        let private = layout.private.iter().map(|directory| &directory.at);
        let shared = |read_only| {
            let folders = layout.shared.iter().filter(move |folder| folder.read_only == read_only);
            folders.map(|folder| &folder.at)
        };
        let rules = rules(Place::ReadOnly, layout.trees.iter())
            .chain(rules(Place::Listed, layout.folders.iter()))
            .chain(rules(Place::Program, programs))
            .chain(rules(Place::Device, layout.devices.iter()))
            .chain(rules(Place::Private, private))
            .chain(rules(Place::Shared, shared(false)))
            .chain(rules(Place::SharedReadOnly, shared(true)))
            .chain(rules(Place::ReadOnly, layout.texts.iter().map(|(path, _)| path)))
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
        brokered.extend(self.awaited().map(|path| path.into_os_string().into_vec()));
        brokered.extend(plan.absent.iter().map(|(name, _)| name.clone()));
        brokered.extend(sockets::spelled(&plan.sockets).map(|name| name.as_bytes().to_vec()));
        let layout = self.layout();
        let links = layout.links.iter().map(|(at, _)| at);
        let searched = &plan.installation.searched;
        let texts = layout.texts.iter().map(|(path, _)| path);
        let paths =
            layout.trees.iter().chain(links).chain(&layout.folders).chain(&layout.devices).chain(searched).chain(texts);
        let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        let mut native: Vec<Vec<u8>> = paths.map(bytes).collect();
        native.extend(plan.firmware_folders.iter().map(|folder| folder.name.clone()));
        native.extend(plan.shared.iter().flat_map(|shared| [shared.name.clone(), bytes(&shared.at)]));
        let private = layout.private.iter().map(|directory| &directory.at).chain(&plan.shown.sought).map(bytes);
        let spelled = plan.private.iter().filter_map(|folder| folder.name.clone());
        let private = private.chain(spelled).chain(LIBRARIES.map(Vec::from)).collect();
        // A service that the operator grants by its address is within reach.
        let is_granted = |address: &Vec<u8>| plan.sockets.iter().any(|grant| grant.place.is_unix(address));
        let unreached = plan.shown.unreached.iter().filter(|address| !is_granted(address)).cloned().collect();
        Names::new(brokered, native, private).with_unreached(unreached)
    }

    fn command(&self, own: Option<OwnedFd>) -> Result<Command, Error> {
        let nul = |_| Error::Nul;
        let arguments = self.plan.command.executed().map(|word| CString::new(word.as_bytes()));
        let has_own = own.is_some();
        let environment = std::env::vars_os()
            .filter(|(name, _)| !has_own || name != OWN_SOCKET)
            .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
        let added = self.plan.added_variable(&|name| std::env::var_os(name)).map(CString::new);
        let own_variable = own.as_ref().map(|socket| CString::new(format!("{OWN_SOCKET}={}", socket.as_raw_fd())));
        let environment = environment.chain(own_variable).chain(added);
        Ok(Command {
            own_socket: own,
            networks: Vec::new(),
            path: CString::new(self.plan.installation.binary.as_os_str().as_bytes()).map_err(nul)?,
            arguments: arguments.collect::<Result<_, _>>().map_err(nul)?,
            environment: environment.collect::<Result<_, _>>().map_err(nul)?,
            locks_memory: self.plan.command.locks_memory || self.plan.pins_memory,
            ignores_children: false,
        })
    }
}

/// The list of system calls of a program.
fn profile(program: Program) -> Profile {
    match program {
        Program::System => Profile::QemuSystem,
        Program::Img | Program::Io => Profile::QemuImg,
        Program::Nbd | Program::StorageDaemon => Profile::QemuStorage,
    }
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
