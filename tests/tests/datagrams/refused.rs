//! What cannot be, before there is an emulator, and with nothing left.

use std::os::unix::net::UnixDatagram;

use tests::{BrokerCommand, During, PLAIN_QEMU, Result, need};

use crate::scene::Scene;

#[test]
fn addresses_that_cannot_be_are_refused_by_name() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces);
    let scene = Scene::new()?;
    let file = scene.workdir.write("file", b"a regular file")?;
    let taken = scene.network.within(None, || std::net::UdpSocket::bind("127.0.0.1:7001"))?.during("take a port")?;
    let unix = |path: &str| format!("dgram,id=n,local.type=unix,local.path={path},remote.type=unix,remote.path=/x");
    let kept = scene.path("kept").to_string_lossy().into_owned();
    for (networks, words) in [
        (vec!["socket,id=n,mcast=192.0.2.1:1".to_owned()], "(0xc0000201) does not contain a multicast address"),
        (
            vec!["socket,id=n,udp=no-such.invalid:1,localaddr=:1".to_owned()],
            "can't resolve host address 'no-such.invalid'",
        ),
        (vec!["socket,id=n,udp=1.2.3.400:1,localaddr=:1".to_owned()], "'1.2.3.400' is not a valid IPv4 address"),
        (vec!["socket,id=n,mcast=230.0.0.1:1,localaddr=lo".to_owned()], "localaddr 'lo' is not a valid IPv4 address"),
        (
            vec!["socket,id=n,udp=127.0.0.1:1,localaddr=192.0.2.1:1".to_owned()],
            "can't bind ip=192.0.2.1 to socket: Cannot assign requested address",
        ),
        (
            vec!["socket,id=n,udp=127.0.0.1:1,localaddr=127.0.0.1:7001".to_owned()],
            "can't bind ip=127.0.0.1 to socket: Address already in use",
        ),
        (vec![unix(&file.to_string_lossy())], "to socket: Address already in use"),
        (vec![unix("/nonexistent/socket")], "can't bind unix=/nonexistent/socket to socket: No such file or directory"),
        // The first one's socket goes when the second fails.
        (vec![unix(&kept), unix("/nonexistent/socket").replace("id=n", "id=m")], "/nonexistent/socket"),
    ] {
        let files = scene.workdir.listing()?;
        let words_of_networks = networks.iter().flat_map(|network| ["-netdev", network]);
        let command = BrokerCommand::new(&scene.workdir).inside(&scene.network).args(PLAIN_QEMU);
        let mut emulator = command.args(words_of_networks).start()?;
        let finished = emulator.wait()?;
        assert_eq!(finished.status.code(), Some(125), "{networks:?}: {finished:?}");
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("broker: -netdev ") && last.contains(words), "{networks:?}: {finished:?}");
        emulator.assert_nothing_left(&scene.workdir, &files)?;
        assert!(!scene.path("kept").exists());
    }
    assert_eq!(std::fs::read(&file).during("read the file")?, b"a regular file");
    drop(taken);
    Ok(())
}

#[test]
fn a_plan_names_the_addresses_and_binds_nothing() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces);
    let scene = Scene::new()?;
    let held = UnixDatagram::bind(scene.path("held")).during("bind a socket")?;
    let path = scene.path("held").to_string_lossy().into_owned();
    let broker = tests::broker_binary()?.to_string_lossy().into_owned();
    let unix = format!("dgram,id=m,local.type=unix,local.path={path},remote.type=unix,remote.path=/x");
    let words =
        ["plan", "--", "qemu-system-x86_64", "-nodefaults", "-netdev", "socket,id=n,mcast=230.0.0.1:7", "-netdev"];
    let text = scene.network.run(None, &broker, &[&words[..], &[&unix]].concat())?;
    assert!(text.contains("network    UDP group 230.0.0.1:7, by the relay, 1 queue, by `-netdev socket,"), "{text}");
    assert!(text.contains(&format!("network    UNIX datagrams at {path}, sent to /x, by the relay")), "{text}");
    held.send_to(b"still there", scene.path("held")).during("send to itself").map(drop)
}
