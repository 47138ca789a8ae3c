//! A plan in words, or as JSON.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use serde::Serialize;

use super::Plan;
use super::networks::{PlannedDatagrams, PlannedNetwork};
use crate::confine::identity::{Groups, Identity};
use crate::installation::Installation;
use crate::open::net::way::Way;
use crate::readable::readable;
use crate::serve::folders::Purpose;
use crate::serve::grants::{Access, Role};
use crate::serve::ledger::Limits;
use crate::serve::sockets::{SocketGrant, SocketPlace, SocketRole};
use crate::serve::terminals;

#[derive(Serialize)]
struct Shown<'a> {
    arguments: Vec<String>,
    identity: &'a Identity,
    image_user: Option<ShownUser>,
    installation: &'a Installation,
    grants: Vec<ShownGrant>,
    made: Vec<ShownGrant>,
    folders: Vec<ShownFolder>,
    create_limits: Limits,
    create_owner: Option<(u32, u32)>,
    networks: Vec<ShownNetwork>,
    sockets: Vec<ShownSocket>,
    pseudo_terminals: bool,
    rings: bool,
    locked_memory: bool,
    added_variable: Option<String>,
    incoming_command: Option<Vec<String>>,
    private: Vec<ShownPrivate>,
    shared: Vec<ShownShared>,
    also_shown: Vec<String>,
    also_listed: Vec<String>,
    absent: Vec<String>,
    inherited_descriptors: Vec<i32>,
    firmware_folders: Vec<String>,
    image_roots: Vec<String>,
    implied_image_roots: Vec<String>,
    landlock_abi: i32,
    stand_ins: Vec<&'static str>,
    broker_keeps_dac_override: bool,
    broker_keeps_chown: bool,
    broker_keeps_net_bind_service: bool,
    notices: &'a [String],
}

#[derive(Serialize)]
struct ShownGrant {
    name: String,
    access: Access,
    role: Role,
    option: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode_at: Option<String>,
}

#[derive(Serialize)]
struct ShownUser {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

#[derive(Serialize)]
struct ShownFolder {
    at: String,
    purpose: Purpose,
}

#[derive(Serialize)]
struct ShownNetwork {
    option: String,
    way: String,
    kind: &'static str,
    interface: Option<String>,
    bridge: Option<String>,
    bridge_acl: Option<String>,
    helper: Option<String>,
    queues: u16,
    vhost: bool,
    script: Option<String>,
    downscript: Option<String>,
}

#[derive(Serialize)]
struct ShownSocket {
    role: SocketRole,
    address: String,
    addresses: Vec<IpAddr>,
    option: String,
}

#[derive(Serialize)]
struct ShownPrivate {
    at: String,
    on_disk_in: Option<String>,
}

#[derive(Serialize)]
struct ShownShared {
    at: String,
    read_only: bool,
    option: String,
}

/// Prints `plan` on standard output.
#[must_use]
pub fn print(plan: &Plan, json: bool) -> ExitCode {
    let shown = show(plan);
    let mut out = io::stdout().lock();
    let printed = if json {
        serde_json::to_writer_pretty(&mut out, &shown).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        write_words(&mut out, &shown)
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(125),
    }
}

fn show(plan: &Plan) -> Shown<'_> {
    let grants = plan.grants.iter().map(|grant| ShownGrant {
        name: readable(&grant.name),
        access: grant.access,
        role: grant.role,
        option: grant.option.clone(),
        inode_at: Some(grant.pin.path().display().to_string()),
    });
    let made = plan.outputs.iter().map(|output| ShownGrant {
        name: output.name.to_string_lossy().into_owned(),
        access: output.access,
        role: output.role,
        option: output.option.clone(),
        inode_at: None,
    });
    let folders = plan
        .folders
        .iter()
        .filter(|folder| folder.only.is_none())
        .map(|folder| ShownFolder { at: folder.pin.path().display().to_string(), purpose: folder.purpose });
    let private = plan.private.iter().map(|private| ShownPrivate {
        at: private.at.display().to_string(),
        on_disk_in: private.on_disk_in.as_ref().map(|folder| folder.display().to_string()),
    });
    let shared = plan.shared.iter().map(|shared| ShownShared {
        at: shared.at.display().to_string(),
        read_only: shared.read_only,
        option: shared.option.clone(),
    });
    Shown {
        arguments: plan.command.executed().map(|word| word.to_string_lossy().into_owned()).collect(),
        identity: &plan.identity,
        image_user: plan.image_user.as_ref().map(|user| {
            let (uid, gid) = user.ids();
            ShownUser { uid, gid, groups: user.groups().collect() }
        }),
        installation: &plan.installation,
        grants: grants.collect(),
        made: made.chain(new_images(plan)).collect(),
        folders: folders.collect(),
        create_limits: plan.limits,
        create_owner: plan.owner,
        networks: plan.networks.iter().map(show_network).chain(plan.datagrams.iter().map(show_datagrams)).collect(),
        sockets: plan.sockets.iter().map(|grant| show_socket(grant)).collect(),
        pseudo_terminals: plan.terminals.is_some(),
        rings: plan.command.io_uring,
        locked_memory: plan.command.locks_memory || plan.pins_memory,
        added_variable: plan.added_variable(&|name| std::env::var_os(name)),
        incoming_command: plan.command.incoming.as_ref().map(|incoming| {
            let words = incoming.words.iter();
            words.map(|word| word.to_string_lossy().into_owned()).collect()
        }),
        private: private.collect(),
        shared: shared.collect(),
        also_shown: also_shown(plan).map(|path| path.display().to_string()).collect(),
        also_listed: plan.shown.folders.iter().map(|path| path.display().to_string()).collect(),
        absent: plan.absent.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect(),
        inherited_descriptors: plan.command.descriptors.iter().copied().collect(),
        firmware_folders: plan.firmware_folders.iter().map(|folder| folder.path.display().to_string()).collect(),
        image_roots: plan.image_roots.named.iter().map(|root| root.display().to_string()).collect(),
        implied_image_roots: plan.image_roots.implied.iter().map(|root| root.display().to_string()).collect(),
        landlock_abi: plan.host.abi as i32,
        stand_ins: crate::check::stand_ins(plan.host.abi).into_iter().map(|(_, stand_in)| stand_in).collect(),
        broker_keeps_dac_override: plan.keeps_override,
        broker_keeps_chown: plan.owner.is_some(),
        broker_keeps_net_bind_service: plan.binds_low_ports(),
        notices: &plan.notices,
    }
}

fn show_network(planned: &PlannedNetwork) -> ShownNetwork {
    let script = |name: &Option<OsString>| name.as_ref().map(|name| readable(name.as_bytes()));
    let mut shown = ShownNetwork {
        option: planned.network.option.clone(),
        way: planned.way.as_ref().map_or_else(|| "inherited descriptors".to_owned(), ToString::to_string),
        kind: "inherited",
        interface: None,
        bridge: None,
        bridge_acl: None,
        helper: None,
        queues: planned.network.queues,
        vhost: planned.vhost,
        script: script(&planned.up),
        downscript: script(&planned.down),
    };
    match &planned.way {
        None => {}
        Some(Way::Make(name)) => (shown.kind, shown.interface) = ("new-tap", Some(name.to_string())),
        Some(Way::Tap(name)) => (shown.kind, shown.interface) = ("tap", Some(name.to_string())),
        Some(Way::Macvtap { name, .. }) => (shown.kind, shown.interface) = ("macvtap", Some(name.to_string())),
        Some(Way::Join { bridge, list }) => {
            (shown.kind, shown.bridge) = ("bridge", bridge.names.first().cloned());
            shown.bridge_acl = Some(list.display().to_string());
        }
        Some(Way::Help { bridge, helper, .. }) => {
            (shown.kind, shown.bridge) = ("bridge-helper", Some(bridge.to_string()));
            shown.helper = Some(helper.to_string());
        }
    }
    shown
}

fn show_datagrams(planned: &PlannedDatagrams) -> ShownNetwork {
    ShownNetwork {
        option: planned.network.option.clone(),
        way: format!("{}, by the relay", planned.ends),
        kind: "datagrams",
        interface: None,
        bridge: None,
        bridge_acl: None,
        helper: None,
        queues: 1,
        vhost: false,
        script: None,
        downscript: None,
    }
}

fn show_socket(grant: &SocketGrant) -> ShownSocket {
    let addresses = match &grant.place {
        SocketPlace::Inet { addresses, .. } => addresses.clone(),
        SocketPlace::Datagram(place) => place.remote.addresses.clone(),
        SocketPlace::Path(_) | SocketPlace::Abstract(_) => Vec::new(),
    };
    ShownSocket { role: grant.role, address: grant.address(), addresses, option: grant.option.clone() }
}

/// Images that a tool makes.
fn new_images(plan: &Plan) -> impl Iterator<Item = ShownGrant> {
    let only = plan.folders.iter().filter_map(|folder| folder.only.as_ref().map(|only| (folder, only)));
    only.map(|(folder, only)| ShownGrant {
        name: folder.pin.path().join(&only.name).display().to_string(),
        access: Access::ReadWrite,
        role: Role::Created,
        option: only.option.clone(),
        inode_at: None,
    })
}

fn write_network(out: &mut impl Write, network: &ShownNetwork) -> io::Result<()> {
    let queues = if network.queues == 1 { "1 queue".to_owned() } else { format!("{} queues", network.queues) };
    let vhost = if network.vhost { ", vhost-net" } else { "" };
    writeln!(out, "network    {}, {queues}{vhost}, by `{}`", network.way, network.option)?;
    let scripts = [(&network.script, "when it is open"), (&network.downscript, "when the guest has ended")];
    for (script, when) in scripts {
        if let Some(script) = script {
            writeln!(out, "run        {script} {when}")?;
        }
    }
    Ok(())
}

/// What is shown besides, as it is on the host or as it was read there.
fn also_shown(plan: &Plan) -> impl Iterator<Item = &std::path::PathBuf> {
    plan.shown.trees.iter().chain(plan.shown.texts.iter().map(|(path, _)| path))
}

fn write_words(out: &mut impl Write, shown: &Shown<'_>) -> io::Result<()> {
    writeln!(out, "execute    {}", shown.arguments.join(" "))?;
    write!(out, "as         uid {}, gid {}", shown.identity.uid, shown.identity.gid)?;
    match &shown.identity.groups {
        Groups::Exactly(groups) => writeln!(out, ", groups {groups:?}")?,
        Groups::None | Groups::Kept => writeln!(out)?,
    }
    if let Some(ShownUser { uid, gid, groups }) = &shown.image_user {
        writeln!(out, "images     opened as uid {uid}, gid {gid}, groups {groups:?}")?;
    }
    writeln!(out, "program    {}", shown.installation.binary.display())?;
    for tree in &shown.installation.trees {
        writeln!(out, "show       {} read-only", tree.display())?;
    }
    for grant in shown.grants.iter().chain(&shown.made) {
        let verb = if grant.inode_at.is_some() { "grant" } else { "make" };
        writeln!(out, "{verb:<10} {} {}, as {:?}, by `{}`", grant.name, grant.access, grant.role, grant.option)?;
    }
    for folder in &shown.folders {
        match folder.purpose {
            Purpose::Media => writeln!(out, "media      regular files beneath {} read-only", folder.at)?,
            Purpose::Attachment => writeln!(out, "attach     regular files beneath {} read-write", folder.at)?,
            Purpose::Creation => writeln!(out, "create     new files beneath {}", folder.at)?,
        }
    }
    if shown.folders.iter().any(|folder| folder.purpose == Purpose::Creation) {
        let Limits { files, bytes } = shown.create_limits;
        let owner = shown.create_owner.map_or(String::new(), |(uid, gid)| format!(", for uid {uid}, gid {gid}"));
        writeln!(out, "create     {files} files at a time, of {bytes} bytes in all{owner}")?;
    }
    for network in &shown.networks {
        write_network(out, network)?;
    }
    for ShownSocket { role, address, addresses, option } in &shown.sockets {
        let found: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let found = if found.is_empty() { String::new() } else { format!(" ({})", found.join(", ")) };
        writeln!(out, "{:<10} {}{found}, by `{option}`", role.verb(), readable(address.as_bytes()))?;
    }
    if shown.pseudo_terminals {
        writeln!(out, "create     pseudo-terminals of the host, at most {} at a time", terminals::MOST)?;
    }
    if shown.rings {
        writeln!(out, "create     rings of io_uring, which carry reads, writes and waiting alone")?;
    }
    if shown.locked_memory {
        writeln!(out, "lift       the limit on locked memory, if the caller may (CAP_IPC_LOCK)")?;
    }
    if let Some(variable) = &shown.added_variable {
        writeln!(out, "set        {variable} in the emulator's environment")?;
    }
    if let Some(words) = &shown.incoming_command {
        writeln!(out, "run        {} for the state of the guest", words.join(" "))?;
    }
    for private in &shown.private {
        let place = private.on_disk_in.as_ref().map_or("in memory".into(), |folder| format!("on disk in {folder}"));
        writeln!(out, "private    {} {place}", private.at)?;
    }
    for shared in &shown.shared {
        let access = if shared.read_only { "read-only" } else { "to be written" };
        writeln!(out, "share      {} with all beneath it, {access}, by `{}`", shared.at, shared.option)?;
    }
    for path in &shown.also_shown {
        writeln!(out, "show       {path} read-only")?;
    }
    for path in &shown.also_listed {
        writeln!(out, "list       {path}, with nothing in it but what stands here")?;
    }
    for name in &shown.absent {
        writeln!(out, "absent     {name}")?;
    }
    for folder in &shown.firmware_folders {
        writeln!(out, "show       {folder} read-only, by -L")?;
    }
    for root in &shown.image_roots {
        writeln!(out, "root       {root} for backing files, by --image-root")?;
    }
    for root in &shown.implied_image_roots {
        writeln!(out, "root       {root} for backing files that are regular files and not hidden")?;
    }
    for descriptor in &shown.inherited_descriptors {
        writeln!(out, "inherit    descriptor {descriptor}")?;
    }
    writeln!(out, "landlock   ABI {}", shown.landlock_abi)?;
    for stand_in in &shown.stand_ins {
        writeln!(out, "instead    {stand_in}")?;
    }
    if shown.broker_keeps_dac_override {
        writeln!(out, "keep       CAP_DAC_OVERRIDE, in the broker, to open what belongs to others")?;
    }
    if shown.broker_keeps_chown {
        writeln!(out, "keep       CAP_CHOWN, in the broker, to give new files away")?;
    }
    if shown.broker_keeps_net_bind_service {
        writeln!(out, "keep       CAP_NET_BIND_SERVICE, in the broker, to bind ports that take it")?;
    }
    shown.notices.iter().try_for_each(|notice| writeln!(out, "note       {notice}"))
}
