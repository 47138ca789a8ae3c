//! `-vnc`: a server, or a connection to a viewer that waits for one.
//!
//! Source: `vnc_display_get_address` and `vnc_display_get_addresses` in QEMU's `ui/vnc.c`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::super::address::{self, Inet, Transport};
use super::super::draft::{Draft, Group};
use super::super::endpoint::{Address, EndpointUse};
use super::super::error::Error;
use super::super::network::number;
use super::super::value::Pairs;

/// The port of display 0, and that of its web socket.
const PORT: u16 = 5900;
const WEB_PORT: u16 = 5700;

/// `-vnc`.
///
/// # Errors
/// [`Error::NotServed`] for SASL and for a UNIX socket without a name, [`Error::Malformed`] for odd values.
pub(in super::super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    draft.display |= !group.from_file;
    let (option, pairs) = (&group.option, &group.pairs);
    address::refuse_switch(option, pairs, "sasl", "use password-secret= or tls-creds=: SASL has files of its own")?;
    if pairs.get("vnc").is_none_or(|address| address == "none") {
        return Ok(());
    }
    let reverse = pairs.switch(option, "reverse")?.unwrap_or(false);
    let server = Server {
        option,
        reverse,
        to: pairs.get("to").map(|to| number(to).and_then(|to| i64::try_from(to).ok())),
        ipv4: pairs.switch(option, "ipv4")?,
        ipv6: pairs.switch(option, "ipv6")?,
    };
    // Where QEMU refuses one of them, it makes none.
    let Some(addresses) = server.addresses(draft, pairs)? else { return Ok(()) };
    if reverse && addresses.len() != 1 {
        return Ok(());
    }
    let use_ = if reverse { EndpointUse::Connect } else { EndpointUse::Listen };
    addresses.into_iter().for_each(|address| draft.endpoint(option, use_.clone(), Some(address)));
    Ok(())
}

/// What holds for all addresses of one server.
struct Server<'g> {
    option: &'g str,
    reverse: bool,
    /// `to=`, as far as it is a number.
    to: Option<Option<i64>>,
    ipv4: Option<bool>,
    ipv6: Option<bool>,
}

impl Server<'_> {
    fn addresses(&self, draft: &mut Draft<'_>, pairs: &Pairs) -> Result<Option<Vec<Address>>, Error> {
        let all = |key: &'static str| pairs.iter().filter(move |(own, _)| *own == key).map(|(_, value)| value);
        let mut found: Vec<Option<Address>> = Vec::new();
        let mut displays = Vec::new();
        for typed in all("vnc") {
            let Some((display, address)) = self.display(draft, typed)? else { return Ok(None) };
            displays.push(display);
            found.push(address);
        }
        let host = match found.as_slice() {
            [Some(Address::Inet { host, .. })] => host.clone(),
            _ => String::new(),
        };
        let display = match displays.as_slice() {
            [display] => Some(*display),
            _ => None,
        };
        for typed in all("websocket") {
            let Some(address) = self.web_socket(draft, typed, display, &host)? else { return Ok(None) };
            found.push(address);
        }
        Ok(Some(found.into_iter().flatten().collect()))
    }

    /// `unix:PATH` or `HOST:DISPLAY`, with the number of the display; without an address if that cannot be resolved, which
    /// QEMU finds out after it has listened on others.
    fn display(&self, draft: &mut Draft<'_>, typed: &OsStr) -> Result<Option<(u16, Option<Address>)>, Error> {
        if typed.as_bytes().starts_with(b"unix:") {
            return Ok(self.unix(typed)?.map(|address| (0, Some(address))));
        }
        let Some((host, number)) = address::utf8(self.option, typed)?.rsplit_once(':') else { return Ok(None) };
        let offset = if self.reverse { 0 } else { PORT };
        let Ok(display) = number.parse::<u16>() else { return Ok(None) };
        let Some(port) = display.checked_add(offset) else { return Ok(None) };
        let address = self.inet(draft, without_brackets(host), &port.to_string(), offset)?;
        Ok(address.map(|address| (display, address)))
    }

    /// `on`, `PORT`, `HOST:PORT` or `unix:PATH`, as [`Self::display`]. Without a host it listens where the only display does.
    fn web_socket(
        &self,
        draft: &mut Draft<'_>,
        typed: &OsStr,
        display: Option<u16>,
        default_host: &str,
    ) -> Result<Option<Option<Address>>, Error> {
        // QEMU 7.2 refuses it.
        if typed.as_bytes().starts_with(b"unix:") {
            return Ok(self.unix(typed)?.map(Some));
        }
        let text = address::utf8(self.option, typed)?;
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let host = Some(without_brackets(host)).filter(|host| !host.is_empty()).unwrap_or(default_host);
        if matches!(text, "" | "on") {
            let Some(port) = display.and_then(|display| display.checked_add(WEB_PORT)) else { return Ok(None) };
            return self.inet(draft, host, &port.to_string(), WEB_PORT);
        }
        if port.is_empty() {
            return Ok(None);
        }
        let Self { ipv4, ipv6, .. } = *self;
        Inet { host, port, to: None, ipv4, ipv6 }.address(draft, self.option, Transport::Tcp).map(Some)
    }

    fn unix(&self, typed: &OsStr) -> Result<Option<Address>, Error> {
        let path = typed.as_bytes().strip_prefix(b"unix:").unwrap_or_default();
        if self.to.is_some_and(|to| to != Some(0)) {
            return Ok(None);
        }
        address::unix(self.option, OsStr::from_bytes(path), false, true)
    }

    fn inet(
        &self,
        draft: &mut Draft<'_>,
        host: &str,
        port: &str,
        offset: u16,
    ) -> Result<Option<Option<Address>>, Error> {
        let to = match self.to {
            // QEMU says that it is no number.
            Some(None) => return Ok(None),
            Some(Some(0)) | None => None,
            Some(Some(to)) => Some(to.saturating_add(offset.into())),
        };
        let Self { ipv4, ipv6, .. } = *self;
        Inet { host, port, to, ipv4, ipv6 }.address(draft, self.option, Transport::Tcp).map(Some)
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{assert_not_served, assert_sockets, line, line_with, sockets};

    #[test]
    fn displays_have_ports() {
        assert_sockets(&[
            (&["-vnc", ":0"], "listen :5900"),
            (&["-vnc", "127.0.0.1:3,password=on"], "listen 127.0.0.1:5903"),
            (&["-vnc", "[::1]:1"], "listen ::1:5901"),
            (&["-vnc", "::1:1"], "listen ::1:5901"),
            (&["-vnc", "localhost:0,to=99,id=default"], "listen localhost:5900-5999"),
            (&["-vnc", ":1,ipv4=on,share=force-shared"], "listen :5901 ipv4"),
            (&["-display", "vnc=:4"], "listen :5904"),
            (&["-vnc", "unix:/run/v,,nc"], "listen /run/v,nc"),
            (&["-vnc", "vnc=unix:v,tls-creds=t"], "listen v"),
            (&["-vnc", ":1,vnc=h:2"], "listen :5901; listen h:5902"),
            (&["-vnc", ":1", "-vnc", "h:2"], "listen :5901; listen h:5902"),
            (&["-vnc", ":1,id=v", "-set", "vnc.v.vnc=:7"], "listen :5901; listen :5907"),
            (&["-vnc", "none"], ""),
            (&["-vnc", ":1,vnc=none"], ""),
            (&["-vnc", "none,websocket=5700"], ""),
            (&["-vnc", "password=on"], ""),
        ]);
    }

    #[test]
    fn web_sockets_have_ports_of_their_own() {
        assert_sockets(&[
            (&["-vnc", ":2,websocket=on"], "listen :5902; listen :5702"),
            (&["-vnc", ":2,websocket"], "listen :5902; listen :5702"),
            (&["-vnc", "h:2,websocket=on,to=4"], "listen h:5902-5904; listen h:5702-5704"),
            (&["-vnc", "h:2,websocket=6080,to=4"], "listen h:5902-5904; listen h:6080"),
            (&["-vnc", "h:2,websocket=g:6080"], "listen h:5902; listen g:6080"),
            (&["-vnc", "unix:/x,websocket=on"], "listen /x; listen :5700"),
            (&["-vnc", ":2,websocket=unix:/w"], "listen :5902; listen /w"),
            (&["-vnc", ":2,vnc=:3,websocket=1"], "listen :5902; listen :5903; listen :1"),
            (&["-vnc", ":2,vnc=:3,websocket=on"], ""),
            (&["-vnc", ":2,websocket=off"], "listen :5902"),
        ]);
    }

    #[test]
    fn in_reverse_it_connects() {
        assert_sockets(&[
            (&["-vnc", "h:5500,reverse=on"], "connect h:5500"),
            (&["-vnc", "unix:/x,reverse"], "connect /x"),
            (&["-vnc", "h:1,vnc=g:2,reverse=on"], ""),
            (&["-vnc", "h:1,websocket=2,reverse=on"], ""),
        ]);
    }

    #[test]
    fn what_qemu_refuses_it_is_left_to_refuse() {
        assert_sockets(&[
            (&["-vnc", "h"], ""),
            (&["-vnc", ":"], ""),
            (&["-vnc", ":x"], ""),
            (&["-vnc", ":59637"], ""),
            (&["-vnc", ":5,to=x"], ""),
            (&["-vnc", "unix:/x,to=3"], ""),
            (&["-vnc", ":1,ipv4=off,ipv6=off"], ""),
        ]);
        assert_not_served(&[&["-vnc", ":0,sasl=on"], &["-vnc", "unix:"]]);
        assert!(line(&["-vnc", ":0,sasl=off"]).is_ok());
    }

    #[test]
    fn a_server_of_a_configuration_file_is_not_the_only_display() {
        let config = |_: &std::path::Path| Ok(b"[vnc \"v\"]\n  vnc = \":3\"\n".to_vec());
        let found = line_with(&["-readconfig", "f"], &config).unwrap();
        assert_eq!(sockets(&found), ["listen :5903"]);
        assert!(found.argv.iter().any(|word| word == "-display"));
        assert!(!line(&["-vnc", ":0"]).unwrap().argv.iter().any(|word| word == "-display"));
    }
}
