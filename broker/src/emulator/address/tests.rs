use std::io;
use std::path::Path;

use super::*;
use crate::emulator::testing::inet;

fn text(typed: &str) -> Result<Option<Address>, Error> {
    let no_files = |_: &Path| Err(io::ErrorKind::NotFound.into());
    inet_text(&mut Draft::new(&no_files), "-x", OsStr::new(typed), Transport::Tcp)
}

fn pairs(typed: &str) -> Result<Named, Error> {
    let no_files = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let pairs = Pairs::parse("-x", OsStr::new(typed), None)?;
    of_pairs(&mut Draft::new(&no_files), "-x", &pairs, "addr.")
}

fn range(host: &str, first_port: u16, last_port: u16, ipv4: Option<bool>, ipv6: Option<bool>) -> Address {
    Address::Inet { host: host.to_owned(), first_port, last_port, ipv4, ipv6 }
}

#[test]
fn hosts_and_ports_in_one_word() {
    for (typed, expected) in [
        ("h:1", inet("h", 1)),
        (":1", inet("", 1)),
        ("0:4444", inet("0", 4444)),
        ("[::1]:65535", inet("::1", 65535)),
        ("[fe80::1%eth0]:2", inet("fe80::1%eth0", 2)),
        ("h:1,to=5", range("h", 1, 5, None, None)),
        ("h:1,ipv4", range("h", 1, 1, Some(true), None)),
        ("h:1,ipv4=off,ipv6=on", range("h", 1, 1, Some(false), Some(true))),
        ("h:1,to=3,ipv6,keep-alive=on", range("h", 1, 3, None, Some(true))),
        ("h:1,unheard=of", inet("h", 1)),
    ] {
        assert_eq!(text(typed).unwrap(), Some(expected), "{typed}");
    }
}

#[test]
fn what_qemu_refuses_has_no_address() {
    let long = format!("{}:1", "h".repeat(65));
    for typed in [
        "",
        "h",
        "1",
        "h:",
        ":",
        "[::1]",
        "[::1]1",
        "[]:1",
        "[a",
        "h:1,to=x",
        "h:1,to=",
        "h:1,ipv4=maybe",
        "h:5,to=1",
        "h:1,ipv4=off,ipv6=off",
        "h:1,ipv4=on,,x",
        "h:noservice",
        &long,
    ] {
        assert_eq!(text(typed).unwrap(), None, "{typed}");
    }
    assert!(matches!(text("h:65536"), Err(Error::Malformed { .. })));
    assert!(matches!(text("h:1,to=70000"), Err(Error::Malformed { .. })));
    assert!(matches!(text("h:1,mptcp"), Err(Error::NotServed { .. })));
}

#[test]
fn addresses_in_pairs() {
    let path = |path: &str| Named::Address(Address::Unix { path: path.into() });
    for (typed, expected) in [
        ("addr.type=unix,addr.path=/a,,b", path("/a,b")),
        ("addr.type=unix,addr.path=/a,addr.abstract=off", path("/a")),
        ("addr.type=unix,addr.path=a,addr.abstract=on", Named::Address(Address::Abstract { name: b"a".to_vec() })),
        ("addr.type=inet,addr.host=h,addr.port=1,addr.numeric=on", Named::Address(inet("h", 1))),
        (
            "addr.type=inet,addr.host=h,addr.port=1,addr.to=4,addr.ipv6=off,addr.keep-alive=on",
            Named::Address(range("h", 1, 4, None, Some(false))),
        ),
        ("addr.type=fd,addr.str=7", Named::Descriptor("7".into())),
        ("addr.type=inet,addr.host=h", Named::Nothing),
        ("addr.type=inet,addr.port=1", Named::Nothing),
        ("addr.type=unix", Named::Nothing),
        ("addr.type=odd,addr.path=/x", Named::Nothing),
        ("addr.path=/x", Named::Nothing),
        ("addr.type=inet,addr.host=h,addr.port=1,addr.to=x", Named::Nothing),
    ] {
        assert_eq!(pairs(typed).unwrap(), expected, "{typed}");
    }
    for typed in [
        "addr.type=vsock,addr.port=1",
        "addr.type=unix,addr.path=/x,addr.newer=1",
        "addr.type=unix,addr.path=",
        "addr.type=inet,addr.host=h,addr.port=1,addr.mptcp=on",
    ] {
        assert!(matches!(pairs(typed), Err(Error::NotServed { .. })), "{typed}");
    }
    assert!(matches!(pairs("addr.type=unix,addr.path=a,addr.abstract=x"), Err(Error::Malformed { .. })));
}

#[test]
fn names_of_unix_sockets() {
    let name = |path: &str, in_abstract, tight| unix("-x", OsStr::new(path), in_abstract, tight).unwrap();
    assert_eq!(name("s", false, false), Some(Address::Unix { path: "s".into() }));
    let Some(Address::Abstract { name: padded }) = name("ab", true, false) else { panic!() };
    assert_eq!((padded.len(), &padded[..3]), (107, &b"ab\0"[..]));
    let (fits, long) = ("x".repeat(108), "x".repeat(109));
    assert!(name(&fits, false, true).is_some());
    assert_eq!(name(&long, false, true), None);
    assert_eq!(name(&fits, true, false), None);
    assert!(name(&fits[..107], true, true).is_some());
}
