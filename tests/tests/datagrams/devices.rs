//! Character devices of UDP: one peer, and nobody else.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use tests::{BrokerCommand, During, Error, PATIENCE, PLAIN_QEMU, Result, Workdir, need, until};

/// How long it is listened for what must not come.
const QUIET: Duration = Duration::from_millis(300);

fn socket() -> Result<(UdpSocket, u16)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).during("bind a port")?;
    socket.set_read_timeout(Some(PATIENCE)).during("set a time limit")?;
    let port = socket.local_addr().during("look at a port")?.port();
    Ok((socket, port))
}

/// Listens until `text` has come.
fn hear(socket: &UdpSocket, text: &str) -> Result<String> {
    let mut heard = String::new();
    let mut bytes = [0; 4096];
    while !heard.contains(text) {
        let length = socket.recv(&mut bytes).during(format!("hear {text:?} after {heard:?}"))?;
        let part = bytes.get(..length).ok_or_else(|| Error::Unexpected("a long datagram".to_owned()))?;
        heard.push_str(&String::from_utf8_lossy(part));
    }
    Ok(heard)
}

#[test]
fn two_monitors_with_a_peer_each() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let files = workdir.listing()?;
    let ((first, first_port), (second, second_port)) = (socket()?, socket()?);
    let (at, second_at) = (socket()?.1, socket()?.1);
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-machine", "none"]);
    let mut emulator = command
        .args(["-monitor", &format!("udp:127.0.0.1:{first_port}@127.0.0.1:{at}")])
        .args([
            "-chardev",
            &format!("udp,id=c,host=localhost,port={second_port},localport={second_at},ipv4=on"),
            "-mon",
            "chardev=c",
        ])
        .start()?;
    for (peer, at) in [(&first, at), (&second, second_at)] {
        let speaks = || {
            peer.send_to(b"info status\n", ("127.0.0.1", at)).during("ask")?;
            Ok(peer.recv(&mut [0; 4096]).is_ok().then_some(()))
        };
        peer.set_read_timeout(Some(QUIET)).during("set a time limit")?;
        until(PATIENCE, "an answer", speaks)?;
        peer.set_read_timeout(Some(PATIENCE)).during("set a time limit")?;
        hear(peer, "running")?;
    }
    let (stranger, _) = socket()?;
    stranger.send_to(b"quit\n", ("127.0.0.1", at)).during("ask as a stranger")?;
    stranger.set_read_timeout(Some(QUIET)).during("set a time limit")?;
    assert!(stranger.recv(&mut [0; 16]).is_err());
    first.send_to(b"info status\n", ("127.0.0.1", at)).during("ask")?;
    hear(&first, "running")?;
    first.send_to(b"quit\n", ("127.0.0.1", at)).during("quit")?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
    emulator.assert_nothing_left(&workdir, &files)
}
