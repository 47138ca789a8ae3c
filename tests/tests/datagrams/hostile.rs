//! An emulator that a guest has taken over has frames to send, and nobody else to send them to.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use tests::hostile::{Answers, Scene};
use tests::{During, Error, PATIENCE, Result, need};

use crate::scene::{receive_udp, relays};

/// What each attempt of `datagrams.c` comes to.
const ATTEMPTS: &[(&str, &str)] = &[
    // One end of a pair, and AF_UNIX.
    ("1", "sockets family"),
    ("EINVAL", "send-udp"),
    // Of another network namespace, and beyond Landlock's scope.
    ("EPERM|ECONNREFUSED", "send-abstract"),
    ("ENOENT|EACCES", "send-path"),
    ("EPERM|EACCES", "connect-abstract connect-path"),
    ("100", "passed empty"),
    ("ok|EMSGSIZE", "send-longest"),
    ("ok", "shutdown send"),
];

#[test]
fn frames_go_to_the_named_address_and_nowhere_else() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).during("bind a port");
    let (peer, bystander, local) = (bind()?, bind()?, bind()?);
    let port = |socket: &UdpSocket| socket.local_addr().map(|address| address.port()).during("look at a port");
    peer.set_read_timeout(Some(PATIENCE)).during("set a time limit")?;
    let at = port(&local)?;
    drop(local);
    let name = format!("bystander-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).during("make a name")?;
    let path = scene.workdir.aside().join("bystander");
    let strangers = [
        UnixDatagram::bind_addr(&address).during("bind an abstract name")?,
        UnixDatagram::bind(&path).during("bind a path")?,
    ];
    scene.tell(&format!("udp={}\nabstract={name}\npath={}\n", port(&bystander)?, path.display()))?;
    let netdev = format!("socket,id=n,udp=127.0.0.1:{},localaddr=127.0.0.1:{at}", port(&peer)?);
    let mut emulator = scene.command("datagrams").args(["-netdev", &netdev]).start()?;
    scene.await_step(&mut emulator, 'a')?;

    Answers::parse(&emulator.stdout()?, "waiting-for a")?.assert(ATTEMPTS);
    let mut passed = 0;
    while receive_udp(&peer)? != b"the last frame" {
        passed += 1;
    }
    assert_eq!(passed, 100);
    bystander.set_nonblocking(true).during("look without waiting")?;
    assert!(bystander.recv(&mut [0; 16]).is_err());
    for stranger in &strangers {
        stranger.set_nonblocking(true).during("look without waiting")?;
        assert!(stranger.recv(&mut [0; 16]).is_err());
    }
    assert_confined(&relays(emulator.helpers()?))?;
    scene.take_step(&mut emulator, 'a')?;
    scene.assert_unharmed(&emulator.wait()?)
}

/// One relay, with two sockets a network and what it waits for, without rights, in a network of its own.
fn assert_confined(relays: &[tests::Process]) -> Result<()> {
    assert_eq!(relays.len(), 1);
    for relay in relays {
        let others: Vec<PathBuf> =
            relay.descriptors()?.into_iter().filter(|(number, _)| *number > 2).map(|(_, target)| target).collect();
        let of_kind = |kind: &str| others.iter().filter(|path| path.to_string_lossy().starts_with(kind)).count();
        // The third socket is the one by which it started.
        assert_eq!((of_kind("socket:"), of_kind("pipe:"), others.len()), (3, 1, 4), "{others:?}");
        let Some(status) = relay.status() else { return Err(Error::Unexpected("the relay is gone".to_owned())) };
        assert_eq!(status.field("CapEff"), "0000000000000000");
        assert_eq!((status.field("NoNewPrivs"), status.field("Seccomp")), ("1", "2"));
        assert_ne!(relay.namespace("net")?, tests::Process(std::process::id()).namespace("net")?);
    }
    Ok(())
}
