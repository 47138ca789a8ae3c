//! The X server that a `DISPLAY` names, read as libxcb does (`_xcb_parse_display` and `_xcb_open` in its `src/xcb_util.c`).

use std::path::Path;

use crate::emulator::Address;

/// What the paths of X servers begin with, and their abstract names; the number follows (`unix_base` of `_xcb_open`).
const UNIX: &str = "/tmp/.X11-unix/X";

/// The port of the first X server of a host (`X_TCP_PORT` in `X11/Xproto.h`).
const FIRST_PORT: u16 = 6000;

/// Where the server is, in the order in which libxcb tries it: on this host by its abstract name, by its path, and, where
/// `is_socket` finds none there, by TCP; on another host by TCP. None for what libxcb does not understand.
pub(super) fn addresses(display: &str, is_socket: &dyn Fn(&Path) -> bool) -> Vec<Address> {
    match parse(display) {
        Some((None, number)) => {
            let path = format!("{UNIX}{number}");
            // A port that has nothing to do with X is not to be reached where the server has a socket.
            let by_tcp = display.starts_with(':') && !is_socket(Path::new(&path));
            let tcp = by_tcp.then(|| tcp("localhost", "", number)).flatten();
            let unix = [Address::Abstract { name: path.clone().into_bytes() }, Address::Unix { path: path.into() }];
            unix.into_iter().chain(tcp).collect()
        }
        Some((Some((host, family)), number)) => tcp(host, family, number).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The number of the server that `display` names, which its keys have too.
pub(super) fn number(display: &str) -> Option<u16> {
    parse(display).map(|(_, number)| number)
}

fn tcp(host: &str, family: &str, number: u16) -> Option<Address> {
    let port = number.checked_add(FIRST_PORT)?;
    let (ipv4, ipv6) = ((family == "inet").then_some(true), (family == "inet6").then_some(true));
    Some(Address::Inet { host: host.to_owned(), first_port: port, last_port: port, ipv4, ipv6 })
}

/// The host and the family of its addresses, if another one is named than this one, and the server's number there.
fn parse(display: &str) -> Option<(Option<(&str, &str)>, u16)> {
    let (protocol, rest) = display.rsplit_once('/').unwrap_or(("", display));
    let (host, numbers) = rest.rsplit_once(':')?;
    let (number, screen) = numbers.split_once('.').unwrap_or((numbers, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(number) || !is_number(screen) {
        return None;
    }
    let number = number.parse().ok()?;
    let is_here = protocol == "unix" || matches!(host, "" | "unix");
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(((!is_here).then_some((host, protocol)), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(display: &str) -> Vec<Address> {
        super::addresses(display, &|_| true)
    }

    #[test]
    fn a_server_of_this_host_has_two_names() {
        for display in [":0", ":0.1", "unix:0", "unix/anything:0.0"] {
            let name = "/tmp/.X11-unix/X0";
            let expected = [Address::Abstract { name: name.into() }, Address::Unix { path: name.into() }];
            assert_eq!(addresses(display), expected, "{display}");
        }
    }

    #[test]
    fn a_server_without_a_socket_is_tried_by_tcp() {
        for (display, count) in [(":3", 3), ("unix:3", 2), ("unix/:3", 2), ("h:3", 1)] {
            assert_eq!(super::addresses(display, &|_| false).len(), count, "{display}");
        }
    }

    #[test]
    fn a_server_elsewhere_has_a_port() {
        for (display, host, port) in [
            ("localhost:10.0", "localhost", 6010),
            ("tcp/h:1", "h", 6001),
            ("[::1]:2", "::1", 6002),
            ("::1:3", "::1", 6003),
        ] {
            let inet = Address::Inet { host: host.into(), first_port: port, last_port: port, ipv4: None, ipv6: None };
            assert_eq!(addresses(display), [inet], "{display}");
        }
        let [Address::Inet { ipv4: None, ipv6: Some(true), .. }] = addresses("inet6/h:0")[..] else { panic!() };
    }

    #[test]
    fn what_names_no_server() {
        for display in ["", "0", ":", ":x", ":0.", ":0.x", ":+1", ":70000", "h:65000", "/tmp/.X11-unix/X0"] {
            assert_eq!(addresses(display), [], "{display}");
        }
    }
}
