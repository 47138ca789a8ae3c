//! The block graph that the options describe.
//!
//! A [`Node`] is one of QEMU's block nodes: a protocol node (`file`, `host_device`, `host_cdrom`) opens a
//! name, a format node (`qcow2`, `raw`, ...) reads a header, a filter (`throttle`, ...) passes things through.
//! Sources: `bdrv_fill_options`, `bdrv_open_inherit` and `bdrv_inherited_options` in QEMU's `block.c`, and
//! `qapi/block-core.json`; 7.2 and 10.0 agree in all that is used here.

pub(super) mod remote;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group};
use super::driver::{self, Driver};
use super::error::Error;
use super::filename;
use super::value::{self, Pairs};

/// The options of one node and of all below it, with dotted keys.
pub(super) type Keys = BTreeMap<String, OsString>;

/// One block node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// The option that describes it, for messages.
    pub(super) option: String,
    /// `node-name=`, by which other nodes refer to it.
    pub(super) name: Option<String>,
    /// `driver=`; `None` leaves the format to probing.
    pub(super) driver: Option<String>,
    /// What a protocol node opens.
    pub(super) file: Option<OsString>,
    /// The inherited descriptor that this name stands for.
    pub(super) descriptor: Option<RawFd>,
    /// The server that it connects to, as keys of a `SocketAddress` behind `server.`.
    pub(super) server: Option<Pairs>,
    /// A name with a protocol, at which QEMU looks as if it were a file.
    pub(super) looked_at: Option<OsString>,
    /// Where the `-drive` stands in `argv` that says nothing of the host's cache for this node.
    pub(super) silent_word: Option<usize>,
    /// `cache.direct=`.
    pub(super) direct: Option<bool>,
    pub(super) read_only: Option<bool>,
    pub(super) auto_read_only: Option<bool>,
    pub(super) children: Vec<Child>,
    /// The options say what the backing file is, or that there is none.
    pub(super) backing_given: bool,
    /// An overlay that the options do not name lies over it: that of `snapshot=on`.
    pub(super) overlaid: bool,
    /// `raw` with `offset=` or `size=`: a window onto the node below.
    pub(super) window: bool,
}

/// A node below another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) role: Role,
    pub(super) target: Target,
}

/// What a child is to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// What the parent reads its header from, or passes through.
    Main,
    /// What lies under an overlay: opened read-only.
    Backing,
    /// Bare data without a header: `data-file`, a LUKS `header`, a write log.
    Data,
    /// A whole image beside others: members of a quorum, targets of a copy. Its format is probed.
    Image,
}

/// A child is described in place, or named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Inline(Box<Node>),
    Named(String),
}

impl Node {
    /// The node that this one's bytes come from, if it is described in place.
    pub(super) fn main_mut(&mut self) -> Option<&mut Self> {
        if self.file.is_some() {
            return Some(self);
        }
        let main = self.children.iter_mut().find(|child| child.role == Role::Main)?;
        match &mut main.target {
            Target::Inline(below) => below.main_mut(),
            Target::Named(_) => None,
        }
    }
}

/// More levels than any option spells out in earnest.
const MAX_NESTING: usize = 100;

/// The keys under which nodes have children (`children.N` is read besides).
const CHILDREN: &[(&str, Role)] = &[
    ("file", Role::Main),
    ("image", Role::Main), // blkdebug, blkreplay
    ("raw", Role::Main),   // blkverify
    ("backing", Role::Backing),
    ("data-file", Role::Data),
    ("header", Role::Data),  // luks, since 9.0
    ("log", Role::Data),     // blklogwrites
    ("target", Role::Image), // copy-before-write
    ("test", Role::Image),   // blkverify
];

/// `-blockdev`.
///
/// # Errors
/// [`Error::NotServed`] for a driver that is not served, [`Error::Malformed`] for what cannot be understood.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let keys = group.pairs.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    draft.line.io_uring |= asks_for_io_uring(&keys);
    draft.nodes.push(build(&group.option, keys, None, false)?);
    Ok(())
}

/// True if a node asks for io_uring.
pub(super) fn asks_for_io_uring(keys: &Keys) -> bool {
    keys.iter().any(|(k, v)| (k == "aio" || k.ends_with(".aio")) && v == "io_uring")
}

/// Makes a node from its options. `name` is a file name in QEMU's own syntax, as `-drive file=` has it;
/// `bare` says that without `driver=` no format is probed.
///
/// # Errors
/// [`Error::NotServed`] for a driver or a protocol that is not served and for keys that name something
/// unknown, [`Error::Malformed`] for what cannot be understood.
pub(super) fn build(option: &str, keys: Keys, name: Option<OsString>, bare: bool) -> Result<Node, Error> {
    let (mut keys, name) = filename::expand_json(option, keys, name)?;
    refuse_deep(option, &keys)?;
    let driver_name = text(option, &mut keys, "driver")?;
    let kind = driver_name
        .as_deref()
        .map(|name| driver::find(name).ok_or_else(|| refused_driver(option, name)))
        .transpose()?;
    let mut node = Node {
        option: option.to_owned(),
        name: text(option, &mut keys, "node-name")?,
        driver: driver_name,
        file: None,
        descriptor: None,
        server: None,
        looked_at: None,
        silent_word: None,
        direct: switch(option, &mut keys, "cache.direct")?,
        read_only: switch(option, &mut keys, "read-only")?,
        auto_read_only: switch(option, &mut keys, "auto-read-only")?,
        children: Vec::new(),
        backing_given: false,
        overlaid: false,
        window: keys.contains_key("offset") || keys.contains_key("size"),
    };
    let leaf = match kind {
        Some(kind) => matches!(kind, Driver::Protocol | Driver::Nothing | Driver::Remote),
        None => bare,
    };
    let named = node.driver.is_none() && name.as_deref().is_some_and(remote::is_name);
    if leaf && (kind == Some(Driver::Remote) || named) {
        let driver = node.driver.get_or_insert_with(|| "nbd".to_owned());
        node.server = remote::take(option, driver, &mut keys, name.as_deref())?;
        node.looked_at = name.filter(|name| remote::is_name(name));
    } else if leaf {
        let literal = keys.remove("filename");
        let opened = filename::resolve(option, node.driver.as_deref(), literal, name)?;
        node.file = opened.file;
        node.descriptor = opened.descriptor;
        node.driver = Some(opened.driver.to_owned());
    } else {
        add_children(option, &mut keys, name, &mut node)?;
    }
    refuse_unknown(option, &keys)?;
    Ok(node)
}

/// Each dot is a level of nodes, and each level a level of calls.
fn refuse_deep(option: &str, keys: &Keys) -> Result<(), Error> {
    if keys.keys().any(|key| key.matches('.').count() > MAX_NESTING) {
        return Err(Error::malformed(
            option,
            format!("more than {MAX_NESTING} nodes below each other; refer to them by node-name"),
        ));
    }
    Ok(())
}

fn add_children(option: &str, keys: &mut Keys, name: Option<OsString>, node: &mut Node) -> Result<(), Error> {
    let mut name = name;
    let members = members(keys);
    let known = CHILDREN.iter().map(|(key, role)| ((*key).to_owned(), *role));
    for (key, role) in known.chain(members.into_iter().map(|key| (key, Role::Image))) {
        let below = take_below(keys, &key);
        let reference = keys.remove(&key);
        if role == Role::Backing {
            node.backing_given = reference.is_some() || names_something(&below);
        }
        let own_name = if key == "file" { name.take() } else { None };
        let target = if let Some(reference) = reference.filter(|r| !r.is_empty()) {
            Target::Named(reference.to_string_lossy().into_owned())
        } else if own_name.is_some() || !below.is_empty() {
            let bare = matches!(role, Role::Main | Role::Data);
            Target::Inline(Box::new(build(option, below, own_name, bare)?))
        } else {
            continue;
        };
        node.children.push(Child { role, target });
    }
    Ok(())
}

/// `children.0`, `children.1`, ... as far as there are any.
fn members(keys: &Keys) -> Vec<String> {
    let mut members: Vec<String> = keys
        .keys()
        .filter_map(|key| key.strip_prefix("children."))
        .filter_map(|rest| rest.split('.').next())
        .map(|index| format!("children.{index}"))
        .collect();
    members.dedup();
    members
}

/// QEMU follows the header's name unless the options under `backing.` name a file themselves.
fn names_something(below: &Keys) -> bool {
    below.keys().any(|key| key == "file" || key == "filename" || key.ends_with(".filename"))
}

/// What is left over is harmless unless it looks like a name or a node.
fn refuse_unknown(option: &str, keys: &Keys) -> Result<(), Error> {
    const NAMING: &[&str] = &["driver", "filename", "file", "path", "url", "server", "socket", "config", "device"];
    for (key, value) in keys {
        let last = key.rsplit('.').next().unwrap_or(key);
        if NAMING.contains(&last) || value.as_bytes().contains(&b'/') {
            return Err(Error::not_served(
                option,
                format!("{key}={}", value.to_string_lossy()),
                "leave it out: it is not known what QEMU would open for it",
            ));
        }
    }
    Ok(())
}

fn refused_driver(option: &str, name: &str) -> Error {
    const INSTEAD: &str = "use an image or device on this host, or an open one by its descriptor";
    let what = format!("the block driver {name}");
    match driver::refused(name) {
        Some(outside) => Error::not_served(option, what, format!("it reaches for {outside}: {INSTEAD}")),
        None => Error::not_known(option, what, "look at its spelling, or use a driver of docs/command-line.md"),
    }
}

fn take_below(keys: &mut Keys, key: &str) -> Keys {
    let start = format!("{key}.");
    let names: Vec<String> = keys.keys().filter(|k| k.starts_with(&start)).cloned().collect();
    names
        .into_iter()
        .filter_map(|name| {
            let value = keys.remove(&name)?;
            Some((name.strip_prefix(&start)?.to_owned(), value))
        })
        .collect()
}

fn text(option: &str, keys: &mut Keys, key: &str) -> Result<Option<String>, Error> {
    keys.remove(key)
        .map(|value| value.into_string().map_err(|_| Error::malformed(option, format!("{key} must be UTF-8 text"))))
        .transpose()
}

fn switch(option: &str, keys: &mut Keys, key: &str) -> Result<Option<bool>, Error> {
    keys.remove(key).map(|value: OsString| value::switch(option, key, OsStr::new(&value))).transpose()
}

#[cfg(test)]
mod tests {
    use super::super::testing::blockdevs;
    use super::*;

    #[test]
    fn drivers_and_keys_that_reach_elsewhere_are_refused() {
        for value in [
            "driver=nfs,server.type=inet,server.host=h,path=/x",
            "driver=vvfat,dir=/",
            "driver=nvme,device=0000:01:00.0,namespace=1",
            "driver=raw,file.driver=ssh,file.path=x",
            "driver=blkdebug,config=/etc/x,image.driver=file,image.filename=a",
            "driver=file,filename=a,unheard-of=/etc/passwd",
            "driver=qcow2,file.driver=file,file.filename=a,odd.driver=file,odd.filename=b",
            "driver=newer,file=x",
        ] {
            assert!(matches!(blockdevs(&[value]), Err(Error::NotServed { .. })), "{value}");
        }
    }

    #[test]
    fn endless_nesting_is_refused_not_followed() {
        let deep = format!("{}driver=file", "file.".repeat(20_000));
        assert!(matches!(blockdevs(&[&deep]), Err(Error::Malformed { .. })));
        let json = format!(r#"{{"driver":"raw","{}x":"y"}}"#, "file.".repeat(20_000));
        assert!(matches!(blockdevs(&[&json]), Err(Error::Malformed { .. })));
    }
}
