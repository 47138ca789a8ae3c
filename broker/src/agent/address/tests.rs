use super::*;

const FAMILY: usize = 2;

fn sockaddr(family: i32, rest: &[u8]) -> Vec<u8> {
    let family = u16::try_from(family).unwrap_or_default().to_ne_bytes();
    [&family[..], rest].concat()
}

fn bound(family: i32, rest: &[u8]) -> Result<Option<SocketAddress>, Errno> {
    parse(&sockaddr(family, rest), Purpose::Bind)
}

fn unix_name(rest: &[u8]) -> Option<Vec<u8>> {
    match bound(libc::AF_UNIX, rest) {
        Ok(Some(SocketAddress::Unix(name))) => Some(name.as_bytes().to_vec()),
        _ => None,
    }
}

#[test]
fn a_path_ends_at_its_nul_and_an_abstract_name_with_the_address() {
    assert_eq!(unix_name(b"/run/a\0rubbish").unwrap(), b"/run/a");
    assert_eq!(unix_name(&[b'x'; 108]).unwrap(), [b'x'; 108]);
    assert_eq!(unix_name(b"\0a\0").unwrap(), b"\0a\0");
    assert_eq!(unix_name(b"\0").unwrap(), b"\0");
    assert_eq!(bound(libc::AF_UNIX, &[b'x'; 109]), Err(Errno::EINVAL));
    assert_eq!(bound(libc::AF_UNIX, b""), Err(Errno::EPERM));
}

#[test]
fn internet_addresses_have_the_networks_order() {
    let mut v4 = [0; 14];
    v4[..6].copy_from_slice(&[0x16, 0x2e, 127, 0, 0, 1]);
    let expected = SocketAddress::V4 { ip: [127, 0, 0, 1], port: 5678 };
    assert_eq!(bound(libc::AF_INET, &v4), Ok(Some(expected.clone())));
    assert_eq!(bound(libc::AF_INET, &[&v4[..], &[9; 100]].concat()), Ok(Some(expected)));
    let mut v6 = [0; 26];
    v6[..2].copy_from_slice(&[0, 80]);
    v6[21] = 1;
    v6[22..].copy_from_slice(&3_u32.to_ne_bytes());
    let mut ip = [0; 16];
    ip[15] = 1;
    assert_eq!(bound(libc::AF_INET6, &v6), Ok(Some(SocketAddress::V6 { ip, port: 80, scope: 3 })));
}

#[test]
fn short_addresses_are_invalid() {
    for (family, whole) in [(libc::AF_INET, 16 - FAMILY), (libc::AF_INET6, 28 - FAMILY)] {
        for length in 0..whole {
            assert_eq!(bound(family, &vec![0; length]), Err(Errno::EINVAL), "{family} with {length}");
        }
        assert!(bound(family, &vec![0; whole]).is_ok());
    }
    for length in 0..FAMILY {
        assert_eq!(parse(&vec![0; length], Purpose::Connect), Err(Errno::EINVAL));
    }
}

#[test]
fn other_families_are_not_served() {
    for family in [libc::AF_NETLINK, libc::AF_VSOCK, libc::AF_PACKET, libc::AF_BLUETOOTH, 255] {
        assert_eq!(bound(family, &[0; 30]), Err(Errno::EAFNOSUPPORT));
    }
    assert_eq!(bound(libc::AF_UNSPEC, &[0; 14]), Err(Errno::EAFNOSUPPORT));
    assert_eq!(parse(&sockaddr(libc::AF_UNSPEC, &[0; 14]), Purpose::Connect), Ok(None));
}

#[test]
fn an_address_longer_than_any_is_not_read() {
    let call = |length| SocketCall { purpose: Purpose::Bind, socket: 3, address: 8, length };
    assert_eq!(read(Pid::this(), &call(129)), Err(Errno::EINVAL));
    assert_eq!(read(Pid::this(), &call(u32::MAX)), Err(Errno::EINVAL));
    assert_eq!(read(Pid::this(), &call(16)), Err(Errno::EFAULT));
}
