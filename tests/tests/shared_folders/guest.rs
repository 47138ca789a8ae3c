//! A guest's file system: requests of 9P2000.L (the Linux dialect, `net/9p` of Linux), a few of which make an operation.

use std::os::unix::net::UnixStream;

use tests::{Emulator, Error, Result};

use crate::device::{Device, ROOM};

const VERSION: u8 = 100;
const ATTACH: u8 = 104;
const WALK: u8 = 110;
const OPEN: u8 = 12;
const CREATE: u8 = 14;
const SYMLINK: u8 = 16;
const MAKE_NODE: u8 = 18;
const READ_LINK: u8 = 22;
const GET_ATTRIBUTES: u8 = 24;
const SET_ATTRIBUTES: u8 = 26;
const XATTR_WALK: u8 = 30;
const XATTR_CREATE: u8 = 32;
const LINK: u8 = 70;
const MAKE_FOLDER: u8 = 72;
const RENAME: u8 = 74;
const REMOVE: u8 = 76;
const READ: u8 = 116;
const WRITE: u8 = 118;
const CLUNK: u8 = 120;
/// An answer that holds an errno alone.
const ERROR: u8 = 7;

/// `P9_SETATTR_*` of Linux: which of the fields count.
pub const MODE: u32 = 1;
/// See [`MODE`].
pub const OWNER: u32 = 2;
/// See [`MODE`].
pub const SIZE: u32 = 8;
/// The time of the last change, to a given one.
pub const TIME: u32 = 0x120;

/// A numbered place in the folder (a "fid"); the root is 0, and the others are numbered upwards.
const ROOT: u32 = 0;

/// What a request comes to: an errno if the guest gets one.
pub type Answer<T> = Result<std::result::Result<T, i32>>;

/// A guest that has the folder mounted.
pub struct Guest {
    device: Device,
    places: u32,
    /// The number of its only user, and of that user's group.
    own: u32,
}

/// The body of a request.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn short(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn word(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn long(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        let mut body = self.short(u16::try_from(text.len()).unwrap_or(u16::MAX));
        body.0.extend(text.as_bytes());
        body
    }
}

/// `?` for an errno that the guest got.
macro_rules! got {
    ($answer:expr) => {
        match $answer? {
            Ok(value) => value,
            Err(errno) => return Ok(Err(errno)),
        }
    };
}

impl Guest {
    /// Mounts the folder.
    ///
    /// # Errors
    /// When the emulator ends first, or refuses the mount.
    pub fn mount(stream: UnixStream, emulator: &Emulator, own: u32) -> Result<Self> {
        let mut guest = Self { device: Device::wake(stream, emulator)?, places: ROOT, own };
        let refused = |errno| Error::Unexpected(format!("the folder cannot be mounted: errno {errno}"));
        guest.ask(VERSION, Body::default().word(ROOM).text("9P2000.L"))?.map_err(refused)?;
        let attach = Body::default().word(ROOT).word(u32::MAX).text("user").text("").word(own);
        guest.ask(ATTACH, attach)?.map_err(refused)?;
        Ok(guest)
    }

    fn ask(&mut self, kind: u8, body: Body) -> Answer<Vec<u8>> {
        let size = u32::try_from(7 + body.0.len()).unwrap_or(u32::MAX);
        let mut request = size.to_le_bytes().to_vec();
        request.push(kind);
        request.extend(1_u16.to_le_bytes());
        request.extend(body.0);
        let answer = self.device.exchange(&request)?;
        let rest = answer.get(7..).unwrap_or_default();
        match answer.get(4) {
            Some(found) if *found == kind + 1 => Ok(Ok(rest.to_vec())),
            Some(&ERROR) => Ok(Err(i32::try_from(word(rest, 0)?).unwrap_or_default())),
            _ => Err(Error::Unexpected(format!("request {kind} was answered with {answer:x?}"))),
        }
    }

    /// A new place for `path`; the empty one is the folder itself.
    fn walk(&mut self, path: &str) -> Answer<u32> {
        self.places += 1;
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let count = u16::try_from(names.len()).unwrap_or(u16::MAX);
        let body = Body::default().word(ROOT).word(self.places).short(count);
        let found = got!(self.ask(WALK, names.iter().fold(body, |body, name| body.text(name))));
        // It may come to less than all of the names.
        if short(&found, 0)? < count { Ok(Err(rustix::io::Errno::NOENT.raw_os_error())) } else { Ok(Ok(self.places)) }
    }

    fn forget(&mut self, place: u32) -> Answer<()> {
        got!(self.ask(CLUNK, Body::default().word(place)));
        Ok(Ok(()))
    }

    /// Makes a file in the folder `folder` with these permissions, and writes `data` into it.
    ///
    /// # Errors
    /// When there is no answer; so for all that follow.
    pub fn create(&mut self, folder: &str, name: &str, mode: u32, data: &[u8]) -> Answer<()> {
        let place = got!(self.walk(folder));
        // O_CREAT | O_EXCL | O_RDWR, as Linux numbers them in this protocol.
        got!(self.ask(CREATE, Body::default().word(place).text(name).word(0o302).word(mode).word(self.own)));
        self.write(place, data)
    }

    fn write(&mut self, place: u32, data: &[u8]) -> Answer<()> {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut body = Body::default().word(place).long(0).word(count);
        body.0.extend(data);
        got!(self.ask(WRITE, body));
        self.forget(place)
    }

    /// Writes over the beginning of a file.
    pub fn overwrite(&mut self, path: &str, data: &[u8]) -> Answer<()> {
        let place = got!(self.walk(path));
        got!(self.ask(OPEN, Body::default().word(place).word(1)));
        self.write(place, data)
    }

    /// What a file holds.
    pub fn read(&mut self, path: &str) -> Answer<Vec<u8>> {
        let place = got!(self.walk(path));
        got!(self.ask(OPEN, Body::default().word(place).word(0)));
        let data = got!(self.ask(READ, Body::default().word(place).long(0).word(ROOM - 64)));
        got!(self.forget(place));
        Ok(Ok(data.get(4..).unwrap_or_default().to_vec()))
    }

    /// Mode and owner, as the guest sees them.
    pub fn look(&mut self, path: &str) -> Answer<(u32, u32)> {
        let place = got!(self.walk(path));
        let found = got!(self.ask(GET_ATTRIBUTES, Body::default().word(place).long(0x7ff)));
        got!(self.forget(place));
        Ok(Ok((word(&found, 21)?, word(&found, 25)?)))
    }

    /// Sets those of mode, owner, size and time (seconds) that `which` names to `value`.
    pub fn set(&mut self, path: &str, which: u32, value: u32) -> Answer<()> {
        let place = got!(self.walk(path));
        let field = |one: u32| if which == one { value } else { 0 };
        let body = Body::default().word(place).word(which).word(field(MODE)).word(field(OWNER)).word(u32::MAX);
        let body = body.long(field(SIZE).into()).long(0).long(0).long(field(TIME).into()).long(0);
        got!(self.ask(SET_ATTRIBUTES, body));
        self.forget(place)
    }

    /// Makes a folder.
    pub fn make_folder(&mut self, name: &str) -> Answer<()> {
        got!(self.ask(MAKE_FOLDER, Body::default().word(ROOT).text(name).word(0o755).word(self.own)));
        Ok(Ok(()))
    }

    /// Makes a symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) -> Answer<()> {
        got!(self.ask(SYMLINK, Body::default().word(ROOT).text(name).text(target).word(self.own)));
        Ok(Ok(()))
    }

    /// Where a symbolic link leads to.
    pub fn read_link(&mut self, path: &str) -> Answer<String> {
        let place = got!(self.walk(path));
        let found = got!(self.ask(READ_LINK, Body::default().word(place)));
        got!(self.forget(place));
        Ok(Ok(String::from_utf8_lossy(found.get(2..).unwrap_or_default()).into_owned()))
    }

    /// Makes a FIFO or a device node.
    pub fn make_node(&mut self, name: &str, mode: u32, device: (u32, u32)) -> Answer<()> {
        let body = Body::default().word(ROOT).text(name).word(mode).word(device.0).word(device.1).word(self.own);
        got!(self.ask(MAKE_NODE, body));
        Ok(Ok(()))
    }

    /// Gives a file a second name.
    pub fn link(&mut self, path: &str, name: &str) -> Answer<()> {
        let place = got!(self.walk(path));
        got!(self.ask(LINK, Body::default().word(ROOT).word(place).text(name)));
        self.forget(place)
    }

    /// Moves a file of the folder itself into `folder`.
    pub fn rename(&mut self, from: &str, folder: &str, to: &str) -> Answer<()> {
        let place = got!(self.walk(folder));
        got!(self.ask(RENAME, Body::default().word(ROOT).text(from).word(place).text(to)));
        self.forget(place)
    }

    /// Removes a file of `folder`, or a folder with `AT_REMOVEDIR` in `flags`.
    pub fn remove(&mut self, folder: &str, name: &str, flags: u32) -> Answer<()> {
        let place = got!(self.walk(folder));
        got!(self.ask(REMOVE, Body::default().word(place).text(name).word(flags)));
        self.forget(place)
    }

    /// Sets an attribute.
    pub fn set_attribute(&mut self, path: &str, name: &str, value: &[u8]) -> Answer<()> {
        let place = got!(self.walk(path));
        let size = u64::try_from(value.len()).unwrap_or(u64::MAX);
        got!(self.ask(XATTR_CREATE, Body::default().word(place).text(name).long(size).word(0)));
        self.write(place, value)
    }

    /// Reads an attribute.
    pub fn attribute(&mut self, path: &str, name: &str) -> Answer<Vec<u8>> {
        let place = got!(self.walk(path));
        self.places += 1;
        let value = self.places;
        let size = got!(self.ask(XATTR_WALK, Body::default().word(place).word(value).text(name)));
        let data = got!(self.ask(READ, Body::default().word(value).long(0).word(word(&size, 0)?)));
        got!(self.forget(value));
        got!(self.forget(place));
        Ok(Ok(data.get(4..).unwrap_or_default().to_vec()))
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let found = bytes.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    found.map(u32::from_le_bytes).ok_or_else(|| Error::Unexpected(format!("a short answer: {bytes:x?}")))
}

fn short(bytes: &[u8], at: usize) -> Result<u16> {
    let found = bytes.get(at..at + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
    found.map(u16::from_le_bytes).ok_or_else(|| Error::Unexpected(format!("a short answer: {bytes:x?}")))
}
