//! Words before and after.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::super::super::parse;
use super::super::super::testing::line;
use super::super::super::value::Pairs;
use super::super::super::{CommandLine, Error};
use super::*;

/// The word of the first network, with descriptors.
fn rewritten(option: &str, typed: &str, queues: &[RawFd], vhosts: &[RawFd]) -> OsString {
    line(&[option, typed]).unwrap().networks[0].rewritten(queues, vhosts)
}

#[test]
fn what_finds_the_interface_goes_and_all_else_stays() {
    for (option, typed, queues, vhosts, executed) in [
        ("-netdev", "tap,id=n", &[5][..], &[][..], "tap,id=n,fd=5"),
        ("-netdev", "id=n,ifname=t0,type=tap,sndbuf=1M,", &[5], &[], "id=n,type=tap,sndbuf=1M,fd=5"),
        ("-netdev", "tap,script=a,,b,id=n,downscript=,vnet_hdr=on,br=x", &[5], &[], "tap,id=n,fd=5"),
        ("-netdev", "tap,novnet_hdr,id=n,poll-us=7", &[5], &[], "tap,id=n,poll-us=7,fd=5"),
        ("-netdev", "tap,id=n,queues=1", &[5], &[], "tap,id=n,fd=5"),
        ("-netdev", "tap,queues=3,id=n", &[5, 7, 6], &[], "tap,id=n,fds=5:7:6"),
        ("-netdev", "tap,id=n,queues=2,vhost=on", &[5, 6], &[8, 9], "tap,id=n,vhost=on,fds=5:6,vhostfds=8:9"),
        ("-netdev", "tap,id=n,vhost=on,vhostforce=on", &[5], &[8], "tap,id=n,vhost=on,vhostforce=on,fd=5,vhostfd=8"),
        ("-netdev", "tap,id=n,vhostforce=on", &[5], &[8], "tap,id=n,vhostforce=on,fd=5,vhostfd=8"),
        ("-netdev", "tap,id=n,vhost=y", &[5], &[8], "tap,id=n,vhost=y,fd=5,vhostfd=8"),
        ("-netdev", "tap,vhost=try,id=n", &[5], &[8], "tap,vhost=on,id=n,fd=5,vhostfd=8"),
        ("-netdev", "tap,vhost=try,id=n", &[5], &[], "tap,vhost=off,id=n,fd=5"),
        ("-netdev", "tap,id=n,vhost=off", &[5], &[], "tap,id=n,vhost=off,fd=5"),
        ("-netdev", "tap,id=n,vhost=on,vhostfd=3", &[5], &[], "tap,id=n,vhost=on,vhostfd=3,fd=5"),
        ("-netdev", "bridge,id=n,br=lan", &[5], &[], "tap,id=n,fd=5"),
        ("-netdev", "helper=/h --x,type=bridge,id=n", &[5], &[], "type=tap,id=n,fd=5"),
        ("-netdev", "tap,id=n,helper=/h,vhost=on", &[5], &[8], "tap,id=n,vhost=on,fd=5,vhostfd=8"),
        ("-nic", "bridge,model=e1000,br=lan,mac=2:0:0:0:0:1", &[5], &[], "tap,model=e1000,mac=2:0:0:0:0:1,fd=5"),
        ("-nic", "tap,ifname=t,model=a,,", &[5], &[], "tap,model=a,,,fd=5"),
        ("-net", "tap,ifname=t", &[5], &[], "tap,fd=5"),
        ("-net", "bridge", &[5], &[], "tap,fd=5"),
        ("-netdev", "tap,id=n,fd=4,vhost=on", &[], &[8], "tap,id=n,fd=4,vhost=on,vhostfd=8"),
        ("-netdev", "tap,fds=4:6,id=n,vhost=try", &[], &[8, 9], "tap,fds=4:6,id=n,vhost=on,vhostfds=8:9"),
        ("-netdev", "tap,fds=4,id=n,vhost=on", &[], &[8], "tap,fds=4,id=n,vhost=on,vhostfds=8"),
        ("-netdev", "tap,fd=4,id=n,vhostforce=on", &[], &[], "tap,fd=4,id=n,vhostforce=on,vhost=off"),
    ] {
        assert_eq!(rewritten(option, typed, queues, vhosts), executed, "{typed}");
    }
}

#[test]
fn json_stays_json_in_its_order() {
    for (typed, queues, vhosts, executed) in [
        (r#"{"id":"n","type":"tap"}"#, &[5][..], &[][..], r#"{"id":"n","type":"tap","fd":"5"}"#),
        (
            r#"{'type':'bridge','br':'lan','id':'a"b\'c','helper':'/h'}"#,
            &[5],
            &[],
            r#"{"type":"tap","id":"a\"b'c","fd":"5"}"#,
        ),
        (
            r#"{ "type":"tap", "queues":2, "id":"n", "sndbuf":1048576, "vhost":"try", "vnet_hdr":true }"#,
            &[5, 6],
            &[8, 9],
            r#"{"type":"tap","id":"n","sndbuf":1048576,"vhost":true,"fds":"5:6","vhostfds":"8:9"}"#,
        ),
        (
            r#"{"type":"tap","id":"n","vhost":"try","poll-us":4}"#,
            &[5],
            &[],
            r#"{"type":"tap","id":"n","vhost":false,"poll-us":4,"fd":"5"}"#,
        ),
        (
            r#"{"type":"tap","id":"n","fds":"3","vhostforce":true}"#,
            &[],
            &[8],
            r#"{"type":"tap","id":"n","fds":"3","vhostforce":true,"vhostfds":"8"}"#,
        ),
    ] {
        assert_eq!(rewritten("-netdev", typed, queues, vhosts), executed, "{typed}");
    }
}

#[test]
fn values_that_are_no_text_stay() {
    let typed = OsString::from_vec(b"tap,script=\xfe,model=\xff,,x".to_vec());
    let found = read("-nic", typed).unwrap();
    let executed = found.networks[0].rewritten(&[5], &[]);
    assert_eq!(executed, OsString::from_vec(b"tap,model=\xff,,x,fd=5".to_vec()));
}

fn read(option: &str, word: OsString) -> Result<CommandLine, Error> {
    parse(&["qemu-system-x86_64".into(), option.into(), word], &|_| Err(io::ErrorKind::NotFound.into()))
}

/// xorshift64 (Marsaglia, 2003): the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or(0)
    }

    fn of<'t>(&mut self, list: &[&'t str]) -> &'t str {
        list.get(self.below(list.len())).copied().unwrap_or_default()
    }
}

/// Some of a tap's or bridge's pairs, in any order, some of them several times.
fn random_word(random: &mut Random, option: &str) -> String {
    let mut pairs = vec![random.of(&["id=n", "id=a-b.c_9"])];
    let keys = [
        "ifname=t0",
        "ifname=t%d",
        "script=no",
        "script=/a,,b",
        "downscript=",
        "br=lan",
        "helper=/h",
        "vnet_hdr=on",
        "novnet_hdr",
        "queues=1",
        "queues=3",
        "sndbuf=0",
        "poll-us=1",
        "vhost=on",
        "vhost=try",
        "vhost=off",
        "vhost",
        "vhostforce=on",
        "vhostfd=3",
        "fd=4",
        "fds=4:5",
    ];
    let of_card = ["model=e1000", "model=a,,", "mac=52:54:00:12:34:56"];
    for _ in 0..random.below(7) {
        pairs.insert(random.below(pairs.len() + 1), random.of(&keys));
    }
    for _ in 0..random.below(3) {
        pairs.extend((option == "-nic").then(|| random.of(&of_card)));
    }
    match random.below(3) {
        0 => pairs.insert(0, "tap"),
        1 => pairs.insert(0, "bridge"),
        _ => pairs.push(random.of(&["type=tap", "type=bridge"])),
    }
    pairs.join(",")
}

/// The pairs that are neither dropped, nor about descriptors, nor changed.
fn remaining(word: &OsStr) -> Result<Vec<(String, OsString)>, Error> {
    let pairs = Pairs::parse("-x", word, Some("type"))?;
    let changes =
        |key: &str| DROPPED.contains(&key) || matches!(key, "type" | "vhost" | "fd" | "fds" | "vhostfd" | "vhostfds");
    Ok(pairs.iter().filter(|(key, _)| !changes(key)).map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

#[test]
fn random_words_are_handed_in_when_they_are_rewritten() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut served = 0;
    for _ in 0..20_000 {
        let option = random.of(&["-netdev", "-nic", "-net"]);
        let typed = OsString::from(random_word(&mut random, option));
        let Ok(found) = read(option, typed.clone()) else { continue };
        let Some(network) = found.networks.first() else { continue };
        let queues: Vec<RawFd> = (100..).take(network.queues.into()).collect();
        let vhosts: Vec<RawFd> = (200..).take(if random.below(2) == 0 { queues.len() } else { 0 }).collect();
        let vhosts = if network.vhost == Vhost::Off { &[][..] } else { &vhosts };
        let executed = network.rewritten(&queues, vhosts);
        let again = read(option, executed.clone()).unwrap_or_else(|error| panic!("{typed:?} to {executed:?}: {error}"));
        assert!(again.networks.is_empty(), "{typed:?} to {executed:?}");
        assert_eq!(remaining(&executed).unwrap(), remaining(&typed).unwrap(), "{typed:?} to {executed:?}");
        let mut descriptors = found.descriptors.clone();
        descriptors.extend(vhosts);
        descriptors.extend(queues.iter().filter(|_| network.source != super::super::Source::Handed));
        assert_eq!(again.descriptors, descriptors, "{typed:?} to {executed:?}");
        served += 1;
    }
    assert!(served > 2000, "{served} of 20000 words were served");
}
