//! `socket` and `stream`: networks over a connection to another QEMU.
//!
//! Sources: `net/socket.c`, `net/stream.c` and `parse_host_port` in `net/net.c` of QEMU 7.2 and 10.0.

use std::ffi::OsStr;

use super::super::address::{self, Named};
use super::super::draft::Draft;
use super::super::endpoint::{Address, EndpointUse};
use super::super::error::Error;
use super::super::value::Pairs;
use super::number;

/// Notes the socket of a `stream`, unless it is handed in.
///
/// # Errors
/// As [`address::of_pairs`].
pub(super) fn stream(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    let use_ = address::stream(pairs.switch(option, "server")?.unwrap_or(false));
    if let Named::Address(address) = address::of_pairs(draft, option, pairs, "addr.")? {
        draft.endpoint(option, use_, Some(address));
    }
    Ok(())
}

/// Notes the socket of `listen=` or `connect=`.
///
/// # Errors
/// [`Error::Malformed`] for a number that is no port.
pub(super) fn plain(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    let uses = [("listen", EndpointUse::Listen), ("connect", EndpointUse::Connect)];
    // QEMU takes exactly one of them.
    if ["fd", "listen", "connect"].iter().filter(|key| pairs.get(key).is_some()).count() != 1 {
        return Ok(());
    }
    for (key, use_) in uses {
        if let Some(typed) = pairs.get(key) {
            let address = host_and_port(option, typed)?;
            draft.endpoint(option, use_, address);
        }
    }
    Ok(())
}

/// `HOST:PORT`, of IPv4 alone.
fn host_and_port(option: &str, typed: &OsStr) -> Result<Option<Address>, Error> {
    let Some((host, port)) = address::utf8(option, typed)?.split_once(':') else { return Ok(None) };
    if !port.trim_start().trim_start_matches(['+', '-']).starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(None);
    }
    let number = number(OsStr::new(port)).and_then(|port| u16::try_from(port).ok());
    let problem = || Error::malformed(option, format!("{port} is no port; write a number from 0 to 65535"));
    let port = number.ok_or_else(problem)?;
    let host = if host.is_empty() { "0.0.0.0" } else { host }.to_owned();
    Ok(Some(Address::Inet { host, first_port: port, last_port: port, ipv4: Some(true), ipv6: None }))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{assert_not_served, assert_sockets, line};

    #[test]
    fn connections_to_another_qemu() {
        assert_sockets(&[
            (&["-netdev", "socket,id=n,listen=:1234"], "listen 0.0.0.0:1234 ipv4"),
            (&["-netdev", "socket,id=n,connect=127.0.0.1:0x10"], "connect 127.0.0.1:16 ipv4"),
            (&["-nic", "socket,model=e1000,connect=h:1"], "connect h:1 ipv4"),
            (&["-net", "socket,listen=h:1"], "listen h:1 ipv4"),
            (&["-netdev", r#"{"type":"socket","id":"n","listen":":1"}"#], "listen 0.0.0.0:1 ipv4"),
            (&["-netdev", "stream,id=n,server=on,addr.type=unix,addr.path=/s"], "listen /s"),
            (&["-netdev", "stream,id=n,addr.type=unix,addr.path=s,addr.abstract=on,reconnect=5"], "connect @s"),
            (&["-netdev", "stream,id=n,addr.type=inet,addr.host=h,addr.port=1,reconnect-ms=5"], "connect h:1"),
            (
                &[
                    "-netdev",
                    r#"{"type":"stream","id":"n","server":true,"addr":{"type":"inet","host":"::1","port":"1"}}"#,
                ],
                "listen ::1:1",
            ),
        ]);
    }

    #[test]
    fn what_qemu_refuses_it_is_left_to_refuse() {
        assert_sockets(&[
            (&["-netdev", "socket,id=n,listen=1234"], ""),
            (&["-netdev", "socket,id=n,listen=:x"], ""),
            (&["-netdev", "socket,id=n,listen=:1,connect=:2"], ""),
            (&["-netdev", "socket,id=n"], ""),
            (&["-netdev", "stream,id=n"], ""),
            (&["-netdev", "stream,id=n,addr.type=inet,addr.host=h"], ""),
        ]);
        assert!(line(&["-netdev", "socket,id=n,connect=h:1x"]).is_err());
        assert!(line(&["-netdev", "socket,id=n,connect=h:65536"]).is_err());
        assert_not_served(&[
            &["-netdev", "stream,id=n,addr.type=vsock,addr.cid=1,addr.port=1"],
            &["-netdev", "stream,id=n,addr.type=unix,addr.path=/s,addr.newer=1"],
        ]);
    }
}
