//! The user who opens the images, where that is not the operator (`--image-user`): on an export that maps root to nobody
//! root opens nothing, and its server checks who opens, not who holds the descriptor.

use std::ffi::CString;
use std::io;

use caps::CapSet;
use nix::unistd::{Gid, Uid, User, getgrouplist, getgroups, setfsgid, setfsuid, setgroups, setresgid, setresuid};

/// A user, a group, and the supplementary groups that the user database has for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl ImageUser {
    /// The user `uid` in group `gid`, with the groups that a login would give; a user without an entry in the user
    /// database has none.
    ///
    /// # Errors
    /// [`Error::NotRoot`]. [`Error::Groups`]: the user database cannot be read.
    pub fn look_up(uid: u32, gid: u32) -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Err(Error::NotRoot);
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let failed = |errno: nix::errno::Errno| Error::Groups { uid: uid.as_raw(), source: errno.into() };
        let groups = match User::from_uid(uid).map_err(failed)? {
            Some(user) => {
                let name = CString::new(user.name).map_err(|_| failed(nix::errno::Errno::EINVAL))?;
                getgrouplist(&name, gid).map_err(failed)?
            }
            None => Vec::new(),
        };
        Ok(Self { uid, gid, groups })
    }

    /// User and group id.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        (self.uid.as_raw(), self.gid.as_raw())
    }

    /// The supplementary groups.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.groups.iter().map(|group| group.as_raw())
    }

    /// Does `work` with this user's rights to files, and those of root that are about files laid down (the kernel takes
    /// them when the file system's user id stops being 0, capabilities(7)). The process must have one thread.
    ///
    /// # Errors
    /// What `work` gives. [`Error::Switch`]: no right to change.
    pub fn lend_to<T, E: From<Error>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let before = Lent::note()?;
        let result = self.take_files_rights().map_err(E::from).and_then(|()| work());
        // Nothing may go on with the wrong rights, whatever became of the work.
        before.give_back()?;
        result
    }

    fn take_files_rights(&self) -> Result<(), Error> {
        setgroups(&self.groups).map_err(Error::switch("setgroups"))?;
        set_files_ids(self.uid, self.gid)
    }

    /// Becomes this user for good. The capabilities stay, to be dropped by what follows.
    ///
    /// # Errors
    /// [`Error::Switch`]: no right to change.
    pub fn become_for_good(&self) -> Result<(), Error> {
        setgroups(&self.groups).map_err(Error::switch("setgroups"))?;
        setresgid(self.gid, self.gid, self.gid).map_err(Error::switch("setresgid"))?;
        let keep = rustix::thread::set_keep_capabilities(true);
        keep.map_err(|source| Error::Switch { call: "PR_SET_KEEPCAPS", source: source.into() })?;
        setresuid(self.uid, self.uid, self.uid).map_err(Error::switch("setresuid"))?;
        // Kept are those that are permitted; in effect there is none after the change (capabilities(7)).
        let raise = caps::read(None, CapSet::Permitted).and_then(|kept| caps::set(None, CapSet::Effective, &kept));
        raise.map_err(|error| Error::Switch { call: "capset", source: io::Error::other(error) })
    }
}

/// What [`ImageUser::lend_to`] gives back.
struct Lent {
    groups: Vec<Gid>,
    dumpable: rustix::process::DumpableBehavior,
}

impl Lent {
    fn note() -> Result<Self, Error> {
        let dumpable = rustix::process::dumpable_behavior();
        Ok(Self {
            groups: getgroups().map_err(Error::switch("getgroups"))?,
            dumpable: dumpable.map_err(|source| Error::Switch { call: "PR_GET_DUMPABLE", source: source.into() })?,
        })
    }

    fn give_back(self) -> Result<(), Error> {
        set_files_ids(Uid::effective(), Gid::effective())?;
        setgroups(&self.groups).map_err(Error::switch("setgroups"))?;
        // A change of ids takes it away (prctl(2)), and the agent could not read the emulator's memory.
        rustix::process::set_dumpable_behavior(self.dumpable)
            .map_err(|source| Error::Switch { call: "PR_SET_DUMPABLE", source: source.into() })
    }
}

/// Sets the ids by which the kernel judges this thread's access to files.
fn set_files_ids(uid: Uid, gid: Gid) -> Result<(), Error> {
    // Neither call tells whether it worked, but a second one tells what the first one set (setfsuid(2)).
    setfsgid(gid);
    if setfsgid(gid) != gid {
        return Err(Error::switch("setfsgid")(nix::errno::Errno::EPERM));
    }
    setfsuid(uid);
    if setfsuid(uid) != uid {
        return Err(Error::switch("setfsuid")(nix::errno::Errno::EPERM));
    }
    Ok(())
}

/// Why images cannot be opened as another user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Only root becomes somebody else.
    #[error("--image-user: only root can open images as another user; start broker as that user, or leave it out")]
    NotRoot,
    /// No groups.
    #[error("--image-user: cannot find the groups of uid {uid}: {source}; is the user database within reach?")]
    Groups {
        /// The user.
        uid: u32,
        /// What the C library said.
        source: io::Error,
    },
    /// A system call.
    #[error(
        "--image-user: cannot take that user's rights: {call}: {source}; start broker with CAP_SETUID and CAP_SETGID"
    )]
    Switch {
        /// The call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    fn switch(call: &'static str) -> impl Fn(nix::errno::Errno) -> Self {
        move |errno| Self::Switch { call, source: errno.into() }
    }
}
