//! What is read of networks of datagrams, and what QEMU gets instead.

use super::super::super::testing::{assert_not_served, line, line_with};
use super::{Addresses, HostPort};

fn at(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

#[test]
fn addresses_go_and_a_descriptor_comes() {
    let (local, remote) = (at("10.0.0.1", 1000), at("h", 2000));
    let unicast = Addresses::Unicast { local: local.clone(), remote: remote.clone() };
    let inet = Addresses::Inet { local: Some(local), remote };
    let unix = Addresses::Unix { local: "/run/a,b".into(), remote: "c".into() };
    let group = |interface| Addresses::Multicast { group: at("230.0.0.1", 0x10), interface };
    let of_group = Addresses::Inet { local: None, remote: at("230.0.0.1", 16) };
    for (option, typed, addresses, executed) in [
        ("-netdev", "socket,id=n,udp=h:2000,localaddr=10.0.0.1:1000", unicast.clone(), "socket,id=n,fd=7"),
        ("-nic", "socket,udp=h:2000,model=e1000,localaddr=10.0.0.1:1000", unicast, "socket,model=e1000,fd=7"),
        ("-net", "socket,mcast=230.0.0.1:0x10", group(None), "socket,fd=7"),
        (
            "-netdev",
            "{'type':'socket','mcast':'230.0.0.1:020','localaddr':'10.0.0.1','id':'n'}",
            group(Some("10.0.0.1".into())),
            r#"{"type":"socket","id":"n","fd":"7"}"#,
        ),
        (
            "-netdev",
            "dgram,local.type=inet,local.host=10.0.0.1,local.port=1000,id=n,remote.type=inet,remote.host=h,\
                     remote.port=2000,remote.ipv4=on",
            inet.clone(),
            "dgram,id=n,local.type=fd,local.str=7",
        ),
        (
            "-netdev",
            "dgram,id=n,remote.type=inet,remote.host=230.0.0.1,remote.port=16",
            of_group,
            "dgram,id=n,local.type=fd,local.str=7",
        ),
        (
            "-netdev",
            "type=dgram,id=n,local.type=unix,local.path=/run/a,,b,remote.type=unix,remote.path=c",
            unix,
            "type=dgram,id=n,local.type=fd,local.str=7",
        ),
        (
            "-netdev",
            r#"{"type":"dgram","id":"n","local":{"type":"inet","host":"10.0.0.1","port":"1000"},
                        "remote":{"type":"inet","host":"h","port":"2000"}}"#,
            inet,
            r#"{"type":"dgram","id":"n","local":{"str":"7","type":"fd"}}"#,
        ),
    ] {
        let found = line(&[option, typed]).unwrap();
        assert_eq!(found.datagrams.len(), 1, "{typed}");
        assert_eq!((&found.datagrams[0].addresses, found.datagrams[0].word), (&addresses, 2), "{typed}");
        assert_eq!(found.datagrams[0].rewritten(7), executed, "{typed}");
        assert!(found.networks.is_empty() && found.descriptors.is_empty(), "{typed}");
    }
}

#[test]
fn what_qemu_refuses_is_refused_in_its_words() {
    let local = "local.type=inet,local.host=h,local.port=1";
    let remote = "remote.type=inet,remote.host=h,remote.port=1";
    for (value, words) in [
        ("socket,id=n,udp=h:1", "localaddr= is mandatory with udp="),
        ("socket,id=n,udp=h,localaddr=:1", "host address 'h' doesn't contain ':' separating host from port"),
        ("socket,id=n,udp=h:x,localaddr=:1", "port number 'x' is invalid"),
        ("socket,id=n,udp=h:65536,localaddr=:1", "port number '65536' is invalid"),
        ("socket,id=n,udp=h:1,localaddr=:1,mcast=h:1", "exactly one of listen=, connect=, mcast= or udp= is required"),
        ("socket,id=n,mcast=h:1,fd=3", "exactly one of listen=, connect=, mcast= or udp= is required"),
        ("socket,udp=h:1,localaddr=:1", "Parameter 'id' is missing"),
        ("socket,id=n,udp=h:1,localaddr=:1,ifname=t", "Invalid parameter 'ifname'"),
        ("dgram,id=n", "dgram requires local= parameter"),
        (&format!("dgram,id=n,{local}"), "type=inet or type=unix requires remote parameter"),
        (&format!("dgram,{local},{remote}"), "Parameter 'id' is missing"),
        (&format!("dgram,id=n,{local},{remote},x=y"), "Parameter 'x' is unexpected"),
        (&format!("dgram,id=n,{local},{remote},local.path=y"), "Parameter 'local.path' is unexpected"),
        (&format!("dgram,id=n,{local},remote.type=inet,remote.host=h"), "Parameter 'remote.port' is missing"),
        (&format!("dgram,id=n,{local},remote.host=h,remote.port=1"), "Parameter 'remote.type' is missing"),
        (&format!("dgram,id=n,{local},{remote},local.ipv4=x"), "local.ipv4=x is neither on nor off"),
        (
            "dgram,id=n,local.type=unix,local.path=a,remote.type=inet,remote.host=h,remote.port=1",
            "remote and local types must be the same",
        ),
        (
            r#"{"type":"dgram","id":"n","local":{"type":"inet","host":"h","port":1},
             "remote":{"type":"inet","host":"h","port":"1"}}"#,
            "Invalid parameter type for 'port', expected: string",
        ),
        (r#"{"type":"socket","id":"n","mcast":"h:1","mcast":"h:2"}"#, "duplicate key"),
    ] {
        let error = line(&["-netdev", value]).unwrap_err().to_string();
        assert!(error.starts_with("-netdev ") && error.contains(words), "{value}: {error}");
    }
    let long = format!("dgram,id=n,local.type=unix,local.path=/{},remote.type=unix,remote.path=b", "a".repeat(107));
    assert!(line(&["-netdev", &long]).unwrap_err().to_string().contains("is too long"));
}

#[test]
fn what_cannot_be_rewritten_is_refused() {
    assert_not_served(&[
        &["-netdev", "socket,id=n,udp=h:1,localaddr=:1", "-set", "netdev.n.localaddr=:2"],
        &["-netdev", "dgram,id=n,local.type=vsock,local.host=h,remote.type=vsock,remote.host=h"],
        &["-nic", "dgram,local.type=inet,local.host=h,local.port=1,remote.type=inet,remote.host=h,remote.port=1"],
    ]);
    let file = b"[netdev \"n\"]\n type = \"socket\"\n mcast = \"230.0.0.1:1\"\n".to_vec();
    let found = line_with(&["-readconfig", "f"], &|_| Ok(file.clone()));
    assert!(found.unwrap_err().to_string().contains("datagrams in a file is not served"));
}
