//! Doors of the kernel, of the network and of the terminal that an emulator has no business at.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::time::Timespec;
use tests::hostile::{Answers, Scene};
use tests::{BrokerCommand, During, Result, broker_binary, need};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_399;

/// What each attempt of `calls.c` comes to.
const CALLS: &[(&str, &str)] = &[
    ("EPERM", "unshare-user unshare-mount unshare-net unshare-pid unshare-ipc unshare-uts unshare-cgroup unshare-time"),
    (
        "EPERM",
        "clone-user clone-mount clone-net clone-pid clone-ipc clone-uts clone-cgroup clone-parent clone-process fork setns",
    ),
    ("ENOSYS", "clone3-user io-uring-setup io-uring-enter io-uring-register unknown-call"),
    ("EPERM", "setuid setresuid setgid setgroups setfsuid capset ambient securebits keep-capabilities"),
    ("EPERM", "dumpable ptracer subreaper memory-map personality personality-read-implies-exec"),
    // no_new_privs can be set, which it is, and not be taken back.
    ("EINVAL", "new-privileges"),
    ("EPERM", "execute-shell execute-loader execute-itself execute-setuid execute-image execute-at execute-memory"),
    ("EPERM", "bpf perf userfaultfd keyctl add-key request-key modify-ldt ioperm iopl syslog memfd-secret"),
    ("EPERM", "shmget shmat semget msgget mq-open sethostname landlock splice vmsplice flock timer-create"),
    // A filter of one's own only adds: no second listener, and nothing is allowed by it that was not before.
    ("EBUSY", "filter-with-listener"),
    ("ok", "filter-that-allows filter-log"),
    ("EPERM", "personality-after-it"),
];

/// What each attempt of `sockets.c` comes to.
const SOCKETS: &[(&str, &str)] = &[
    ("ok", "unix-socket inet-socket"),
    // The broker knows none of these addresses.
    ("EACCES", "abstract-connect abstract-bind named-connect named-bind tcp-connect tcp-bind"),
    // Looked up in the sandbox's own namespaces.
    ("ECONNREFUSED|EPERM", "abstract-send"),
    ("ENOENT", "named-send named-send-absolute"),
    ("EPERM", "tcp-fast-open"),
    ("ok", "udp-send"),
    ("ENETUNREACH", "udp-send-outside"),
    ("EAFNOSUPPORT", "socket-netlink socket-uevents"),
    ("EPERM", "socket-packet socket-vsock socket-algorithms socket-keys socket-bluetooth socket-can"),
    ("EPERM", "socket-xdp socket-tipc socket-family-high-half"),
    // Within the families that are allowed the kernel wants CAP_NET_RAW.
    ("EPERM", "socket-raw"),
];

/// What each attempt of `terminal.c` comes to.
const TERMINAL: &[(&str, &str)] = &[
    ("ok", "session own-terminal look"),
    // The filter, or a kernel in which that is switched off (Linux 6.2); only virtual consoles can paste.
    ("EPERM|EIO", "push push-high-bit push-high-half push-through-duplicate"),
    ("EPERM|ENOTTY", "paste paste-high-bit"),
    ("EACCES", "open-terminal"),
];

fn call(prepare: impl FnOnce(BrokerCommand) -> BrokerCommand) -> Result<Scene> {
    let scene = Scene::new()?;
    let finished = prepare(scene.command("calls")).run()?;
    Answers::of(&finished)?.assert(CALLS);
    assert!(!finished.stdout.contains("executed"), "{}", finished.stdout);
    scene.assert_unharmed(&finished)?;
    Ok(scene)
}

#[test]
fn dangerous_calls_are_refused_and_named() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let audit = call(|command| command)?.audit()?;
    for name in
        ["unshare", "setns", "execve", "execveat", "bpf", "perf_event_open", "keyctl", "personality", "number 600"]
    {
        assert!(audit.iter().any(|line| line["request"] == "call" && line["name"] == name), "{name}: {audit:?}");
    }
    Ok(())
}

#[test]
fn dangerous_calls_are_refused_to_an_ordinary_user() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    call(|command| command.user(USER)).map(drop)
}

/// Everything of the host that listens, for an attack to reach.
struct Listeners {
    streams: [UnixListener; 2],
    packets: [UnixDatagram; 2],
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Listeners {
    fn open(scene: &Scene) -> Result<Self> {
        let name = |kind: &str| format!("broker-test-{}-{kind}", std::process::id());
        let address = |kind: &str| SocketAddr::from_abstract_name(name(kind)).during("make an abstract address");
        let named = |file: &str| scene.workdir.path(file);
        let listeners = Self {
            streams: [
                UnixListener::bind_addr(&address("stream")?).during("listen on an abstract name")?,
                UnixListener::bind(named("stream.sock")).during("listen on stream.sock")?,
            ],
            packets: [
                UnixDatagram::bind_addr(&address("packets")?).during("bind an abstract name")?,
                UnixDatagram::bind(named("packets.sock")).during("bind packets.sock")?,
            ],
            tcp: TcpListener::bind("127.0.0.1:0").during("listen on a port")?,
            udp: UdpSocket::bind("127.0.0.1:0").during("bind a port")?,
        };
        let tcp = listeners.tcp.local_addr().during("ask for the port")?.port();
        let udp = listeners.udp.local_addr().during("ask for the port")?.port();
        let (stream, packets) = (name("stream"), name("packets"));
        scene.tell(&format!("abstract-stream={stream}\nabstract-packets={packets}\ntcp={tcp}\nudp={udp}\n"))?;
        Ok(listeners)
    }

    /// Fails if anything came: a local connection or packet is there as soon as the call that sends it returns.
    fn assert_quiet(&self) -> Result<()> {
        let would_block =
            |error: Option<std::io::Error>| error.map(|error| error.kind()) == Some(ErrorKind::WouldBlock);
        let mut byte = [0];
        for listener in &self.streams {
            listener.set_nonblocking(true).during("stop blocking")?;
            assert!(would_block(listener.accept().err()), "connected to {listener:?}");
        }
        for socket in &self.packets {
            socket.set_nonblocking(true).during("stop blocking")?;
            assert!(would_block(socket.recv(&mut byte).err()), "sent to {socket:?}");
        }
        self.tcp.set_nonblocking(true).during("stop blocking")?;
        assert!(would_block(self.tcp.accept().err()), "connected to {:?}", self.tcp);
        self.udp.set_nonblocking(true).during("stop blocking")?;
        assert!(would_block(self.udp.recv(&mut byte).err()), "sent to {:?}", self.udp);
        Ok(())
    }
}

#[test]
fn no_socket_leads_to_the_host() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    let listeners = Listeners::open(&scene)?;
    let finished = scene.command("sockets").run()?;
    Answers::of(&finished)?.assert(SOCKETS);
    listeners.assert_quiet()
}

/// Both ends of a new terminal: the operator's, and the one that programs start at.
fn open_terminal() -> Result<(OwnedFd, OwnedFd)> {
    let operator = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).during("open a terminal")?;
    grantpt(&operator).during("grant the terminal")?;
    unlockpt(&operator).during("unlock the terminal")?;
    let name = ptsname(&operator, Vec::new()).during("name the terminal")?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let program = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).during("open the terminal's other end")?;
    Ok((operator, program))
}

/// Whether somebody has typed: input waits at the programs' end, or was echoed to the operator's.
fn has_input(terminal: &[&OwnedFd]) -> Result<bool> {
    let mut descriptors: Vec<PollFd> = terminal.iter().map(|end| PollFd::new(*end, PollFlags::IN)).collect();
    let ready = poll(&mut descriptors, Some(&Timespec::default())).during("poll the terminal")?;
    Ok(ready > 0)
}

/// Runs the attack at a terminal, without the broker if `bare`.
fn type_at_terminal(scene: &Scene, bare: bool) -> Result<(Answers, bool)> {
    let (operator, program) = open_terminal()?;
    let other = program.as_fd().try_clone_to_owned().during("duplicate the terminal")?;
    // Input is complete at once, and not only with a line's end.
    let mut modes = rustix::termios::tcgetattr(&program).during("ask for the terminal's modes")?;
    modes.make_raw();
    rustix::termios::tcsetattr(&program, rustix::termios::OptionalActions::Now, &modes).during("set the modes")?;
    let mut command = if bare { Command::new(scene.program()) } else { Command::new(broker_binary()?) };
    if !bare {
        command.arg("--").arg(scene.program());
    }
    let output = command
        .args(scene.arguments("terminal"))
        .current_dir(scene.workdir.files())
        .stdin(Stdio::from(program))
        .output()
        .during("start at a terminal")?;
    let answers = Answers::parse(&String::from_utf8_lossy(&output.stdout), "DONE")?;
    Ok((answers, has_input(&[&operator, &other])?))
}

#[test]
fn nobody_types_at_the_operators_terminal() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    let (answers, typed) = type_at_terminal(&scene, false)?;
    answers.assert(TERMINAL);
    assert!(!typed, "something was typed");
    // The attack is one: without the broker it types, unless the host has switched that off (Linux 6.2).
    let (answers, typed) = type_at_terminal(&scene, true)?;
    let switched_off = std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|text| text.trim() == "0");
    assert_eq!(typed, !switched_off, "{answers:?}");
    Ok(())
}
