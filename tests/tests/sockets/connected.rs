//! Sockets that the emulator connects.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener};

use serde_json::json;
use tests::{During, Result, Workdir, need, until};

use crate::scene::{PATIENCE, command, free_port, monitor, refusals};

const MONITOR: [&str; 2] = ["-qmp", "unix:qmp,server=on,wait=off"];

/// Whether the character device `id` is connected.
fn open(qmp: &mut tests::Qmp, id: &str) -> Result<bool> {
    let listed = qmp.execute("query-chardev", json!({}))?;
    let mut devices = listed.as_array().into_iter().flatten();
    let found = devices.find(|device| device["label"] == id);
    Ok(found.and_then(|device| device["filename"].as_str()).is_some_and(|name| !name.starts_with("disconnected")))
}

/// A server that is not there yet, that goes, and that comes again as another socket of the same name.
#[test]
fn a_client_comes_back_to_its_server() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let chardev = "socket,id=c,path=server,reconnect=1";
    let mut emulator = command(&workdir).args(MONITOR).args(["-chardev", chardev]).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    for _ in 0..2 {
        let server = UnixListener::bind(workdir.path("server")).during("bind the server")?;
        let (mut client, _) = server.accept().during("accept the emulator")?;
        client.write_all(b"x").during("write to the emulator")?;
        until(PATIENCE, "the character device to open", || Ok(open(&mut qmp, "c")?.then_some(())))?;
        std::fs::remove_file(workdir.path("server")).during("remove the server's socket")?;
        drop((client, server));
        until(PATIENCE, "the character device to close", || Ok((!open(&mut qmp, "c")?).then_some(())))?;
    }
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!((finished.status.code(), refusals(&finished.stderr)), (Some(0), Vec::new()), "{finished:?}");
    Ok(())
}

/// By a path, by a link to it that was there at the start, by an abstract name and by TCP, waiting or not.
#[test]
fn servers_of_every_kind_are_reached() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let path = UnixListener::bind(workdir.path("server")).during("bind the server")?;
    symlink("server", workdir.path("link")).during("link to the server")?;
    let name = format!("broker-test-server-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).during("make the name")?;
    let hidden = UnixListener::bind_addr(&address).during("bind the abstract name")?;
    let tcp = TcpListener::bind(("127.0.0.1", 0)).during("bind a port")?;
    let port = tcp.local_addr().during("ask for the port")?.port();
    let chardevs = [
        "socket,id=path,path=server".to_owned(),
        "socket,id=link,path=link".to_owned(),
        format!("socket,id=abstract,path={name},abstract=on"),
        format!("socket,id=tcp,host=127.0.0.1,port={port}"),
        format!("socket,id=later,host=127.0.0.1,port={port},reconnect=1"),
    ];
    let options = chardevs.iter().flat_map(|chardev| ["-chardev", chardev.as_str()]);
    let mut emulator = command(&workdir).args(MONITOR).args(options).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    for id in ["path", "link", "abstract", "tcp", "later"] {
        until(PATIENCE, id, || Ok(open(&mut qmp, id)?.then_some(())))?;
    }
    path.accept().during("accept by path")?;
    hidden.accept().during("accept by the abstract name")?;
    tcp.accept().during("accept by TCP")?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!((finished.status.code(), refusals(&finished.stderr)), (Some(0), Vec::new()), "{finished:?}");
    Ok(())
}

/// Where nobody listens, QEMU says what it says without a broker.
#[test]
fn a_server_that_is_not_there_is_told_of_as_ever() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let port = free_port()?;
    for chardev in [format!("socket,id=c,host=127.0.0.1,port={port}"), "socket,id=c,path=nobody".to_owned()] {
        let workdir = Workdir::new()?;
        let said = |bare: bool| -> Result<(Option<i32>, Vec<String>)> {
            let start = command(&workdir).args(["-chardev", &chardev]);
            let finished = if bare { start.bare().run()? } else { start.run()? };
            let own = finished.stderr.lines().filter(|line| !line.starts_with("broker:")).map(str::to_owned).collect();
            Ok((finished.status.code(), own))
        };
        let (bare, brokered) = (said(true)?, said(false)?);
        assert!(bare.1.iter().any(|line| line.contains("Failed to connect")), "{bare:?}");
        assert_eq!(brokered, bare);
    }
    Ok(())
}

/// The whole way of a guest from one brokered QEMU to another one.
#[test]
fn a_guest_migrates_by_tcp() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let (source_dir, target_dir) = (Workdir::new()?, Workdir::new()?);
    let port = free_port()?;
    let incoming = format!("tcp:127.0.0.1:{port}");
    let machine = ["-M", "pc", "-m", "32"];
    let mut target = command(&target_dir).args(machine).args(MONITOR).args(["-incoming", &incoming]).start()?;
    let mut there = monitor(&target, &target_dir.path("qmp"))?;
    let granted = format!("127.0.0.1:{port}");
    let mut source = command(&source_dir).options(["--connect", &granted]).args(machine).args(MONITOR).start()?;
    let mut here = monitor(&source, &source_dir.path("qmp"))?;
    here.execute("migrate", json!({ "uri": incoming }))?;
    until(PATIENCE, "the migration", || {
        let state = here.execute("query-migrate", json!({}))?;
        assert_ne!(state["status"], "failed", "{state}: {}", source.stderr()?);
        Ok((state["status"] == "completed").then_some(()))
    })?;
    let state = there.execute("query-status", json!({}))?;
    assert_ne!(state["status"], "inmigrate", "{state}");
    for (qmp, emulator) in [(&mut here, &mut source), (&mut there, &mut target)] {
        qmp.quit()?;
        let finished = emulator.wait()?;
        assert_eq!((finished.status.code(), refusals(&finished.stderr)), (Some(0), Vec::new()), "{finished:?}");
    }
    Ok(())
}

/// Data of both directions through a socket that was connected while it did not block.
#[test]
fn bytes_go_both_ways() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let server = TcpListener::bind(("127.0.0.1", 0)).during("bind a port")?;
    let port = server.local_addr().during("ask for the port")?.port();
    let chardev = format!("socket,id=m,host=127.0.0.1,port={port},reconnect=1");
    let mut emulator = command(&workdir).args(["-chardev", &chardev, "-mon", "chardev=m,mode=control"]).start()?;
    let (mut monitor, _) = server.accept().during("accept the monitor")?;
    let mut greeting = [0; 7];
    monitor.read_exact(&mut greeting).during("read the greeting")?;
    assert_eq!(&greeting, b"{\"QMP\":");
    monitor.write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}").during("write to the monitor")?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    Ok(())
}
