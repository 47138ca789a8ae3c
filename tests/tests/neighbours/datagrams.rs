//! Character devices of UDP that share a peer, and those of the storage daemon.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use tests::{During, PATIENCE, Result, Workdir, need, until};

use crate::scene::{assert_well, command, wait_for_pid_file};

/// How long an answer is waited for before it is asked again.
const PAUSE: Duration = Duration::from_millis(300);

fn socket() -> Result<(UdpSocket, u16)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).during("bind a port")?;
    socket.set_read_timeout(Some(PAUSE)).during("set a time limit")?;
    let port = socket.local_addr().during("look at a port")?.port();
    Ok((socket, port))
}

/// A port that nobody has now.
fn free() -> Result<u16> {
    Ok(socket()?.1)
}

/// Asks the monitor at `port` until it answers from there.
fn ask(peer: &UdpSocket, port: u16) -> Result<()> {
    until(PATIENCE, "an answer from the port that was asked", || {
        peer.send_to(b"info name\n", (Ipv4Addr::LOCALHOST, port)).during("ask")?;
        let answer = peer.recv_from(&mut [0; 4096]).ok();
        Ok(answer.is_some_and(|(_, from)| from.port() == port).then_some(()))
    })
}

#[test]
fn two_monitors_with_one_peer_have_a_port_each() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (peer, to) = socket()?;
    let ports = [free()?, free()?];
    let chardevs = ports.map(|port| format!("udp:127.0.0.1:{to}@127.0.0.1:{port}"));
    let start = command(&workdir, None).args(["-machine", "none", "-nodefaults", "-display", "none"]);
    let mut emulator = start.args(chardevs.iter().flat_map(|chardev| ["-monitor", chardev.as_str()])).start()?;
    for port in ports.iter().rev().chain(&ports) {
        ask(&peer, *port).map_err(|error| emulator.explain(error))?;
    }
    emulator.signal(rustix::process::Signal::TERM)?;
    assert_well(&emulator.wait()?);
    Ok(())
}

/// QEMU 7.2's daemon does not survive what comes in on such a device without a broker either, so nothing is sent.
#[test]
fn the_storage_daemon_binds_its_port() -> Result<()> {
    need!(Tools, Landlock);
    let workdir = Workdir::new()?;
    workdir.write("disk.raw", &[0; 1 << 20])?;
    let (port, to) = (free()?, free()?);
    let chardev = format!("udp,id=c,host=127.0.0.1,port={to},localaddr=127.0.0.1,localport={port}");
    let start = command(&workdir, None).program("qemu-storage-daemon").args(["--chardev", &chardev]);
    let mut daemon = start.args(["--blockdev", "file,filename=disk.raw,node-name=f", "--pidfile", "pid"]).start()?;
    wait_for_pid_file(&workdir, &daemon)?;
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
    assert_eq!(taken.err().map(|error| error.kind()), Some(std::io::ErrorKind::AddrInUse));
    daemon.signal(rustix::process::Signal::TERM)?;
    assert_well(&daemon.wait()?);
    Ok(())
}
