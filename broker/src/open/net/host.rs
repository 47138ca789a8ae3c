//! IPv4 hosts, as QEMU's network options name them (`convert_host_port` in its `net/net.c`).

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

/// The address of `host`: all of this host's if it is empty, an address if it begins with a digit, else a name that is
/// looked up.
///
/// # Errors
/// [`Error::Address`], [`Error::Name`].
pub fn look_up(host: &str) -> Result<Ipv4Addr, Error> {
    if host.is_empty() {
        return Ok(Ipv4Addr::UNSPECIFIED);
    }
    if host.starts_with(|first: char| first.is_ascii_digit()) {
        return read_address(host).ok_or_else(|| Error::Address(host.to_owned()));
    }
    let found = (host, 0).to_socket_addrs().map_err(|_| Error::Name(host.to_owned()))?;
    let mut addresses = found.filter_map(|address| match address.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    addresses.next().ok_or_else(|| Error::Name(host.to_owned()))
}

/// Reads an address as `inet_aton(3)` does: one to four numbers, decimal, octal behind `0` or hexadecimal behind `0x`, the
/// last of which stands for all bytes that are left.
#[must_use]
pub fn read_address(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = text.split('.').map(read_number).collect::<Option<_>>()?;
    let (last, bytes) = numbers.split_last()?;
    let left = 4_u32.checked_sub(u32::try_from(bytes.len()).ok()?).filter(|left| *left > 0)?;
    if bytes.iter().any(|byte| *byte > 0xff) || u64::from(*last) >= 1 << (8 * left) {
        return None;
    }
    let places = (0..4_u32).rev().map(|place| 8 * place);
    let high = bytes.iter().zip(places).fold(0, |sum, (byte, place)| sum | byte << place);
    Some(Ipv4Addr::from(high | last))
}

fn read_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // The standard library would take a sign.
    digits.chars().all(|digit| digit.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
}

/// A host without an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It begins as one.
    #[error("host address '{0}' is not a valid IPv4 address; write it as 192.0.2.1")]
    Address(String),
    /// No such name, or none of IPv4.
    #[error("can't resolve host address '{0}'; check the name, or write an IPv4 address")]
    Name(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_by_the_c_library() {
        for (text, expected) in [
            ("192.0.2.1", Some([192, 0, 2, 1])),
            ("127.1", Some([127, 0, 0, 1])),
            ("10.1.258", Some([10, 1, 1, 2])),
            ("0x7f000001", Some([127, 0, 0, 1])),
            ("010.0.0.1", Some([8, 0, 0, 1])),
            ("4294967295", Some([255, 255, 255, 255])),
            ("4294967296", None),
            ("1.2.3.256", None),
            ("256.1", None),
            ("1.16777216", None),
            ("1.2.3.4.5", None),
            ("1.2.3.", None),
            ("1..2", None),
            ("1.2.3.+4", None),
            ("09", None),
            ("", None),
        ] {
            assert_eq!(read_address(text), expected.map(Ipv4Addr::from), "{text}");
        }
    }

    #[test]
    fn hosts_are_addresses_or_names() {
        assert_eq!(look_up(""), Ok(Ipv4Addr::UNSPECIFIED));
        assert_eq!(look_up("127.1"), Ok(Ipv4Addr::LOCALHOST));
        assert_eq!(look_up("localhost"), Ok(Ipv4Addr::LOCALHOST));
        assert_eq!(look_up("1.2.3.400"), Err(Error::Address("1.2.3.400".to_owned())));
        assert_eq!(look_up("no-such-host.invalid"), Err(Error::Name("no-such-host.invalid".to_owned())));
    }
}
