use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};

use protocol::UnixName;

use super::path::SocketHome;
use super::*;
use crate::serve::work::{Carried, Failure};

const STREAM: Socket =
    Socket { kind: SocketKind::Stream, nonblocking: false, reuse_address: false, keep_alive: false, v6_only: false };

const PATIENCE: Duration = Duration::from_secs(5);

fn tcp(role: SocketRole, addresses: &[IpAddr], ports: RangeInclusive<u16>) -> Arc<SocketGrant> {
    let place = SocketPlace::Inet { host: "here".into(), addresses: addresses.to_vec(), ports, only_v6: false };
    Arc::new(SocketGrant { option: "-x".into(), role, place })
}

fn unix(role: SocketRole, name: &str, home: Result<SocketHome, rustix::io::Errno>) -> Arc<SocketGrant> {
    let absolute = absolute(&PathBuf::from("/w"), name.as_bytes());
    let place = SocketPlace::Path(SocketPath { name: name.into(), absolute, home });
    Arc::new(SocketGrant { option: "-x".into(), role, place })
}

fn v4(ip: Ipv4Addr, port: u16) -> SocketAddress {
    SocketAddress::V4 { ip: ip.octets(), port }
}

fn v6(ip: Ipv6Addr, port: u16) -> SocketAddress {
    SocketAddress::V6 { ip: ip.octets(), port, scope: 0 }
}

fn named(name: &[u8]) -> SocketAddress {
    SocketAddress::Unix(UnixName::new(name).unwrap())
}

fn sockets(granted: Vec<Arc<SocketGrant>>) -> Sockets {
    Sockets::new(granted, PathBuf::from("/w"), PATIENCE)
}

/// A word for each decision.
fn word(decision: &Decision) -> String {
    match decision {
        Decision::Work(Work::Bind(..)) => "bind".into(),
        Decision::Work(Work::Connect(..)) => "connect".into(),
        Decision::Work(Work::RemoveSocket(_)) => "remove".into(),
        Decision::Refuse(_) => "refuse".into(),
        Decision::Fail(errno) => format!("errno {}", errno.get()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn addresses_are_granted_for_what_they_are_named_for() {
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let policy = sockets(vec![
        tcp(SocketRole::Listen, &[local], 5900..=5902),
        tcp(SocketRole::Connect, &[local, Ipv6Addr::LOCALHOST.into()], 4444..=4444),
        unix(SocketRole::Listen, "qmp", Err(rustix::io::Errno::NOENT)),
        unix(SocketRole::Connect, "/run/tpm", Err(rustix::io::Errno::NOENT)),
        Arc::new(SocketGrant {
            option: "-x".into(),
            role: SocketRole::Listen,
            place: SocketPlace::Abstract(b"vm".to_vec()),
        }),
    ]);
    let mapped = v6(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 4444);
    let expected = [
        (v4(Ipv4Addr::LOCALHOST, 5900), "bind", "refuse"),
        (v4(Ipv4Addr::LOCALHOST, 5902), "bind", "refuse"),
        (v4(Ipv4Addr::LOCALHOST, 5903), "refuse", "refuse"),
        (v4(Ipv4Addr::LOCALHOST, 0), "refuse", "refuse"),
        (v4(Ipv4Addr::UNSPECIFIED, 5900), "refuse", "refuse"),
        (v4(Ipv4Addr::LOCALHOST, 4444), "refuse", "connect"),
        (v6(Ipv6Addr::LOCALHOST, 4444), "refuse", "connect"),
        (mapped, "refuse", "connect"),
        (v4(Ipv4Addr::LOCALHOST, 4443), "refuse", "refuse"),
        (named(b"qmp"), "bind", "refuse"),
        (named(b"/w/./x/../qmp"), "bind", "refuse"),
        (named(b"/run/tpm"), "refuse", "connect"),
        (named(b"/run/tpm2"), "refuse", "refuse"),
        (named(b"\0vm"), "bind", "refuse"),
        (named(b"\0vm\0"), "refuse", "refuse"),
        (named(b"vm"), "refuse", "refuse"),
    ];
    for (address, bind, connect) in expected {
        let decided = (policy.decide_bind(&address, STREAM), policy.decide_connect(&address, STREAM));
        assert_eq!((word(&decided.0).as_str(), word(&decided.1).as_str()), (bind, connect), "{address}");
    }
}

#[test]
fn datagrams_are_answered_only_as_questions() {
    let policy = sockets(vec![tcp(SocketRole::Connect, &[Ipv4Addr::LOCALHOST.into()], 4444..=4444)]);
    let datagram = Socket { kind: SocketKind::Datagram, ..STREAM };
    let decided = |address| word(&policy.decide_connect(&address, datagram));
    assert_eq!(decided(v4(Ipv4Addr::LOCALHOST, 1)), "errno 101");
    assert_eq!(decided(v4(Ipv4Addr::new(127, 0, 0, 2), 1)), "refuse");
    assert_eq!(word(&policy.decide_bind(&v4(Ipv4Addr::LOCALHOST, 4444), datagram)), "refuse");
}

#[test]
fn only_paths_that_are_bound_are_removed() {
    let policy = sockets(vec![
        unix(SocketRole::Listen, "qmp", Err(rustix::io::Errno::NOENT)),
        unix(SocketRole::Connect, "tpm", Err(rustix::io::Errno::NOENT)),
    ]);
    let decided = |name: &str| policy.decide_unlink(&Name::new(name.as_bytes()).unwrap()).as_ref().map(word);
    assert_eq!(decided("/w/qmp").as_deref(), Some("remove"));
    assert_eq!(decided("tpm"), None);
    assert_eq!(decided("qmp2"), None);
}

/// A folder of the test's own, and a home of the name `s` in it.
fn folder(test: &str) -> (PathBuf, impl Fn() -> SocketHome) {
    let folder = std::env::temp_dir().join(format!("broker-sockets-{test}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let at = folder.clone();
    let home = move || {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let pinned = rustix::fs::open(&at, flags, rustix::fs::Mode::empty()).unwrap();
        SocketHome::new(pinned, "s".into())
    };
    (folder, home)
}

fn errno(result: Result<Carried, Failure>) -> Option<i32> {
    match result {
        Ok(_) => None,
        Err(Failure::Errno(error)) => error.raw_os_error(),
        Err(Failure::Refused(_, errno)) => Some(errno.raw_os_error()),
    }
}

#[test]
fn a_name_whose_socket_is_gone_is_bound_anew_and_no_other() {
    let (folder, home) = folder("dead");
    let path = folder.join("s");
    let grant = unix(SocketRole::Listen, path.to_str().unwrap(), Ok(home()));
    let address = named(path.to_str().unwrap().as_bytes());
    let Carried::Opened(first) = make::bind(&grant, &address, STREAM).unwrap() else { panic!("no socket") };
    assert_eq!(errno(make::bind(&grant, &address, STREAM)), Some(libc::EADDRINUSE), "it is somebody's");
    drop(first);
    let Carried::Opened(second) = make::bind(&grant, &address, STREAM).unwrap() else { panic!("no socket") };
    std::fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    drop(second);
    assert_eq!(errno(make::bind(&grant, &address, STREAM)), Some(libc::EADDRINUSE), "it was bound by somebody else");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_unix_socket_is_bound_and_removed() {
    let (folder, home) = folder("bound");
    let path = folder.join("s");
    let grant = unix(SocketRole::Listen, path.to_str().unwrap(), Ok(home()));
    let address = named(path.to_str().unwrap().as_bytes());
    assert_eq!(errno(make::remove(&grant)), Some(libc::ENOENT));
    let Carried::Opened(socket) = make::bind(&grant, &address, STREAM).unwrap() else { panic!("no socket") };
    let listener = UnixListener::from(socket);
    rustix::net::listen(&listener, 1).unwrap();
    assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(path.as_path()));
    assert_eq!(errno(make::bind(&grant, &address, STREAM)), Some(libc::EADDRINUSE));

    let client = unix(SocketRole::Connect, path.to_str().unwrap(), Ok(home()));
    let Carried::Opened(peer) = make::connect(&client, &address, STREAM, PATIENCE).unwrap() else { panic!("no peer") };
    UnixStream::from(peer).write_all(b"hello").unwrap();
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");

    assert_eq!(errno(make::remove(&grant)), None);
    assert!(!path.exists());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_others_have_made_is_not_removed() {
    let (folder, home) = folder("strange");
    let path = folder.join("s");
    let grant = unix(SocketRole::Listen, path.to_str().unwrap(), Ok(home()));
    std::fs::write(&path, "a file").unwrap();
    assert_eq!(errno(make::remove(&grant)), Some(libc::EACCES));
    std::fs::remove_file(&path).unwrap();
    let late = UnixListener::bind(&path).unwrap();
    assert_eq!(errno(make::remove(&grant)), Some(libc::EACCES));
    drop(late);

    // One that is there at the start is what a guest left behind that was killed.
    let grant = unix(SocketRole::Listen, path.to_str().unwrap(), Ok(home()));
    assert_eq!(errno(make::remove(&grant)), None);
    assert!(!path.exists());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_full_server_is_not_waited_for_for_ever() {
    let (folder, home) = folder("full");
    let path = folder.join("s");
    let grant = unix(SocketRole::Listen, path.to_str().unwrap(), Ok(home()));
    let address = named(path.to_str().unwrap().as_bytes());
    let Carried::Opened(server) = make::bind(&grant, &address, STREAM).unwrap() else { panic!("no socket") };
    rustix::net::listen(&server, 0).unwrap();
    let client = unix(SocketRole::Connect, path.to_str().unwrap(), Ok(home()));
    let short = Duration::from_millis(50);
    let _first = make::connect(&client, &address, STREAM, short).unwrap();
    assert_eq!(errno(make::connect(&client, &address, STREAM, short)), Some(libc::ETIMEDOUT));
    let at_once = Socket { nonblocking: true, ..STREAM };
    assert_eq!(errno(make::connect(&client, &address, at_once, short)), Some(libc::EAGAIN));
    std::fs::remove_dir_all(folder).unwrap();
}

/// Both families, whether the socket waits or not.
#[test]
fn tcp_sockets_reach_their_peer() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let grant = tcp(SocketRole::Connect, &[ip], port..=port);
        let address = match ip {
            IpAddr::V4(ip) => v4(ip, port),
            IpAddr::V6(ip) => v6(ip, port),
        };
        for nonblocking in [false, true] {
            let wanted = Socket { nonblocking, keep_alive: true, ..STREAM };
            let socket = match make::connect(&grant, &address, wanted, PATIENCE).unwrap() {
                Carried::Opened(socket) => socket,
                Carried::Connecting(socket) if nonblocking => socket,
                other => panic!("{other:?}"),
            };
            let flags = rustix::fs::fcntl_getfl(&socket).unwrap();
            assert_eq!(flags.contains(rustix::fs::OFlags::NONBLOCK), nonblocking);
            assert!(rustix::net::sockopt::socket_keepalive(&socket).unwrap());
            let (mut server, _) = listener.accept().unwrap();
            server.write_all(b"hello").unwrap();
            let mut client = std::net::TcpStream::from(socket);
            client.set_nonblocking(false).unwrap();
            let mut heard = [0; 5];
            client.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"hello", "{ip}, nonblocking: {nonblocking}");
        }
    }
}

#[test]
fn a_port_is_bound_as_the_emulator_would() {
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let grant = tcp(SocketRole::Listen, &[local], 0..=0);
    let wanted = Socket { reuse_address: true, ..STREAM };
    let Carried::Opened(socket) = make::bind(&grant, &v4(Ipv4Addr::LOCALHOST, 0), wanted).unwrap() else {
        panic!("no socket");
    };
    assert!(rustix::net::sockopt::socket_reuseaddr(&socket).unwrap());
    rustix::net::listen(&socket, 1).unwrap();
    let port = TcpListener::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
    assert_eq!(errno(make::bind(&grant, &v4(Ipv4Addr::LOCALHOST, port), wanted)), Some(libc::EADDRINUSE));
}
