//! From a plan to a start: what has to be made on the host is made, and the sandbox is described.

mod describe;
mod incoming;
mod name_service;
mod networks;
mod scripts;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::Errno;
use rustix::fs::Mode;

use crate::confine::landlock::Rights;
use crate::confine::{seccomp, settle};
use crate::control::place::{self, ControlPlace};
use crate::open::access::needs_override;
use crate::open::output::{self, Home};
use crate::open::private::PrivateFolder;
use crate::open::terminal::Multiplexer;
use crate::plan::{Output, Plan, Recording};
use crate::record::journal::Journal;
use crate::record::store::{self, Store};
use crate::serve::folders::Folder;
use crate::serve::grants::{Grant, Role};
use crate::serve::sockets::path::SocketHome;
use crate::serve::sockets::{SocketGrant, SocketPlace, SocketRole};

/// A start that is ready to be carried out.
#[derive(Debug)]
pub struct Start {
    plan: Plan,
    private: Vec<(PathBuf, Option<PrivateFolder>)>,
    control: Option<ControlPlace>,
    journal: Option<Journal>,
}

/// What is left to the broker of a start.
#[derive(Debug)]
pub struct Belongings {
    private: Vec<PrivateFolder>,
    control: Option<ControlPlace>,
    sockets: Vec<Arc<SocketGrant>>,
}

/// A start in the hands of the broker.
#[derive(Debug)]
pub struct Parts {
    /// The grants.
    pub grants: Vec<Grant>,
    /// The declared folders.
    pub folders: Vec<Folder>,
    /// The control socket, listening.
    pub control: Option<OwnedFd>,
    /// The sockets that may be made.
    pub sockets: Vec<Arc<SocketGrant>>,
    /// What pseudo-terminals are made of.
    pub terminals: Option<Multiplexer>,
    /// Where it is written down what the guest creates.
    pub journal: Option<Journal>,
    /// What has to be removed at the end.
    pub belongings: Belongings,
}

impl Start {
    /// Makes the files and folders that the plan has for this guest; `by_another_name`: whoever started it may not know that
    /// it has a broker. If one cannot be made, the others are removed again.
    ///
    /// # Errors
    /// [`Error::Make`]. [`Error::Control`]: a guest named `name` runs.
    pub fn prepare(mut plan: Plan, name: Option<&str>, by_another_name: bool) -> Result<Self, Error> {
        let outputs = std::mem::take(&mut plan.outputs);
        let mut start = Self { plan, private: Vec::new(), control: None, journal: None };
        match start
            .record()
            .and_then(|()| start.make_all(&outputs))
            .and_then(|()| start.claim_control(name, by_another_name))
        {
            Ok(()) => Ok(start),
            Err(error) => {
                start.abandon();
                Err(error)
            }
        }
    }

    /// Writes down what was found in the images, before a guest can write there.
    fn record(&mut self) -> Result<(), Error> {
        let Some(Recording { folder, verdict, images }) = &self.plan.recording else { return Ok(()) };
        let created = self.plan.folders.iter().filter(|folder| folder.is_for_new_files());
        let created: Vec<PathBuf> = created.map(|folder| folder.pin.path().to_owned()).collect();
        if verdict.renewals.is_empty() && verdict.removals.is_empty() && created.is_empty() {
            return Ok(());
        }
        let mut store = Store::open(folder, crate::record::place::Purpose::Write)?;
        store.renew(verdict)?;
        if !created.is_empty() {
            self.journal = Some(Journal::start(&store, images, &created)?);
        }
        Ok(())
    }

    fn make_all(&mut self, outputs: &[Output]) -> Result<(), Error> {
        for output in outputs {
            let grant = match make_output(output) {
                Ok(grant) => grant,
                // It is for the emulator to complain that it cannot make it either.
                Err(error) => {
                    self.plan.absent.push((output.name.as_bytes().to_vec(), Errno::from_io(&error)));
                    continue;
                }
            };
            // Whether it can be opened again is for the emulator to find out, in its own words.
            self.plan.keeps_override |= needs_override(grant.pin.as_fd(), true).unwrap_or(false);
            self.plan.grants.push(grant);
        }
        let (uid, gid) = (self.plan.identity.uid, self.plan.identity.gid);
        for private in &self.plan.private {
            let on_disk = private.on_disk_in.as_ref();
            let folder = on_disk.map(|parent| {
                let made = PrivateFolder::make(parent, uid, gid);
                made.map_err(|source| Error::Make { what: parent.clone(), source })
            });
            let folder = folder.transpose()?;
            // At the end it is removed from a folder that may be another user's.
            let parent = folder.as_ref().map(|folder| folder.parent.as_fd());
            self.plan.keeps_override |= parent.is_some_and(|parent| needs_override(parent, true).unwrap_or(false));
            self.private.push((private.at.clone(), folder));
        }
        Ok(())
    }

    /// Takes a control socket by the name that the operator gave, or else by QEMU's, or by the process's number. A guest
    /// that can have none runs without.
    fn claim_control(&mut self, name: Option<&str>, by_another_name: bool) -> Result<(), Error> {
        let command = &self.plan.command;
        if command.informational || (command.program.is_brief() && name.is_none()) {
            return Ok(());
        }
        let number = std::process::id().to_string();
        let guest = self.plan.command.guest_name.clone();
        let mut claimed = ControlPlace::claim(name.or(guest.as_deref()).unwrap_or(&number));
        if name.is_none() && matches!(claimed, Err(place::Error::Taken(_))) {
            claimed = ControlPlace::claim(&number);
            self.plan
                .notices
                .push(format!("a guest of this name runs already; `broker ctl {number}` speaks to this one"));
        }
        match claimed {
            Ok(control) => self.control = Some(control),
            Err(error @ place::Error::Taken(_)) => return Err(Error::Control(error)),
            // A manager of guests that uses another name knows nothing of `broker ctl`, and reads this at each start.
            Err(place::Error::NoRuntimeFolder) if name.is_none() && by_another_name => {}
            Err(error) => self.plan.notices.push(format!("`broker ctl` will not reach this guest: {error}")),
        }
        Ok(())
    }

    /// Removes what was made.
    pub fn abandon(&self) {
        self.control.iter().for_each(ControlPlace::remove);
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
        let homes = self.plan.grants.iter().filter_map(|grant| grant.home.as_ref());
        let rights = self.broker_rights().into_iter().map(|(descriptor, _)| descriptor);
        let control = self.control.iter().flat_map(ControlPlace::descriptors);
        let journal = self.journal.iter().map(AsFd::as_fd);
        // The broker has no use for these, but they are closed by their owner.
        let shared = self.plan.shared.iter().map(|shared| shared.pin.as_fd());
        let sockets = self.socket_homes().flat_map(|(_, home)| home.descriptors());
        let ends = self.plan.sockets.iter().filter_map(|grant| match &grant.place {
            SocketPlace::Datagram(place) => place.end.get().map(AsFd::as_fd),
            _ => None,
        });
        let homes = homes.map(|home| home.folder.as_fd());
        rights.chain(shared).chain(sockets).chain(ends).chain(homes).chain(control).chain(journal)
    }

    /// Where UNIX sockets are, or will be.
    fn socket_homes(&self) -> impl Iterator<Item = (SocketRole, &SocketHome)> {
        self.plan.sockets.iter().filter_map(|grant| Some((grant.role, grant.path()?.home.as_ref().ok()?)))
    }

    /// The rights of the broker itself: one rule a grant, and what takes cleaning up.
    #[must_use]
    pub fn broker_rights(&self) -> Vec<(BorrowedFd<'_>, Rights)> {
        let mut rights = Vec::new();
        for grant in &self.plan.grants {
            rights.push((grant.pin.as_fd(), rights_on(grant)));
            let removable =
                grant.home.as_ref().filter(|home| home.created || matches!(grant.role, Role::PidFile | Role::Target));
            rights.extend(removable.map(|home| (home.folder.as_fd(), settle::removing_files())));
        }
        for folder in &self.plan.folders {
            rights.push((folder.pin.as_fd(), settle::rights_beneath(folder.purpose)));
        }
        for (_, home) in self.socket_homes().filter(|(role, _)| *role == SocketRole::Listen) {
            rights.push((home.folder(), settle::binding_sockets()));
        }
        if let Some(multiplexer) = &self.plan.terminals {
            rights.extend(multiplexer.descriptors().map(|descriptor| (descriptor, settle::terminals())));
        }
        if let Some(control) = &self.control {
            rights.push((control.folder.as_fd(), settle::removing_files()));
            rights.push((control.parent.as_fd(), settle::removing_folders()));
        }
        for folder in self.private.iter().filter_map(|(_, folder)| folder.as_ref()) {
            rights.push((folder.parent.as_fd(), settle::removing_folders()));
            rights.push((folder.pin.as_fd(), settle::emptying()));
        }
        rights
    }

    /// Whether the broker has to remove something, as another user than made it, where only owners may.
    #[must_use]
    pub fn removes_for_others(&self) -> bool {
        let homes = self.plan.grants.iter().filter_map(|grant| grant.home.as_ref()).map(|home| home.folder.as_fd());
        let homes = homes.chain(self.socket_homes().map(|(_, home)| home.folder()));
        let parents = self.private.iter().filter_map(|(_, folder)| folder.as_ref()).map(|folder| folder.parent.as_fd());
        let is_sticky = |folder: BorrowedFd<'_>| {
            rustix::fs::fstat(folder).is_ok_and(|status| Mode::from_raw_mode(status.st_mode).contains(Mode::SVTX))
        };
        self.plan.image_user.is_some() && homes.chain(parents).any(is_sticky)
    }

    /// What the broker serves, and what it has to remove at the end.
    ///
    /// # Errors
    /// `EMFILE`: no descriptor is left.
    pub fn into_parts(self) -> io::Result<Parts> {
        let private = self.private.into_iter().filter_map(|(_, folder)| folder).collect();
        let listening = self.control.as_ref().map(|control| control.socket.try_clone()).transpose();
        let sockets = self.plan.sockets;
        let belongings = Belongings { private, control: self.control, sockets: sockets.clone() };
        let control = listening.inspect_err(|_| belongings.remove(&self.plan.grants))?;
        let journal = self.journal;
        let Plan { grants, folders, terminals, .. } = self.plan;
        Ok(Parts { grants, folders, control, sockets, terminals, journal, belongings })
    }
}

impl Belongings {
    /// Removes what was made for a guest that has ended: its private folders, the paths of its sockets, and the files that
    /// it never opened.
    pub fn remove<'a>(&self, grants: impl IntoIterator<Item = &'a Grant>) {
        remove_unopened(grants.into_iter());
        self.control.iter().for_each(ControlPlace::remove);
        remove_folders(self.private.iter());
        let homes = self.sockets.iter().filter_map(|grant| grant.path()?.home.as_ref().ok());
        homes.for_each(SocketHome::remove_bound);
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

/// The kernel takes no rule for a file of no mounted file system (memfd), and forbids nothing there.
fn rights_on(grant: &Grant) -> Rights {
    if grant.pin.is_anonymous() { Rights::empty() } else { settle::rights(grant.access) }
}

fn make_output(planned: &Output) -> io::Result<Grant> {
    let (pin, home): (_, Home) = output::make(Path::new(&planned.name), planned.mode)?;
    Ok(Grant {
        role: planned.role,
        option: planned.option.clone(),
        access: planned.access,
        pin: Arc::new(pin),
        view: None,
        name: planned.name.as_bytes().to_vec(),
        home: Some(home),
        opened: AtomicBool::new(false),
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
    /// The records of image chains.
    #[error(transparent)]
    Records(#[from] store::Error),
    /// The guest's name is taken.
    #[error(transparent)]
    Control(place::Error),
    /// A network could not be opened.
    #[error(transparent)]
    Network(#[from] networks::Error),
    /// The relay could not be started.
    #[error(transparent)]
    Relay(#[from] crate::relay::Error),
    /// The command of an incoming migration.
    #[error(transparent)]
    Incoming(#[from] incoming::Error),
    /// The filter does not compile.
    #[error(transparent)]
    Filter(seccomp::Error),
    /// A word that no program could be given.
    #[error("an argument or a variable of the environment holds a NUL byte")]
    Nul,
}
