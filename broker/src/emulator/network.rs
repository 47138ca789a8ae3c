//! Networks: `-netdev`, `-nic`, `-net`. Only descriptors are handed in yet.

use super::draft::{Draft, Group};
use super::error::Error;
use super::value::{Pairs, is_help};

/// Keys that name nothing by themselves, of the backends and cards that are served.
const HARMLESS_KEYS: &[&str] = &[
    "id",
    "type",
    "model",
    "mac",
    "macaddr",
    "name",
    "addr",
    "vectors",
    "netdev",
    "hubid",
    "chardev",
    "queues",
    "sndbuf",
    "vnet_hdr",
    "poll-us",
    "vhost",
    "vhostforce",
    "server",
    "addr.type",
    "local.type",
    "x-svq",
    "reconnect-ms",
];

/// Keys whose value is a descriptor or, after the `s`, a list of them.
const DESCRIPTOR_KEYS: &[(&str, bool)] =
    &[("fd", false), ("fds", true), ("vhostfd", false), ("vhostfds", true), ("addr.str", false), ("local.str", false)];

const HAND_IN: &str = "use -nic none, or hand an open one over: tap,fd=N or stream,addr.type=fd,addr.str=N";

/// `-netdev`, `-nic` and `-net`.
///
/// # Errors
/// [`Error::NotServed`] for every backend that opens something itself.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    draft.network |= !group.from_file;
    if ["type", "model"].iter().any(|key| pairs.get(key).is_some_and(is_help)) {
        draft.line.informational = true;
        return Ok(());
    }
    // -nic without a type is user networking (net_param_nic in net/net.c).
    let kind = pairs.text("type").unwrap_or("user");
    let served = match kind {
        "none" | "nic" | "hubport" | "vhost-user" => true,
        "tap" => {
            let vhost = switched_on(option, pairs, "vhost")? || switched_on(option, pairs, "vhostforce")?;
            either(pairs, "fd", "fds") && (!vhost || either(pairs, "vhostfd", "vhostfds"))
        }
        "socket" => pairs.get("fd").is_some(),
        "stream" => pairs.get("addr.type").is_some_and(|t| t == "fd"),
        "dgram" => pairs.get("local.type").is_some_and(|t| t == "fd"),
        "vhost-vdpa" => pairs.get("vhostfd").is_some(),
        _ => false,
    };
    if !served {
        return Err(Error::not_served(option, format!("the network backend {kind}"), HAND_IN));
    }
    read_keys(draft, option, pairs)
}

fn read_keys(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    for (key, value) in pairs.iter() {
        match DESCRIPTOR_KEYS.iter().find(|(k, _)| *k == key) {
            Some((_, true)) => draft.descriptors(option, value)?,
            Some((_, false)) => draft.descriptor(option, value)?,
            None if HARMLESS_KEYS.contains(&key) => {}
            None => {
                let what = format!("{key}={}", value.to_string_lossy());
                return Err(Error::not_served(option, what, HAND_IN));
            }
        }
    }
    Ok(())
}

fn either(pairs: &Pairs, one: &str, many: &str) -> bool {
    pairs.get(one).is_some() || pairs.get(many).is_some()
}

fn switched_on(option: &str, pairs: &Pairs, key: &str) -> Result<bool, Error> {
    Ok(pairs.switch(option, key)?.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_harmless, assert_not_served, line};

    #[test]
    fn no_network_and_inner_networks_name_nothing() {
        assert_harmless(&[
            &["-nic", "none"],
            &["-net", "none"],
            &["-net", "nic,model=e1000,macaddr=52:54:00:12:34:56"],
            &["-netdev", "hubport,id=h,hubid=0"],
            &["-netdev", "{'type':'vhost-user','id':'n','chardev':'c'}"],
        ]);
    }

    #[test]
    fn descriptors_are_noted() {
        for (value, expected) in [
            ("tap,id=n,fd=5", vec![5]),
            ("tap,id=n,fds=5:6,vhost=on,vhostfds=7:8,queues=2", vec![5, 6, 7, 8]),
            ("socket,id=n,fd=9", vec![9]),
            ("stream,id=n,server=off,addr.type=fd,addr.str=10", vec![10]),
            ("dgram,id=n,local.type=fd,local.str=11", vec![11]),
            ("vhost-vdpa,id=n,vhostfd=12", vec![12]),
            (r#"{"type":"tap","id":"n","fd":"13","vhost":true,"vhostfd":"14"}"#, vec![13, 14]),
            (r#"{"type":"stream","id":"n","addr":{"type":"fd","str":"15"}}"#, vec![15]),
        ] {
            let found = line(&["-netdev", value]).unwrap();
            assert_eq!(found.descriptors, expected.into_iter().collect(), "{value}");
        }
        let found = line(&["-nic", "tap,fd=3,model=virtio,mac=52:54:00:00:00:01"]).unwrap();
        assert_eq!(found.descriptors, [3].into());
    }

    #[test]
    fn what_opens_something_itself_is_refused() {
        assert_not_served(&[
            &["-netdev", "user,id=n"],
            &["-nic", "user"],
            &["-nic", "model=e1000"],
            &["-net", "user"],
            &["-netdev", "tap,id=n"],
            &["-netdev", "tap,id=n,ifname=t0,script=no"],
            &["-netdev", "tap,id=n,fd=3,script=/x"],
            &["-netdev", "tap,id=n,fd=3,vhost=on"],
            &["-netdev", "tap,id=n,fd=3,vhostforce=on"],
            &["-netdev", "tap,id=n,fd=3,helper=/x"],
            &["-netdev", "bridge,id=n"],
            &["-netdev", "socket,id=n,listen=:1"],
            &["-netdev", "socket,id=n,fd=3,connect=h:1"],
            &["-netdev", "stream,id=n,addr.type=unix,addr.path=/x"],
            &["-netdev", "dgram,id=n,local.type=fd,local.str=3,remote.type=inet,remote.host=h,remote.port=1"],
            &["-netdev", "vhost-vdpa,id=n,vhostdev=/dev/vhost-vdpa-0"],
            &["-netdev", "vde,id=n"],
            &["-netdev", "l2tpv3,id=n,src=a,dst=b,txsession=1"],
            &["-netdev", "af-xdp,id=n,ifname=e,sock-fds=3"],
            &["-netdev", "passt,id=n"],
        ]);
        assert!(line(&["-netdev", "tap,id=n,fd=net0"]).is_err());
        assert!(line(&["-netdev", "tap,id=n,fd=3,vhost=maybe"]).is_err());
    }

    #[test]
    fn asking_for_help_starts_nothing() {
        assert!(line(&["-netdev", "help"]).unwrap().informational);
        assert!(line(&["-nic", "model=help"]).unwrap().informational);
    }
}
