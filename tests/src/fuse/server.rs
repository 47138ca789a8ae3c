//! What the kernel asks the file system (`linux/fuse.h`), and what it answers: one folder, and files in memory.

use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::Mood;

/// How long the kernel may keep what it was told of a file: not at all, so that it asks each time.
const NO_TIME: Duration = Duration::ZERO;

/// Bytes in a block as `stat` counts them (stat(2)).
const BLOCK: u64 = 512;

/// What server and test share.
#[derive(Debug)]
pub(super) struct Shared {
    files: Mutex<Vec<Arc<File>>>,
    owner: u32,
    /// Nobody but the owner opens or looks up anything.
    squashed: bool,
    hanging: Mutex<Vec<Hanging>>,
}

/// A question of the kernel's that is not answered yet.
#[derive(Debug)]
enum Hanging {
    Open(ReplyOpen),
    Look(INodeNo, ReplyAttr),
}

/// One file. Its inode number is its place in the list and [`FIRST_INODE`].
#[derive(Debug)]
pub(super) struct File {
    name: OsString,
    bytes: Mutex<Vec<u8>>,
    mood: Mutex<Mood>,
}

/// The inode number behind the folder's.
const FIRST_INODE: u64 = 2;

/// The lock, whoever panicked while holding it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl File {
    pub(super) fn set_mood(&self, mood: Mood) {
        *lock(&self.mood) = mood;
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        lock(&self.bytes).clone()
    }
}

impl Shared {
    pub(super) fn new(files: Vec<(OsString, Vec<u8>)>, owner: u32) -> Self {
        let shared = Self { files: Mutex::default(), owner, squashed: false, hanging: Mutex::default() };
        for (name, bytes) in files {
            shared.add(name, bytes);
        }
        shared
    }

    /// The same, for nobody but the owner.
    pub(super) fn squashed(self) -> Self {
        Self { squashed: true, ..self }
    }

    fn denies(&self, request: &Request) -> bool {
        self.squashed && request.uid() != self.owner
    }

    /// Adds a file; its inode number.
    fn add(&self, name: OsString, bytes: Vec<u8>) -> INodeNo {
        let mut files = lock(&self.files);
        files.push(Arc::new(File { name, bytes: Mutex::new(bytes), mood: Mutex::new(Mood::Healthy) }));
        INodeNo(FIRST_INODE + files.len() as u64 - 1)
    }

    pub(super) fn find(&self, name: &OsStr) -> Option<Arc<File>> {
        lock(&self.files).iter().find(|file| file.name == name).map(Arc::clone)
    }

    pub(super) fn hanging(&self) -> usize {
        lock(&self.hanging).len()
    }

    /// Makes every file healthy.
    pub(super) fn recover(&self) {
        lock(&self.files).iter().for_each(|file| file.set_mood(Mood::Healthy));
    }

    pub(super) fn answer_hanging(&self, answer: Result<(), Errno>) {
        for hanging in std::mem::take(&mut *lock(&self.hanging)) {
            match (hanging, answer) {
                (Hanging::Open(reply), Ok(())) => reply.opened(FileHandle(0), FopenFlags::empty()),
                (Hanging::Open(reply), Err(errno)) => reply.error(errno),
                (Hanging::Look(inode, reply), Ok(())) => self.tell(inode, reply),
                (Hanging::Look(_, reply), Err(errno)) => reply.error(errno),
            }
        }
    }

    fn file(&self, inode: INodeNo) -> Option<Arc<File>> {
        let index = u64::from(inode).checked_sub(FIRST_INODE)?;
        lock(&self.files).get(usize::try_from(index).ok()?).map(Arc::clone)
    }

    /// Answers with a file's attributes.
    fn tell(&self, inode: INodeNo, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&NO_TIME, &attributes),
            None => reply.error(Errno::ESTALE),
        }
    }

    /// The attributes of a file, or of the folder.
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match self.file(inode) {
            Some(file) => (FileType::RegularFile, 0o644, lock(&file.bytes).len() as u64),
            None if inode == INodeNo::ROOT => (FileType::Directory, 0o755, 0),
            None => return None,
        };
        let perm = if self.squashed { perm & 0o700 } else { perm };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(BLOCK),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: self.owner,
            gid: self.owner,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn inode_of(&self, name: &OsStr) -> Option<INodeNo> {
        let index = lock(&self.files).iter().position(|file| file.name == name)?;
        Some(INodeNo(FIRST_INODE + index as u64))
    }
}

/// The side that answers the kernel.
#[derive(Debug)]
pub(super) struct Server {
    shared: Arc<Shared>,
}

impl Server {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Filesystem for Server {
    fn lookup(&self, request: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if self.shared.denies(request) {
            return reply.error(Errno::EACCES);
        }
        match self.shared.inode_of(name).and_then(|inode| self.shared.attributes(inode)) {
            Some(attributes) => reply.entry(&NO_TIME, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let is_silent = self.shared.file(inode).is_some_and(|file| *lock(&file.mood) == Mood::Silent);
        if is_silent {
            lock(&self.shared.hanging).push(Hanging::Look(inode, reply));
        } else {
            self.shared.tell(inode, reply);
        }
    }

    /// Only the size can be set; times stand still.
    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let size = size.and_then(|size| usize::try_from(size).ok());
        if let (Some(file), Some(size)) = (self.shared.file(inode), size) {
            lock(&file.bytes).resize(size, 0);
        }
        self.shared.tell(inode, reply);
    }

    /// What the kernel is asked by `access(2)`.
    fn access(&self, request: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        if self.shared.denies(request) { reply.error(Errno::EACCES) } else { reply.ok() }
    }

    fn create(&self, request: &Request, _: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        if self.shared.denies(request) {
            return reply.error(Errno::EACCES);
        }
        if self.shared.find(name).is_some() {
            return reply.error(Errno::EEXIST);
        }
        let inode = self.shared.add(name.to_owned(), Vec::new());
        match self.shared.attributes(inode) {
            Some(attributes) => {
                reply.created(&NO_TIME, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            None => reply.error(Errno::EIO),
        }
    }

    fn open(&self, request: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.shared.denies(request) {
            return reply.error(Errno::EACCES);
        }
        let Some(file) = self.shared.file(inode) else { return reply.error(Errno::ESTALE) };
        match *lock(&file.mood) {
            Mood::Healthy => reply.opened(FileHandle(0), FopenFlags::empty()),
            Mood::Hanging | Mood::Silent => lock(&self.shared.hanging).push(Hanging::Open(reply)),
            Mood::Failing(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = self.shared.file(inode) else { return reply.error(Errno::ESTALE) };
        let bytes = lock(&file.bytes);
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        reply.data(rest.get(..size).unwrap_or(rest));
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(file) = self.shared.file(inode) else { return reply.error(Errno::ESTALE) };
        let mut bytes = lock(&file.bytes);
        let Ok(offset) = usize::try_from(offset) else { return reply.error(Errno::EFBIG) };
        let end = offset.saturating_add(data.len());
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        if let Some(place) = bytes.get_mut(offset..end) {
            place.copy_from_slice(data);
        }
        match u32::try_from(data.len()) {
            Ok(count) => reply.written(count),
            Err(_) => reply.error(Errno::EINVAL),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (file, next) in lock(&self.shared.files).iter().zip(1_u64..).skip(skipped) {
            let inode = INodeNo(FIRST_INODE + next - 1);
            if reply.add(inode, next, FileType::RegularFile, &file.name) {
                break;
            }
        }
        reply.ok();
    }
}
