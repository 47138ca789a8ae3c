//! What is read of each backend.

use super::super::testing::{assert_harmless, assert_not_served, line, line_with};
use super::super::{CommandLine, Error};
use super::{Network, Script, Source, Vhost};

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
        ("tap,id=n,fds=5:6,vhost=on,vhostfds=7:8", vec![5, 6, 7, 8]),
        ("tap,id=n,fd=5,br=br0", vec![5]),
        ("socket,id=n,fd=9", vec![9]),
        ("stream,id=n,server=off,addr.type=fd,addr.str=10", vec![10]),
        ("dgram,id=n,local.type=fd,local.str=11", vec![11]),
        ("vhost-vdpa,id=n,vhostfd=12", vec![12]),
        (r#"{"type":"tap","id":"n","fd":"13","vhost":true,"vhostfd":"14"}"#, vec![13, 14]),
        (r#"{"type":"stream","id":"n","addr":{"type":"fd","str":"15"}}"#, vec![15]),
    ] {
        let found = line(&["-netdev", value]).unwrap();
        assert_eq!(found.descriptors, expected.into_iter().collect(), "{value}");
        assert!(found.networks.is_empty(), "{value}");
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
        &["-netdev", "dgram,id=n,local.type=fd,local.str=3,remote.type=inet,remote.host=h,remote.port=1"],
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

#[test]
fn asking_for_cards_opens_no_backend() {
    for (option, value, expected) in [
        ("-nic", "tap,ifname=t,script=no,model=help", "model=help"),
        ("-nic", "bridge,br=lan,model=?", "model=help"),
        ("-nic", "model=help,type=tap", "model=help"),
        ("-nic", "model=help", "model=help"),
        ("-net", "nic,model=help", "nic,model=help"),
    ] {
        let found = line(&["-S", option, value]).unwrap();
        assert!(found.informational && found.networks.is_empty(), "{value}");
        assert_eq!(found.argv, ["qemu-system-x86_64", "-S", option, expected], "{value}");
    }
}

/// The one network of these words that the broker opens.
fn network(words: &[&str]) -> Result<Network, Error> {
    let CommandLine { mut networks, .. } = line(words)?;
    assert_eq!(networks.len(), 1, "{words:?}");
    Ok(networks.remove(0))
}

fn tap(interface: Option<&str>, script: Script, downscript: Script) -> Source {
    Source::Tap { interface: interface.map(str::to_owned), script, downscript }
}

fn bridge(bridge: &str, helper: Option<&str>) -> Source {
    Source::Bridge { bridge: bridge.to_owned(), helper: helper.map(Into::into) }
}

#[test]
fn taps_and_bridges_lead_to_what_they_name() {
    let named = |name: &str| Script::Named(name.into());
    for (words, expected) in [
        (["-netdev", "tap,id=n"], tap(None, Script::Default, Script::Default)),
        (["-net", "tap,ifname=,script=,downscript="], tap(None, Script::None, Script::None)),
        (["-nic", "tap,ifname=t%d,script=no"], tap(Some("t%d"), Script::None, Script::Default)),
        (["-netdev", "tap,id=n,br=b,downscript=/a,,b"], tap(None, Script::Default, named("/a,b"))),
        (
            ["-netdev", "{'type':'tap','id':'9','script':'x','ifname':'t0'}"],
            tap(Some("t0"), named("x"), Script::Default),
        ),
        (["-netdev", "bridge,id=n"], bridge("br0", None)),
        (["-nic", "bridge,br=b 0"], bridge("", None)),
        (["-net", "bridge,br=lan,helper=/h --x"], bridge("lan", Some("/h --x"))),
        (["-netdev", "tap,id=n,helper=/h"], bridge("br0", Some("/h"))),
        (["-netdev", "tap,id=n,helper=/h,br=lan,br=wan"], bridge("wan", Some("/h"))),
        (["-netdev", r#"{"id":"n","type":"bridge","br":"lan"}"#], bridge("lan", None)),
    ] {
        match network(&words) {
            Ok(found) => assert_eq!((found.source, found.queues, found.word), (expected, 1, 2), "{words:?}"),
            Err(error) => assert!(words[1].contains("b 0"), "{error}"),
        }
    }
}

#[test]
fn networks_stand_in_the_order_of_the_words() {
    let words = ["-nic", "tap,ifname=b", "-S", "-netdev", "bridge,id=n,br=c", "-net", "tap,ifname=d", "-nic", "none"];
    let found = line(&words).unwrap();
    let places: Vec<usize> = found.networks.iter().map(|network| network.word).collect();
    assert_eq!(places, [2, 5, 7]);
    assert_eq!(found.networks[1].option, "-netdev bridge,id=n,br=c");
}

#[test]
fn vhost_is_opened_where_it_is_asked_for_and_not_handed_in() {
    for (value, expected) in [
        ("", Vhost::Off),
        (",vhost=on", Vhost::On),
        (",vhost", Vhost::On),
        (",novhost", Vhost::Off),
        (",vhost=try", Vhost::Try),
        (",vhost=on,vhost=try", Vhost::Try),
        (",vhostforce=on", Vhost::On),
        (",vhost=off,vhostforce=on", Vhost::Off),
        (",vhost=on,vhostforce=off", Vhost::On),
        (",vhostfd=7", Vhost::Off),
        (",vhost=on,vhostfd=7", Vhost::Off),
    ] {
        assert_eq!(network(&["-netdev", &format!("tap,id=n{value}")]).unwrap().vhost, expected, "{value}");
    }
    let json = |vhost| network(&["-netdev", &format!("{{'type':'tap','id':'n','vhost':{vhost}}}")]).unwrap().vhost;
    assert_eq!([json("true"), json("'try'"), json("false")], [Vhost::On, Vhost::Try, Vhost::Off]);
    let found = line(&["-nic", "tap,vhost=on,vhostfd=7"]).unwrap();
    assert_eq!(found.descriptors, [7].into());
}

#[test]
fn vhost_is_opened_for_taps_that_are_handed_in() {
    for (value, queues, handed) in [
        ("tap,id=n,fd=5,vhost=on", 1, vec![5]),
        ("tap,id=n,fds=5:6:7,vhostforce=on", 3, vec![5, 6, 7]),
        ("{'type':'tap','id':'n','fds':'5:6','vhost':'try'}", 2, vec![5, 6]),
    ] {
        let found = line(&["-netdev", value]).unwrap();
        assert_eq!(found.descriptors, handed.into_iter().collect(), "{value}");
        assert_eq!((&found.networks[0].source, found.networks[0].queues), (&Source::Handed, queues), "{value}");
    }
}

#[test]
fn queues_and_headers_are_read() {
    for (value, queues, vnet_hdr) in [
        ("tap,id=n,queues=1,vnet_hdr=on", 1, Some(true)),
        ("tap,id=n,queues=0x10,vnet_hdr=off", 16, Some(false)),
        ("tap,id=n,queues=256", 256, None),
        ("tap,id=n,queues=010", 8, None),
        ("{'type':'tap','id':'n','queues':4,'vnet_hdr':true}", 4, Some(true)),
    ] {
        let found = network(&["-netdev", value]).unwrap();
        assert_eq!((found.queues, found.vnet_hdr), (queues, vnet_hdr), "{value}");
    }
    for queues in ["0", "257", "65537", "99999999999999999999", "x", "", "-1", "+2", "2 "] {
        let error = network(&["-netdev", &format!("tap,id=n,queues={queues}")]).unwrap_err().to_string();
        assert!(error.contains("1 to 256 (MAX_TAP_QUEUES)") || error.contains("expects a uint64 value"), "{error}");
    }
}

/// Fails unless each of these is an error of which the text is a part.
fn assert_refused(lines: &[(&str, &str, &str)]) {
    for (option, value, text) in lines {
        match line(&[option, value]) {
            Err(error) => assert!(error.to_string().contains(text), "{option} {value}: {error}"),
            Ok(found) => panic!("{option} {value}: {found:?}"),
        }
    }
}

#[test]
fn conflicts_are_refused_in_qemus_words() {
    let with_fd = "vnet_hdr=, helper=, queues=, fds=, and vhostfds= are invalid with fd=";
    for other in ["ifname=t", "script=", "downscript=no", "vnet_hdr=on", "helper=h", "queues=1", "fds=4", "vhostfds=4"]
    {
        assert_refused(&[("-netdev", &format!("tap,id=n,fd=3,{other}"), with_fd)]);
    }
    let with_fds = "vnet_hdr=, helper=, queues=, and vhostfd= are invalid with fds=";
    for other in ["ifname=t", "script=x", "downscript=", "vnet_hdr=off", "helper=h", "queues=2", "vhostfd=4"] {
        assert_refused(&[("-nic", &format!("tap,{other},fds=3:4"), with_fds)]);
    }
    let with_helper = "downscript=, vnet_hdr=, queues=, and vhostfds= are invalid with helper=";
    for other in ["ifname=t", "script=x", "downscript=", "vnet_hdr=off", "queues=2", "vhostfds=4"] {
        assert_refused(&[(
            "-net",
            &format!("tap,{other},helper=h"),
            if other.ends_with(['2', '4']) { "hubs" } else { with_helper },
        )]);
        assert_refused(&[("-nic", &format!("tap,{other},helper=h"), with_helper)]);
    }
    assert_refused(&[
        ("-net", "tap,queues=1", "Multiqueue tap cannot be used with hubs"),
        ("-net", "tap,fds=3", "Multiqueue tap cannot be used with hubs"),
        ("-net", "tap,fd=3,vhostfds=4", "Multiqueue tap cannot be used with hubs"),
        ("-netdev", "tap,id=n,vhostfds=3", "vhostfds= is invalid if fds= wasn't specified"),
        ("-netdev", "tap,id=n,fds=3:4,vhostfds=5", "The number of fds passed does not match"),
        ("-netdev", "tap,id=n,vhost=off,vhostfd=3", "vhostfd(s)= is not valid without vhost"),
        ("-netdev", "tap,id=n,queues=2,vhostfd=3", "one descriptor for several queues"),
        ("-netdev", "tap,id=n,fd=4,vhost=try,vhostfd=3", "say vhost=on"),
        ("-netdev", "tap,id=n,vhost=try,vhostforce=on", "exclude each other"),
    ]);
}

#[test]
fn what_qemu_would_refuse_is_refused_before_anything_is_opened() {
    assert_refused(&[
        ("-netdev", "tap,ifname=t", "Parameter 'id' is missing"),
        ("-netdev", "tap,id=9", "Parameter 'id' expects an identifier"),
        ("-netdev", "bridge,id=n,queues=2", "Invalid parameter 'queues'"),
        ("-netdev", "bridge,id=n,fd=3", "Invalid parameter 'fd'"),
        ("-netdev", "tap,id=n,model=e1000", "Invalid parameter 'model'"),
        ("-nic", "tap,addr=5", "Invalid parameter 'addr'"),
        ("-net", "tap,vlan=0", "Invalid parameter 'vlan'"),
        ("-netdev", "tap,id=n,vhost=maybe", "neither on nor off"),
        ("-netdev", "tap,id=n,vnet_hdr=1", "neither on nor off"),
        ("-netdev", "{'type':'tap','id':'n','id':'m'}", "JSON parse error, duplicate key"),
        ("-netdev", "{'type':'tap','id':'n','ifname':null}", "type for 'ifname', expected: string"),
        ("-netdev", "{'type':'tap','id':'n','queues':'2'}", "type for 'queues', expected: integer"),
        ("-netdev", "{'type':'tap','id':'n','vhost':'on'}", "type for 'vhost', expected: boolean"),
        ("-netdev", "{'type':'tap','id':'n','vnet_hdr':1}", "type for 'vnet_hdr', expected: boolean"),
        ("-netdev", "{'type':'tap','id':'n','x':{'y':1}}", "Invalid parameter 'x.y'"),
    ]);
}

#[test]
fn names_that_no_interface_can_have_are_refused() {
    for name in ["a/b", "a b", "sixteen-letters-", "..", "a:b", "a%", "%d%d", "a%%d", "%s", "a%dx%d"] {
        assert_refused(&[("-netdev", &format!("tap,id=n,ifname={name}"), "ifname=")]);
    }
    for name in ["", "a/b", "sixteen-letters-", "."] {
        assert_refused(&[("-nic", &format!("bridge,br={name}"), "br=: ")]);
    }
    assert_refused(&[("-netdev", "bridge,id=n,helper=", "helper= names no program")]);
    for name in ["t0", "%d", "a%db", "fifteen-letters"] {
        assert!(network(&["-nic", &format!("tap,ifname={name}")]).is_ok(), "{name}");
    }
}

#[test]
fn words_that_cannot_be_rewritten_are_refused() {
    assert_not_served(&[
        &["-netdev", "tap,id=n", "-set", "netdev.n.ifname=t"],
        &["-netdev", "tap,id=n", "-set", "netdev.n.sndbuf=0"],
        &["-nic", "bridge,id=n", "-set", "nic.n.br=lan"],
        &["-net", "tap,id=n", "-set", "net.n.script=no"],
        &["-netdev", "tap,id=n,fd=3", "-set", "netdev.n.vhost=on"],
        &["-netdev", "hubport,id=n", "-set", "netdev.n.type=tap"],
    ]);
    assert_harmless(&[&["-netdev", "hubport,id=n,hubid=0", "-set", "netdev.n.hubid=1"]]);
    let found = line(&["-netdev", "tap,id=n", "-set", "netdev.n.fd=3"]).unwrap();
    assert!(found.networks.is_empty() && found.descriptors.contains(&3));
    let found = line(&["-nic", "tap", "-device", "e1000,id=n", "-set", "device.n.mac=0:0:0:0:0:1"]).unwrap();
    assert_eq!(found.networks.len(), 1);
    for (section, served) in [
        ("[netdev \"n\"]\n type = \"tap\"\n", false),
        ("[nic]\n type = \"bridge\"\n", false),
        ("[net]\n type = \"tap\"\n ifname = \"t\"\n", false),
        ("[netdev \"n\"]\n type = \"tap\"\n fd = \"3\"\n vhost = \"on\"\n", false),
        ("[netdev \"n\"]\n type = \"tap\"\n fd = \"3\"\n", true),
    ] {
        let found = line_with(&["-readconfig", "f"], &|_| Ok(section.into()));
        assert_eq!(found.is_ok(), served, "{section}");
        assert!(served || matches!(found, Err(Error::NotServed { .. })), "{section}");
    }
}
