//! Frames go both ways, whole, in every form that there is.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;

use tests::{During, ORDINARY_USER, PATIENCE, Result, need};

use crate::scene::{Scene, frame, receive_udp};

/// Lengths of frames in bytes: the shortest of Ethernet, the longest without and with large receive offload.
const LENGTHS: [usize; 4] = [60, 1514, 9000, 65_000];

/// Sends frames both ways between a socket of UDP and the witness.
fn exchange(scene: &Scene, peer: &UdpSocket, to: (&str, u16)) -> Result<()> {
    for length in LENGTHS {
        let (coming, going) = (frame("to the guest", length), frame("from the guest", length));
        peer.send_to(&coming, to).during(format!("send to {to:?}"))?;
        assert_eq!(scene.receive()?, coming, "{length}");
        scene.send(&going)?;
        assert_eq!(receive_udp(peer)?, going, "{length}");
    }
    Ok(())
}

fn unicast(netdev: &str, user: Option<u32>) -> Result<()> {
    let scene = Scene::new()?;
    let peer = scene.udp(7002)?;
    let mut command = scene.start(netdev);
    if let Some(user) = user {
        command = command.user(user);
        // Whoever sends to the witness must be able to write it.
        scene.network.run(None, "chmod", &["-R", "a+rwX", &scene.path("").to_string_lossy()])?;
    }
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    exchange(&scene, &peer, ("127.0.0.1", 7001))?;
    // QEMU takes frames from everybody, and answers one address.
    let stranger = scene.udp(0)?;
    let coming = frame("from a stranger", 60);
    stranger.send_to(&coming, ("127.0.0.1", 7001)).during("send as a stranger")?;
    assert_eq!(scene.receive()?, coming);
    scene.send(&frame("to the peer", 60))?;
    assert_eq!(receive_udp(&peer)?, frame("to the peer", 60));
    qmp.quit()?;
    assert!(emulator.wait()?.status.success());
    Ok(())
}

#[test]
fn udp_by_socket() -> Result<()> {
    need!(Root, Qemu, Landlock, NetworkNamespaces);
    unicast("socket,id=n,udp=127.0.0.1:7002,localaddr=127.0.0.1:7001", None)
}

#[test]
fn udp_by_dgram() -> Result<()> {
    need!(Root, Qemu, Landlock, NetworkNamespaces);
    let sides = "local.type=inet,local.host=127.0.0.1,local.port=7001,remote.type=inet,remote.host=localhost";
    unicast(&format!("dgram,id=n,{sides},remote.port=7002"), None)
}

#[test]
fn udp_by_json_as_an_ordinary_user() -> Result<()> {
    need!(Root, Qemu, Landlock, NetworkNamespaces, UserNamespaces);
    let netdev = r#"{"type":"dgram","id":"n","local":{"type":"inet","host":"127.0.0.1","port":"7001"},
                     "remote":{"type":"inet","host":"127.0.0.1","port":"7002"}}"#;
    unicast(netdev, Some(ORDINARY_USER))
}

/// Two emulators in a group hear each other, and the test hears both.
fn multicast(netdev: &str) -> Result<()> {
    let (scene, other) = (Scene::new()?, Scene::new()?);
    let (group, interface) = (Ipv4Addr::new(230, 0, 0, 1), Ipv4Addr::LOCALHOST);
    let (emulator, mut qmp) = scene.start(netdev).start_with_monitor()?;
    let (second, mut second_qmp) = other.start(netdev).inside(&scene.network).start_with_monitor()?;
    let peer = scene.udp(0)?;
    peer.join_multicast_v4(&group, &interface).during("join the group")?;
    for length in LENGTHS {
        let coming = frame("to the group", length);
        peer.send_to(&coming, (group, 7003)).during("send to the group")?;
        assert_eq!(scene.receive()?, coming, "{length}");
        assert_eq!(other.receive()?, coming, "{length}");
        let going = frame("from one to the other", length);
        scene.send(&going)?;
        assert_eq!(other.receive()?, going, "{length}");
        // A group's member hears itself, with QEMU alone too.
        assert_eq!(scene.receive()?, going, "{length}");
    }
    for (mut emulator, qmp) in [(emulator, &mut qmp), (second, &mut second_qmp)] {
        qmp.quit()?;
        assert!(emulator.wait()?.status.success());
    }
    Ok(())
}

#[test]
fn a_group_by_socket() -> Result<()> {
    need!(Root, Qemu, Landlock, NetworkNamespaces);
    multicast("socket,id=n,mcast=230.0.0.1:7003")
}

#[test]
fn a_group_by_dgram_on_one_interface() -> Result<()> {
    need!(Root, Qemu, Landlock, NetworkNamespaces);
    let group = "remote.type=inet,remote.host=230.0.0.1,remote.port=7003";
    multicast(&format!("dgram,id=n,{group},local.type=inet,local.host=127.0.0.1,local.port=0"))
}

#[test]
fn unix_sockets() -> Result<()> {
    need!(Root, Qemu, Landlock, NetworkNamespaces);
    let scene = Scene::new()?;
    let (ours, theirs) = (scene.path("ours"), scene.path("theirs"));
    let sides =
        format!("local.type=unix,local.path={},remote.type=unix,remote.path={}", ours.display(), theirs.display());
    // What an earlier guest left is replaced.
    drop(UnixDatagram::bind(&ours).during("bind what is to be replaced")?);
    let (mut emulator, mut qmp) = scene.start(&format!("dgram,id=n,{sides}")).start_with_monitor()?;
    for _ in 0..2 {
        let peer = UnixDatagram::bind(&theirs).during("bind the peer")?;
        peer.set_read_timeout(Some(PATIENCE)).during("set a time limit")?;
        for length in LENGTHS {
            let (coming, going) = (frame("to the guest", length), frame("from the guest", length));
            peer.send_to(&coming, &ours).during("send to the guest")?;
            assert_eq!(scene.receive()?, coming, "{length}");
            scene.send(&going)?;
            let mut bytes = vec![0; 70_000];
            let found = peer.recv(&mut bytes).during("receive from the guest")?;
            assert_eq!(bytes[..found], going, "{length}");
        }
        // The next one is another socket of the same name.
        std::fs::remove_file(&theirs).during("remove the peer")?;
    }
    qmp.quit()?;
    assert!(emulator.wait()?.status.success());
    Ok(())
}
