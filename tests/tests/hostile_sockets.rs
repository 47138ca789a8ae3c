//! The sockets that a command line names, in the hands of an emulator that a guest has taken over: what it may do with them is
//! what the command line says, and nothing else of the operator's network is in its reach.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tests::hostile::{Answers, Scene};
use tests::{During, Error, Result, need};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_387;

/// What each attempt of `granted_sockets.c` comes to.
const GRANTED: &[(&str, &str)] = &[
    ("EACCES", "bind-other-port bind-any-port bind-other-address bind-all-addresses bind-all-v6"),
    ("EACCES", "bind-what-may-be-connected connect-what-may-be-bound"),
    ("ok", "bind-granted close-on-exec listen accept"),
    ("EINVAL", "bind-again bind-connected"),
    ("EALREADY", "connect-bound"),
    ("EISCONN", "connect-listening connect-again"),
    ("EPERM", "disconnect-listening disconnect disconnect-shut-down"),
    ("EAFNOSUPPORT", "bind-unspecified"),
    ("EACCES", "connect-other-port connect-other-address connect-outside"),
    ("ok", "connect-granted connect-in-a-thread"),
    ("EINVAL", "listen-connected listen-shut-down"),
    // The peer may have reset the connection before.
    ("ok|ENOTCONN", "shut-down"),
    ("EPERM", "option-device option-detach option-share-port option-mark option-route option-group option-transparent"),
    ("EPERM", "option-repair option-protocol option-fast-open option-late-connect option-filter"),
    ("ok", "option-no-delay"),
    ("EPERM", "interfaces interface-name interface-name-high-half network-namespace send-signals-to"),
    ("EPERM", "send-fast-open send-fast-open-bound message-fast-open messages-fast-open fast-open-high-half"),
    // `tcp_sendmsg` (net/ipv4/tcp.c) looks at no address but with MSG_FASTOPEN: this goes to the peer.
    ("ok", "send-elsewhere-connected"),
    ("EPIPE", "send-elsewhere-bound"),
    // A datagram's way out is never handed over. The first is how getaddrinfo sorts what it has found.
    ("ENETUNREACH", "packets-to-granted"),
    ("EACCES", "packets-at-granted"),
    ("EPERM", "other-protocol"),
    ("EPERM", "kind-packets-bind kind-packets-connect kind-sctp kind-sctp-v6 kind-dccp kind-unused"),
    ("EACCES", "kind-datagrams-bind kind-datagrams-connect"),
    ("ENOPROTOOPT", "path-process path-process-high-half"),
    ("EINPROGRESS", "connect-slowly"),
    ("EALREADY", "connect-slowly-again"),
    // The kernel would let it, at a free port (`inet_shutdown`, net/ipv4/af_inet.c).
    ("ok", "still-non-blocking shut-down-while-connecting"),
    ("EINVAL", "listen-while-connecting listen-fresh"),
    ("EACCES", "path-other path-above path-private path-abstract path-beyond path-connect-foreign unlink-foreign"),
    ("EPERM", "path-none"),
    ("ok", "path-granted path-listen path-accept unlink-granted path-anew path-dead unlink-last"),
    ("EADDRINUSE", "path-taken path-alive"),
    ("ENOENT", "path-connect-name-cache path-connect-log unlink-again"),
    ("ok", "race-some-connected"),
    ("0", "race-strange"),
];

const WITHOUT_RING: &[(&str, &str)] = &[("ENOSYS", "ring")];

/// A ring carries reads and writes.
const THROUGH_RING: &[(&str, &str)] = &[
    ("ok", "ring ring-write"),
    ("EACCES", "ring-connect ring-disconnect ring-fast-open ring-send ring-accept ring-socket-command"),
    // Before Linux 6.11 there is no such operation.
    ("EACCES|EINVAL", "ring-bind ring-listen"),
];

/// A TCP server that takes connections until it is shut down, and counts them.
struct Server {
    listener: TcpListener,
    accepts: JoinHandle<usize>,
}

impl Server {
    fn start() -> Result<Self> {
        let listener = listen()?;
        let other = listener.try_clone().during("duplicate a listener")?;
        let accepts = thread::spawn(move || other.incoming().take_while(std::result::Result::is_ok).count());
        Ok(Self { listener, accepts })
    }

    fn stop(self) -> Result<usize> {
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).during("shut a listener down")?;
        self.accepts.join().map_err(|_| Error::Unexpected("the server panicked".into()))
    }
}

fn listen() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("listen on a port")
}

fn port(listener: &TcpListener) -> Result<u16> {
    Ok(listener.local_addr().during("ask for the port")?.port())
}

/// A server whose queue is full: a connection to it stays about to be.
struct FullServer {
    port: u16,
    _listener: OwnedFd,
    _waiting: TcpStream,
}

impl FullServer {
    fn start() -> Result<Self> {
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).during("make a socket")?;
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).during("bind a port")?;
        // One connection waits, whatever the backlog (`sk_acceptq_is_full`, include/net/sock.h).
        rustix::net::listen(&socket, 0).during("listen")?;
        let listener = TcpListener::from(socket);
        let port = port(&listener)?;
        let waiting = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).during("fill the queue")?;
        Ok(Self { port, _listener: listener.into(), _waiting: waiting })
    }
}

/// All that is at 127.0.0.1 for the attack.
struct Network {
    /// May be connected to.
    server: Server,
    /// May be connected to, and does not answer.
    slow: FullServer,
    /// Somebody else's.
    foreign: [TcpListener; 2],
    foreign_packets: UdpSocket,
    foreign_path: UnixListener,
    /// The port to listen on.
    listen: u16,
    /// A port of nobody, which may be connected to.
    free_to_connect: u16,
}

impl Network {
    fn open(scene: &Scene) -> Result<Self> {
        let (server, slow) = (Server::start()?, FullServer::start()?);
        let foreign = [listen()?, listen()?];
        // Free again when the listeners of these ports are closed, at the end of this function.
        let free = [listen()?, listen()?, listen()?];
        let [listen, free_to_connect, nobodys] = [port(&free[0])?, port(&free[1])?, port(&free[2])?];
        let foreign_port = port(&foreign[0])?;
        let network = Self {
            foreign_packets: UdpSocket::bind((Ipv4Addr::LOCALHOST, foreign_port)).during("bind a port")?,
            foreign_path: UnixListener::bind(scene.workdir.path("foreign.sock")).during("listen on foreign.sock")?,
            server,
            slow,
            foreign,
            listen,
            free_to_connect,
        };
        scene.tell(&format!(
            "listen={listen}\nfree={nobodys}\nfree-to-connect={free_to_connect}\nconnect={}\nslow={}\nforeign={foreign_port}\n",
            port(&network.server.listener)?,
            network.slow.port,
        ))?;
        Ok(network)
    }

    /// The options that name what the emulator may have.
    fn arguments(&self) -> Result<Vec<String>> {
        let connect = [port(&self.server.listener)?, self.slow.port, self.free_to_connect];
        let connect = connect.iter().map(|port| format!("socket,id=c{port},host=127.0.0.1,port={port}"));
        let listen = format!("socket,id=l,host=127.0.0.1,port={},server=on,wait=off", self.listen);
        let path = "socket,id=p,path=granted.sock,server=on,wait=off".to_owned();
        Ok(connect.chain([listen, path]).flat_map(|device| ["-chardev".to_owned(), device]).collect())
    }

    /// Fails if anything came to somebody else's sockets: at this machine's own addresses it is there as soon as it is sent.
    fn assert_quiet(&self) -> Result<()> {
        for listener in &self.foreign {
            listener.set_nonblocking(true).during("stop blocking")?;
            let came = listener.accept().map_err(|error| error.kind());
            assert!(matches!(came, Err(ErrorKind::WouldBlock)), "{came:?}");
        }
        self.foreign_packets.set_nonblocking(true).during("stop blocking")?;
        let came = self.foreign_packets.recv(&mut [0]).map_err(|error| error.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock));
        self.foreign_path.set_nonblocking(true).during("stop blocking")?;
        let came = self.foreign_path.accept().map_err(|error| error.kind());
        assert!(matches!(came, Err(ErrorKind::WouldBlock)), "{came:?}");
        Ok(())
    }
}

/// Waits until the other side has closed a connection, as who accepted it does at once.
fn await_end(mut stream: impl Read) -> Result<()> {
    stream.read(&mut [0]).map(drop).during("wait for the end of a connection")
}

fn assert_gone(path: &Path) {
    assert!(!path.exists(), "{} is still there", path.display());
}

/// `ring`: arguments that ask for a ring of io_uring.
fn attack(user: Option<u32>, ring: &[&str]) -> Result<()> {
    let scene = Scene::new()?;
    let network = Network::open(&scene)?;
    let command = scene.command("granted-sockets").args(network.arguments()?).args(ring.iter().copied());
    let command = if let Some(user) = user { command.user(user) } else { command };
    let mut emulator = command.start()?;

    scene.await_step(&mut emulator, 'a')?;
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, network.listen)).during("connect to the granted port")?;
    scene.take_step(&mut emulator, 'a')?;
    await_end(client)?;

    scene.await_step(&mut emulator, 'b')?;
    let path = scene.workdir.path("granted.sock");
    let client = UnixStream::connect(&path).during("connect to the granted path")?;
    client.shutdown(Shutdown::Write).during("shut a connection down")?;
    scene.take_step(&mut emulator, 'b')?;
    await_end(client)?;

    let finished = emulator.wait()?;
    let answers = Answers::of(&finished)?;
    assert_eq!(answers.number("bound-to")?, u64::from(network.listen));
    answers
        .except(&["bound-to"])
        .assert(&[GRANTED, if ring.is_empty() { WITHOUT_RING } else { THROUGH_RING }].concat());
    assert_gone(&path);
    assert!(scene.workdir.path("foreign.sock").exists());
    scene.assert_unharmed(&finished)?;
    network.assert_quiet()?;
    let connected = network.server.stop()?;
    assert!(connected > 1, "{connected} connections came where they may");
    Ok(())
}

#[test]
fn sockets_lead_only_where_the_command_line_says() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(None, &[])
}

#[test]
fn sockets_of_an_ordinary_user_lead_only_where_the_command_line_says() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(Some(USER), &[])
}

#[test]
fn sockets_lead_nowhere_else_through_a_ring() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(None, &["-drive", "file=backing.raw,format=raw,if=none,id=d,readonly=on,aio=io_uring"])
}
