//! From the block graph to the images that QEMU opens.
//!
//! The rules of access are those of `bdrv_inherited_options` in QEMU's `block.c`: a node described in
//! place takes `read-only` and `auto-read-only` from its parent, a backing file is read-only, and with
//! `auto-read-only` a file is opened for writing only while somebody above wants to write.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::address;
use super::blockdev::{Child, Node, Role, Target};
use super::descriptor;
use super::draft::{Draft, OpenedBy};
use super::driver::{self, Driver};
use super::endpoint::EndpointUse;
use super::error::Error;
use super::resource::{Access, Backing, Descriptor, Image, Kind};

/// More nodes on one way down than any real chain has; QEMU cannot make a cycle of them.
const MAX_DEPTH: usize = 100;

/// More images than a command line can name in earnest; nodes that share children could name billions.
const MAX_IMAGES: usize = 10_000;

/// What a node learns from those above it.
#[derive(Clone)]
struct Above {
    /// The format whose header the file holds, and what becomes of its backing file.
    format: Option<String>,
    backing: Backing,
    data_file_given: bool,
    layers: Vec<String>,
    /// A header is read from the node below (so that a raw node in between is only a window).
    has_format: bool,
    read_only: bool,
    auto_read_only: bool,
    /// The host's cache is bypassed.
    direct: bool,
    /// Somebody above may want to write.
    writer: bool,
    overlaid: bool,
    depth: usize,
}

/// One file to be opened.
struct Opened {
    option: String,
    name: OsString,
    image: Image,
}

/// Adds an image, or a server, for every protocol node of the graph.
///
/// # Errors
/// [`Error::Malformed`] for a graph too deep or too large, [`Error::NotServed`] as [`Draft::file`].
pub(super) fn add_images(draft: &mut Draft<'_>) -> Result<(), Error> {
    let nodes = std::mem::take(&mut draft.nodes);
    let mut names = BTreeMap::new();
    let mut referred = BTreeSet::new();
    for node in &nodes {
        register(node, &mut names, &mut referred);
    }
    nodes.iter().try_for_each(|node| add_servers(draft, node))?;
    let mut found = Vec::new();
    for root in nodes.iter().filter(|n| n.name.as_ref().is_none_or(|name| !referred.contains(name))) {
        walk(root, &top(), &names, &mut found)?;
    }
    for opened in found {
        let kind = Kind::Image(opened.image);
        draft.file(&opened.option, &opened.name, kind, OpenedBy::QemuOpen)?;
    }
    Ok(())
}

/// Adds the servers that a node and those below it connect to.
fn add_servers(draft: &mut Draft<'_>, node: &Node) -> Result<(), Error> {
    if let Some(name) = &node.looked_at {
        draft.file(&node.option, name, Kind::NoFile, OpenedBy::Plain)?;
    }
    if let Some(server) = &node.server {
        let named = address::of_pairs(draft, &node.option, server, "server.")?;
        address::note(draft, &node.option, EndpointUse::Connect, named)?;
    }
    node.children.iter().try_for_each(|child| match &child.target {
        Target::Inline(below) => add_servers(draft, below),
        Target::Named(_) => Ok(()),
    })
}

fn register<'n>(node: &'n Node, names: &mut BTreeMap<&'n str, &'n Node>, referred: &mut BTreeSet<String>) {
    if let Some(name) = &node.name {
        names.insert(name, node);
    }
    for child in &node.children {
        match &child.target {
            Target::Inline(below) => register(below, names, referred),
            Target::Named(name) => {
                referred.insert(name.clone());
            }
        }
    }
}

/// What a node with nothing above it starts from: a device may write to it, and reads it as it is.
fn top() -> Above {
    Above {
        format: Some("raw".to_owned()),
        backing: Backing::Ignored,
        data_file_given: false,
        layers: Vec::new(),
        has_format: false,
        read_only: false,
        auto_read_only: false,
        direct: false,
        writer: true,
        overlaid: false,
        depth: 0,
    }
}

fn walk(node: &Node, above: &Above, names: &BTreeMap<&str, &Node>, found: &mut Vec<Opened>) -> Result<(), Error> {
    if above.depth > MAX_DEPTH || found.len() >= MAX_IMAGES {
        return Err(Error::malformed(
            &node.option,
            "the block nodes are nested too deeply or too many; check for a node below itself",
        ));
    }
    let here = Above {
        read_only: node.read_only.unwrap_or(above.read_only),
        auto_read_only: node.auto_read_only.unwrap_or(above.auto_read_only),
        direct: node.direct.unwrap_or(above.direct),
        overlaid: node.overlaid || above.overlaid,
        depth: above.depth + 1,
        ..above.clone()
    };
    if let Some(name) = &node.file {
        found.push(opened(node, name, &here)?);
    }
    let here = reading(node, here)?;
    for child in &node.children {
        match &child.target {
            Target::Inline(below) => walk(below, &inline(child, &here), names, found)?,
            Target::Named(name) => {
                if let Some(below) = names.get(name.as_str()) {
                    walk(below, &referred_to(child, &here), names, found)?;
                }
            }
        }
    }
    Ok(())
}

fn opened(node: &Node, name: &OsString, here: &Above) -> Result<Opened, Error> {
    let descriptor =
        node.descriptor.map(|number| Descriptor { number, direct: here.direct, silent_word: node.silent_word });
    if let Some(descriptor) = descriptor {
        descriptor::check(&node.option, descriptor.number, here.format.is_some())?;
    }
    let writes = !here.read_only && (here.writer || !here.auto_read_only);
    Ok(Opened {
        option: node.option.clone(),
        name: name.clone(),
        image: Image {
            format: here.format.clone(),
            access: if writes { Access::ReadWrite } else { Access::ReadOnly },
            backing: here.backing,
            data_file_given: here.data_file_given,
            layers: here.layers.clone(),
            overlaid: here.overlaid,
            descriptor,
            commit: None,
        },
    })
}

/// What the main child of `node` is read as.
fn reading(node: &Node, above: Above) -> Result<Above, Error> {
    let kind = node.driver.as_deref().and_then(driver::find);
    let follows = match kind {
        None => true,
        Some(Driver::Format(follows)) => follows,
        Some(_) => return Ok(above),
    };
    if node.driver.as_deref() == Some("raw") && above.has_format {
        if node.window && above.backing == Backing::Header {
            return Err(Error::not_served(
                &node.option,
                "an overlay in a window of a file",
                "name its backing file (or backing=null), for the header cannot be found beforehand",
            ));
        }
        return Ok(above);
    }
    let header = follows && !node.backing_given;
    Ok(Above {
        format: node.driver.clone(),
        backing: if header { Backing::Header } else { Backing::Ignored },
        data_file_given: node.children.iter().any(|child| child.role == Role::Data),
        layers: if header { layers(node) } else { Vec::new() },
        has_format: true,
        ..above
    })
}

/// The formats of `backing.driver=`, `backing.backing.driver=` and so on, as far as they are stated.
fn layers(node: &Node) -> Vec<String> {
    let below = |node: &Node| {
        let backing = node.children.iter().find(|child| child.role == Role::Backing)?;
        match &backing.target {
            Target::Inline(below) => Some(below.as_ref().clone()),
            Target::Named(_) => None,
        }
    };
    let nodes = std::iter::successors(below(node), below);
    nodes.map_while(|node| node.driver).collect()
}

/// What a child described in place takes over from its parent.
fn inline(child: &Child, parent: &Above) -> Above {
    let backing = child.role == Role::Backing;
    Above {
        read_only: parent.read_only || backing,
        auto_read_only: parent.auto_read_only && !backing,
        ..role(child, parent)
    }
}

/// What a child that is referred to learns: its own options stand alone.
fn referred_to(child: &Child, parent: &Above) -> Above {
    Above { read_only: false, auto_read_only: false, direct: false, ..role(child, parent) }
}

fn role(child: &Child, parent: &Above) -> Above {
    let writer = parent.writer && !parent.read_only && child.role != Role::Backing;
    let from = if child.role == Role::Main { parent.clone() } else { top() };
    Above {
        writer,
        read_only: parent.read_only,
        auto_read_only: parent.auto_read_only,
        direct: parent.direct,
        overlaid: parent.overlaid || child.role == Role::Backing,
        depth: parent.depth,
        ..from
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{blockdevs, image, line, overlaid, ro, rw};
    use super::*;

    #[test]
    fn a_keyed_node_with_its_file_in_place() {
        let found = blockdevs(&["driver=qcow2,node-name=d,file.driver=file,file.filename=a"]).unwrap();
        assert_eq!(found, [image("a", Some("qcow2"), rw(), Backing::Header)]);
        let found = blockdevs(&["qcow2,file.driver=file,file.filename=a,,b,read-only=on"]).unwrap();
        assert_eq!(found, [image("a,b", Some("qcow2"), ro(), Backing::Header)]);
    }

    #[test]
    fn references_as_libvirt_writes_them() {
        let found = blockdevs(&[
            r#"{"driver":"file","filename":"/i/base","node-name":"s2","auto-read-only":true,"discard":"unmap"}"#,
            r#"{"node-name":"f2","read-only":true,"driver":"qcow2","file":"s2","backing":null}"#,
            r#"{"driver":"file","filename":"/i/top","node-name":"s1","auto-read-only":true,"discard":"unmap"}"#,
            r#"{"node-name":"f1","read-only":false,"driver":"qcow2","file":"s1","backing":"f2"}"#,
        ])
        .unwrap();
        assert_eq!(
            found,
            [
                image("/i/top", Some("qcow2"), rw(), Backing::Ignored),
                overlaid("/i/base", Some("qcow2"), ro(), Backing::Ignored),
            ]
        );
    }

    #[test]
    fn a_backing_node_without_any_read_only_is_opened_for_writing() {
        let found = blockdevs(&[
            "driver=file,filename=base,node-name=b",
            "driver=qcow2,node-name=t,file.driver=file,file.filename=top,backing=b",
        ])
        .unwrap();
        assert!(found.contains(&overlaid("base", Some("raw"), rw(), Backing::Ignored)));
    }

    #[test]
    fn formats_of_layers_that_headers_name_are_found() {
        let line = line(&["-drive", "file=x,format=qcow2,backing.driver=qcow2,backing.backing.driver=raw"]).unwrap();
        let Some(Kind::Image(image)) = line.resources.first().map(|resource| &resource.kind) else {
            panic!("{line:?}");
        };
        assert_eq!(image.layers, ["qcow2", "raw"]);
        assert_eq!(image.backing, Backing::Header);
    }

    #[test]
    fn inline_backing_files_are_read_only_all_the_way_down() {
        let found = blockdevs(&[r"{'driver':'qcow2','node-name':'t','file':{'driver':'file','filename':'top'},
            'backing':{'driver':'qcow2','file':{'driver':'file','filename':'mid'},
            'backing':{'driver':'raw','file':{'driver':'file','filename':'base'}}}}"])
        .unwrap();
        assert_eq!(
            found,
            [
                image("top", Some("qcow2"), rw(), Backing::Ignored),
                overlaid("mid", Some("qcow2"), ro(), Backing::Ignored),
                overlaid("base", Some("raw"), ro(), Backing::Ignored),
            ]
        );
    }

    #[test]
    fn a_data_file_is_bare_and_writable() {
        let found =
            blockdevs(&["driver=qcow2,file.driver=file,file.filename=q,data-file.driver=file,data-file.filename=d"])
                .unwrap();
        assert_eq!(
            found,
            [
                ("q".to_owned(), Image { data_file_given: true, ..image("q", Some("qcow2"), rw(), Backing::Header).1 }),
                image("d", Some("raw"), rw(), Backing::Ignored),
            ]
        );
    }

    #[test]
    fn filters_pass_the_format_through() {
        let throttled =
            "driver=qcow2,file.driver=throttle,file.throttle-group=g,file.file.driver=file,file.file.filename=a";
        assert_eq!(blockdevs(&[throttled]).unwrap(), [image("a", Some("qcow2"), rw(), Backing::Header)]);
        let above = "driver=throttle,throttle-group=g,file.driver=qcow2,file.file.driver=file,file.file.filename=a";
        assert_eq!(blockdevs(&[above]).unwrap(), [image("a", Some("qcow2"), rw(), Backing::Header)]);
        let bare = "driver=throttle,throttle-group=g,file.driver=file,file.filename=a";
        assert_eq!(blockdevs(&[bare]).unwrap(), [image("a", Some("raw"), rw(), Backing::Ignored)]);
    }

    #[test]
    fn members_of_a_quorum_are_images_of_their_own() {
        let found = blockdevs(&["driver=quorum,vote-threshold=1,children.0.driver=qcow2,children.0.file.driver=file,\
             children.0.file.filename=a,children.1.driver=raw,children.1.file.driver=host_device,\
             children.1.file.filename=/dev/sdx"])
        .unwrap();
        assert_eq!(
            found,
            [image("a", Some("qcow2"), rw(), Backing::Header), image("/dev/sdx", Some("raw"), rw(), Backing::Ignored),]
        );
    }

    #[test]
    fn a_raw_window_below_an_overlay_needs_a_stated_backing_file() {
        let window = "driver=qcow2,file.driver=raw,file.offset=512,file.file.driver=file,file.file.filename=a";
        assert!(matches!(blockdevs(&[window]), Err(Error::NotServed { .. })));
        let json = r#"{"driver":"qcow2","backing":null,"file":{"driver":"raw","offset":512,"file":{"driver":"file","filename":"a"}}}"#;
        assert_eq!(blockdevs(&[json]).unwrap(), [image("a", Some("qcow2"), rw(), Backing::Ignored)]);
    }

    #[test]
    fn graphs_without_end_are_refused() {
        let cycle = ["driver=raw,node-name=a,file=b", "driver=raw,node-name=b,file=a", "driver=raw,node-name=c,file=a"];
        assert!(matches!(blockdevs(&cycle), Err(Error::Malformed { .. })));
        let mut words = vec!["driver=file,filename=x,node-name=n0".to_owned()];
        for i in 0..40 {
            words.push(format!("driver=quorum,vote-threshold=1,children.0=n{i},children.1=n{i},node-name=n{}", i + 1));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert!(matches!(blockdevs(&words), Err(Error::Malformed { .. })));
    }

    #[test]
    fn descriptor_sets_need_no_resource() {
        let set = r#"{"driver":"file","filename":"/dev/fdset/3","node-name":"s"}"#;
        assert_eq!(blockdevs(&[set]).unwrap(), []);
    }
}
