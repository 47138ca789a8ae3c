//! The files by which the C library inside the sandbox turns names of hosts into addresses: it knows those that the command
//! line names, as the broker has found them, and prefers one address to another as the host does.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::plan::sockets::named_hosts;
use crate::serve::sockets::{SocketGrant, SocketPlace};

/// Where the C library looks (nsswitch.conf(5)): in files alone. There is nobody else to ask.
const SWITCH: &str = "hosts: files\nservices: files\nprotocols: files\n";

/// Several lines for one name are several addresses (host.conf(5)).
const SEVERAL: &str = "multi on\n";

/// The order of the addresses of no host in particular and of those that no other line names (gai.conf(5)), the narrowest
/// prefix first. To a host with both loopback addresses 0.0.0.0 is nearer than ::, which glibc finds out by connecting; in
/// the sandbox it cannot.
const PRECEDENCE: [(&str, usize); 4] = [("::1/128", 50), ("::/128", 5), ("::ffff:0:0/96", 10), ("::/0", 40)];

/// Greatest precedence of a named address; the following ones have one less each.
const FIRST: usize = 100_000;

/// The files that a guest with these sockets needs, each with its path; none for one that has no socket of the internet.
/// `internet`: an option names a host and a port all the same.
#[must_use]
pub fn files(sockets: &[Arc<SocketGrant>], internet: bool) -> Vec<(PathBuf, Vec<u8>)> {
    if !internet
        && !sockets.iter().any(|grant| matches!(grant.place, SocketPlace::Inet { .. } | SocketPlace::Datagram(_)))
    {
        return Vec::new();
    }
    let hosts = named_hosts(sockets);
    // Ports may have names too.
    let services = std::fs::read("/etc/services").unwrap_or_default();
    let files = [
        ("/etc/hosts", table(&hosts).into_bytes()),
        ("/etc/nsswitch.conf", SWITCH.into()),
        ("/etc/host.conf", SEVERAL.into()),
        ("/etc/gai.conf", order(&hosts).into_bytes()),
        ("/etc/resolv.conf", Vec::new()),
        ("/etc/services", services),
    ];
    files.map(|(path, content)| (PathBuf::from(path), content)).into()
}

/// `/etc/hosts`
fn table(hosts: &[(&str, &[IpAddr])]) -> String {
    let mut table = String::new();
    for (host, addresses) in hosts.iter().filter(|(host, _)| is_plain(host)) {
        for address in *addresses {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "{address} {host}");
        }
    }
    table
}

/// `/etc/gai.conf`
fn order(hosts: &[(&str, &[IpAddr])]) -> String {
    let named = hosts.iter().flat_map(|(_, addresses)| *addresses).enumerate().map(|(place, address)| {
        let mapped = match address {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => *ip,
        };
        (format!("{mapped}/128"), FIRST.saturating_sub(place))
    });
    let others = PRECEDENCE.iter().map(|(prefix, precedence)| ((*prefix).to_owned(), *precedence));
    let (mut order, mut seen) = (String::new(), BTreeSet::new());
    for (prefix, precedence) in named.chain(others) {
        // Of two lines for one prefix it is not said which one counts.
        if seen.insert(prefix.clone()) {
            // Writing to a string cannot fail.
            let _ = writeln!(order, "precedence {prefix} {precedence}");
        }
    }
    order
}

/// Whether it is a name that can stand in a table of hosts.
fn is_plain(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn names_come_in_the_order_of_the_host() {
        let (six, four) = (IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(Ipv4Addr::LOCALHOST));
        let addresses = [four, six];
        let hosts = [("localhost", &addresses[..]), ("a b", &addresses), ("x\n1.2.3.4 y", &addresses)];
        assert_eq!(table(&hosts), "127.0.0.1 localhost\n::1 localhost\n");
        let order = order(&hosts[..1]);
        let named = "precedence ::ffff:127.0.0.1/128 100000\nprecedence ::1/128 99999\n";
        let others = "precedence ::/128 5\nprecedence ::ffff:0:0/96 10\nprecedence ::/0 40\n";
        assert_eq!(order, format!("{named}{others}"));
    }

    #[test]
    fn a_guest_without_tcp_has_no_files() {
        assert_eq!(files(&[], false), Vec::new());
    }
}
