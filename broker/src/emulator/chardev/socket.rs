//! Sockets of character devices.

use super::super::address::{self, Inet, Transport};
use super::super::draft::Draft;
use super::super::endpoint::EndpointUse;
use super::super::error::Error;
use super::super::network::number;
use super::super::value::Pairs;

/// `-chardev socket` (`qemu_chr_parse_socket` in `chardev/char-socket.c`).
///
/// # Errors
/// [`Error::Malformed`] for odd values, [`Error::NotServed`] for a UNIX socket without a name.
pub(super) fn stream(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    let use_ = address::stream(pairs.switch(option, "server")?.unwrap_or(false));
    let address = match (pairs.get("path"), pairs.get("host"), pairs.get("fd")) {
        (Some(path), None, None) => {
            let in_abstract = pairs.switch(option, "abstract")?.unwrap_or(false);
            address::unix(option, path, in_abstract, pairs.switch(option, "tight")?.unwrap_or(true))?
        }
        (None, Some(host), None) => {
            let Some(port) = pairs.get("port") else { return Ok(()) };
            let to = pairs.get("to").map(|to| number(to).and_then(|to| i64::try_from(to).ok()));
            // QEMU says that to= is no number.
            if to == Some(None) {
                return Ok(());
            }
            let inet = Inet {
                host: address::utf8(option, host)?,
                port: address::utf8(option, port)?,
                to: to.flatten(),
                ipv4: pairs.switch(option, "ipv4")?,
                ipv6: pairs.switch(option, "ipv6")?,
            };
            inet.address(draft, option, Transport::Tcp)?
        }
        (None, None, Some(fd)) => return draft.descriptor(option, fd),
        // QEMU takes exactly one of them.
        _ => None,
    };
    draft.endpoint(option, use_, address);
    Ok(())
}

/// `-chardev udp` (`qemu_chr_parse_udp` in `chardev/char-udp.c`, `inet_dgram_saddr` in `util/qemu-sockets.c`).
///
/// # Errors
/// [`Error::Malformed`] for odd values.
pub(super) fn datagram(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    let text = |key: &str| pairs.name(key).map(|value| address::utf8(option, value)).transpose();
    let (host, port) = (text("host")?.unwrap_or("localhost"), text("port")?);
    let (own_host, own_port) = (text("localaddr")?, text("localport")?);
    let Some(port) = port else { return Ok(()) };
    let (ipv4, ipv6) = (pairs.switch(option, "ipv4")?, pairs.switch(option, "ipv6")?);
    let remote = Inet { host, port, to: None, ipv4, ipv6 }.address(draft, option, Transport::Udp)?;
    let mut own = None;
    if own_host.is_some() || own_port.is_some() {
        let inet = Inet { host: own_host.unwrap_or_default(), port: own_port.unwrap_or("0"), ..Inet::default() };
        own = inet.address(draft, option, Transport::Udp)?;
        if own.is_none() {
            return Ok(());
        }
    }
    draft.endpoint(option, EndpointUse::Datagram(own), remote);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{assert_not_served, assert_sockets, line};

    #[test]
    fn streams_listen_or_connect() {
        assert_sockets(&[
            (&["-chardev", "socket,id=a,path=/run/x"], "connect /run/x"),
            (&["-chardev", "socket,id=a,path=x,,y,server=on,wait=off"], "listen x,y"),
            (&["-chardev", "socket,id=a,path=/x,server,nowait"], "listen /x"),
            (&["-chardev", "socket,id=a,path=/x,reconnect=3"], "connect /x"),
            (&["-chardev", "socket,id=a,path=/x,reconnect-ms=300,tls-creds=t"], "connect /x"),
            (&["-chardev", "socket,id=a,path=n,abstract=on,server=on"], "listen @n"),
            (&["-chardev", "socket,id=a,host=h,port=1"], "connect h:1"),
            (&["-chardev", "socket,id=a,host=,port=1,to=9,server=on,ipv4=on"], "listen :1-9 ipv4"),
            (&["-chardev", "socket,id=a,host=::1,port=1,to=0x10,server,noipv4"], "listen ::1:1-16 noipv4"),
            (&["-chardev", "socket,id=a,host=h,port=1,server=on,telnet=on,nodelay=on,logfile="], "listen h:1"),
            (&["-chardev", "socket,id=a,host=h,port=1,server=on,websocket=on,host=g"], "listen g:1"),
            (&["-chardev", "socket,id=a,path=/x", "-set", "chardev.a.path=/y"], "connect /y"),
        ]);
    }

    #[test]
    fn what_qemu_refuses_it_is_left_to_refuse() {
        assert_sockets(&[
            (&["-chardev", "socket,id=a"], ""),
            (&["-chardev", "socket,id=a,host=h"], ""),
            (&["-chardev", "socket,id=a,host=h,port=1,path=/x"], ""),
            (&["-chardev", "socket,id=a,fd=3,path=/x"], ""),
            (&["-chardev", "socket,id=a,host=h,port=1,to=x"], ""),
            (&["-chardev", "socket,id=a,host=h,port=5,to=4"], ""),
            (&["-chardev", "udp,id=a,host=h"], ""),
            (&["-chardev", "udp,id=a,port=1,localport=nosuch"], ""),
        ]);
        assert!(line(&["-chardev", "socket,id=a,path=/x,server=maybe"]).is_err());
        assert!(line(&["-chardev", "socket,id=a,host=h,port=70000"]).is_err());
        assert_not_served(&[&["-chardev", "socket,id=a,path=,server=on"]]);
    }

    #[test]
    fn datagrams_have_two_ends() {
        assert_sockets(&[
            (&["-chardev", "udp,id=a,port=1"], "datagram localhost:1"),
            (&["-chardev", "udp,id=a,host=h,port=1,ipv6=on"], "datagram h:1 ipv6"),
            (&["-chardev", "udp,id=a,host=h,port=1,localport=2"], "datagram h:1 from :2"),
            (&["-chardev", "udp,id=a,host=,port=1,localaddr=127.0.0.1"], "datagram localhost:1 from 127.0.0.1:0"),
        ]);
    }
}
