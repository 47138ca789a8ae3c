//! The broker's reading of some words beside what QEMU does with them.

use std::ffi::OsString;

use broker::emulator::{Address, Endpoint, EndpointUse};
use tests::{Error, Result, Workdir};

use crate::trace::{self, Attempt, Call};

/// What QEMU says where SPICE is not installed, and where the host has no names.
const OF_THIS_HOST: [&str; 3] =
    ["There is no option group", "address resolution failed for localhost", "127.0.0.1:http: Servname not supported"];

/// Compares for `words`, which begin with an option of the emulator or with another program, and which QEMU may refuse
/// whatever they name. Returns how many sockets QEMU made of them.
///
/// # Errors
/// What differs.
pub fn compare(words: &[&str], refused: bool) -> Result<usize> {
    let is_option = words.first().is_some_and(|word| word.starts_with('-'));
    let program: &[&str] = if is_option { &["qemu-system-x86_64"] } else { &[] };
    let workdir = Workdir::new()?;
    let folder = workdir.files().display().to_string();
    let words: Vec<String> = [program, words].concat().iter().map(|word| word.replace("FOLDER", &folder)).collect();
    let differs = |what: String| Error::Unexpected(format!("{}: {what}", words.join(" ")));
    let argv: Vec<OsString> = words.iter().map(OsString::from).collect();
    let line = broker::emulator::parse(&argv, &|path| std::fs::read(path));
    let endpoints = line.map_err(|error| differs(format!("the broker refuses it: {error}")))?.endpoints;
    let traced = trace::run(&words, &workdir)?;
    if OF_THIS_HOST.iter().any(|lack| traced.said.contains(lack)) {
        return Ok(0);
    }
    let described = || format!("QEMU did {:?} and said {:?}", traced.attempts, traced.said);
    for attempt in &traced.attempts {
        // The resolver connects sockets for datagrams to the addresses that it sorts.
        let of_resolver = attempt.datagrams && attempt.call == Call::Connect;
        if !of_resolver && !endpoints.iter().any(|endpoint| is_for(endpoint, attempt)) {
            return Err(differs(format!("the broker found {endpoints:?}; {}", described())));
        }
    }
    if refused {
        return if traced.attempts.is_empty() { Ok(0) } else { Err(differs(described())) };
    }
    for endpoint in &endpoints {
        if !traced.attempts.iter().any(|attempt| is_for(endpoint, attempt)) {
            return Err(differs(format!("the broker found {endpoint:?} in vain; {}", described())));
        }
    }
    Ok(traced.attempts.len())
}

fn is_for(endpoint: &Endpoint, attempt: &Attempt) -> bool {
    let at = |address: &Address| is_at(address, &attempt.address);
    match (&endpoint.use_, attempt.call, attempt.datagrams) {
        (EndpointUse::Listen, Call::Bind, false) | (EndpointUse::Connect, Call::Connect, false) => {
            at(&endpoint.address)
        }
        (EndpointUse::Datagram(_), Call::Connect, true) => at(&endpoint.address),
        (EndpointUse::Datagram(Some(own)), Call::Bind, true) => at(own),
        (EndpointUse::Datagram(None), Call::Bind, true) => matches!(attempt.address.as_str(), "0.0.0.0 0" | ":: 0"),
        _ => false,
    }
}

fn is_at(address: &Address, found: &str) -> bool {
    match address {
        Address::Unix { path } => path == found,
        Address::Abstract { name } => {
            let name = String::from_utf8_lossy(name);
            found.strip_prefix('@').is_some_and(|found| found == name.replace('\0', "\\0"))
        }
        Address::Inet { host, first_port, last_port, ipv4, ipv6 } => {
            let Some((found, port)) = found.split_once(' ') else { return false };
            let in_range = port.parse().is_ok_and(|port: u16| (*first_port..=*last_port).contains(&port));
            let six = found.contains(':');
            let family = if six {
                *ipv6 != Some(false) && (*ipv6 == Some(true) || *ipv4 != Some(true))
            } else {
                *ipv4 != Some(false)
            };
            let same = match host.as_str() {
                "" | "0" => matches!(found, "0.0.0.0" | "::"),
                "localhost" => matches!(found, "127.0.0.1" | "::1"),
                host => host == found,
            };
            in_range && family && same
        }
    }
}
