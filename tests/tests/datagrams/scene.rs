//! A network namespace in which datagrams go round, and an emulator that joins two networks of datagrams: what comes in by
//! the one goes out by the other.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tests::{BrokerCommand, During, Network, PATIENCE, PLAIN_QEMU, Process, Result, Workdir};

/// Bytes of an Ethernet frame of a type for experiments (IEEE 802, 0x88b5), to everybody.
pub(crate) fn frame(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = [&[0xff; 6][..], &[0x52, 0x54, 0, 0, 3, 1, 0x88, 0xb5], text.as_bytes()].concat();
    bytes.resize(length, 0);
    bytes
}

/// The other side of the network that every emulator here has beside the one that a test is about: a UNIX socket.
pub(crate) struct Scene {
    pub(crate) network: Network,
    pub(crate) workdir: Workdir,
    witness: UnixDatagram,
}

impl Scene {
    /// A namespace whose loopback interface is up, takes multicasts, and is where they go.
    pub(crate) fn new() -> Result<Self> {
        let network = Network::new()?;
        network.ip("link set lo up multicast on")?;
        network.ip("route add 224.0.0.0/4 dev lo")?;
        let workdir = Workdir::new()?;
        let path = workdir.aside().join("witness");
        let witness = UnixDatagram::bind(&path).during("bind the witness")?;
        witness.set_read_timeout(Some(PATIENCE)).during("set a time limit")?;
        Ok(Self { network, workdir, witness })
    }

    /// A path that tests and emulator have for a socket.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.workdir.aside().join(name)
    }

    /// An emulator with the network `netdev`, without its id, joined with the witness's.
    pub(crate) fn start(&self, netdev: &str) -> BrokerCommand<'_> {
        let (ours, theirs) = (self.path("joined"), self.path("witness"));
        let joined = format!(
            "dgram,id=m,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            ours.display(),
            theirs.display()
        );
        let command =
            BrokerCommand::new(&self.workdir).inside(&self.network).args(PLAIN_QEMU).args(["-machine", "none"]);
        let ports = ["hubport,id=h1,hubid=0,netdev=n", "hubport,id=h2,hubid=0,netdev=m"];
        command.args([netdev, &joined, ports[0], ports[1]].iter().flat_map(|value| ["-netdev", value]))
    }

    /// Sends a frame to the emulator by the witness's network.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        let path = self.path("joined");
        self.witness.send_to(frame, &path).during(format!("send to {}", path.display())).map(drop)
    }

    /// The next frame that came there.
    pub(crate) fn receive(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; 70_000];
        let length = self.witness.recv(&mut bytes).during("receive a frame by the UNIX socket")?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// A socket of UDP in the namespace.
    pub(crate) fn udp(&self, port: u16) -> Result<UdpSocket> {
        let socket = self.network.within(None, || UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
        let socket = socket.during(format!("bind port {port}"))?;
        socket.set_read_timeout(Some(PATIENCE)).during("set a time limit")?;
        Ok(socket)
    }
}

/// The next frame that came to a socket of UDP.
pub(crate) fn receive_udp(socket: &UdpSocket) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 70_000];
    let length = socket.recv(&mut bytes).during("receive a frame by UDP")?;
    bytes.truncate(length);
    Ok(bytes)
}

/// The relays among these processes.
pub(crate) fn relays(processes: impl IntoIterator<Item = Process>) -> Vec<Process> {
    let is_relay = |process: &Process| process.status().is_some_and(|status| status.field("Name") == "broker-relay");
    processes.into_iter().filter(is_relay).collect()
}
