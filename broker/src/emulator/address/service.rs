//! Names of ports.

use std::path::Path;

use super::Transport;
use crate::emulator::draft::Draft;
use crate::emulator::error::Error;

/// Where ports have names (services(5)).
const SERVICES: &str = "/etc/services";

/// The port that `text` stands for, as for getaddrinfo(3): a number, or the name of a service; empty is any port.
/// `None` is a name that no service has, of which QEMU complains.
///
/// # Errors
/// [`Error::Malformed`] for a number that is no port.
pub(super) fn port(
    draft: &mut Draft<'_>,
    option: &str,
    text: &str,
    transport: Transport,
) -> Result<Option<u16>, Error> {
    if text.is_empty() {
        return Ok(Some(0));
    }
    let digits = text.trim_start().trim_start_matches(['+', '-']);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let port = text.parse().ok().filter(|_| digits == text);
        let problem = || Error::malformed(option, format!("{text} is no port; write a number from 0 to 65535"));
        return port.map(Some).ok_or_else(problem);
    }
    let Ok(list) = (draft.read_config)(Path::new(SERVICES)) else { return Ok(None) };
    Ok(number_of(&String::from_utf8_lossy(&list), text, transport))
}

/// The number of a service in `list`, by its name or by another one that the list gives it.
fn number_of(list: &str, service: &str, transport: Transport) -> Option<u16> {
    let protocol = match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    list.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (name, entry) = (words.next()?, words.next()?);
        let (number, own) = entry.split_once('/')?;
        let meant = own == protocol && (name == service || words.any(|other| other == service));
        number.parse().ok().filter(|_| meant)
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const LIST: &[u8] = b"# comment\nhttp 80/tcp www # web\nntp\t123/udp\nnbd 10809/tcp\nnbd 1/udp\n";

    fn ports(words: &[(&str, Transport)]) -> Vec<Option<u16>> {
        let read = |_: &Path| Ok::<_, io::Error>(LIST.to_vec());
        let mut draft = Draft::new(&read);
        words.iter().map(|(text, transport)| port(&mut draft, "-x", text, *transport).unwrap_or(Some(9))).collect()
    }

    #[test]
    fn numbers_and_names() {
        let found = ports(&[
            ("", Transport::Tcp),
            ("0", Transport::Tcp),
            ("65535", Transport::Udp),
            ("010", Transport::Tcp),
            ("www", Transport::Tcp),
            ("ntp", Transport::Tcp),
            ("ntp", Transport::Udp),
            ("nbd", Transport::Udp),
            ("80x", Transport::Tcp),
            ("comment", Transport::Tcp),
        ]);
        let expected = [Some(0), Some(0), Some(65535), Some(10), Some(80), None, Some(123), Some(1), None, None];
        assert_eq!(found, expected);
    }

    #[test]
    fn numbers_that_are_no_ports_are_refused() {
        let read = |_: &Path| Ok::<_, io::Error>(LIST.to_vec());
        let mut draft = Draft::new(&read);
        for text in ["65536", "70000", "+80", "-1", " 80", "99999999999999999999"] {
            assert!(matches!(port(&mut draft, "-x", text, Transport::Tcp), Err(Error::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn qemu_reads_the_list_for_a_name() {
        let read = |_: &Path| Ok::<_, io::Error>(LIST.to_vec());
        let mut draft = Draft::new(&read);
        port(&mut draft, "-x", "80", Transport::Tcp).unwrap();
        assert_eq!(port(&mut draft, "-x", "http", Transport::Tcp).unwrap(), Some(80));
        // The sandbox has a copy of its own.
        assert!(draft.line.resources.is_empty());
    }
}
