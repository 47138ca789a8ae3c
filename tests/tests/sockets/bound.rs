//! Sockets that the emulator listens on.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use rustix::process::Signal;
use serde_json::json;
use tests::{During, ORDINARY_USER, Result, Workdir, need, until};

use crate::scene::{PATIENCE, command, free_port, monitor, refusals};

/// A monitor of the test's own beside the work files.
const MONITOR: [&str; 2] = ["-qmp", "unix:qmp,server=on,wait=off"];

#[test]
fn a_unix_socket_is_the_operators_and_gone_at_the_end() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    for user in [None, Some(ORDINARY_USER)] {
        let workdir = Workdir::new()?;
        let files = workdir.listing()?;
        let absolute = workdir.path("serial");
        let serial = format!("socket,id=s,path={},server=on,wait=off", absolute.display());
        let mut start = command(&workdir).args(MONITOR).args(["-chardev", &serial]);
        if let Some(user) = user {
            start = start.user(user);
        }
        let mut emulator = start.start()?;
        let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
        for name in ["qmp", "serial"] {
            let found = fs::symlink_metadata(workdir.path(name)).during("look at the socket")?;
            assert!(found.file_type().is_socket());
            assert_eq!(found.uid(), user.unwrap_or(0), "{name}");
            assert_eq!(found.permissions().mode() & 0o777, 0o755, "{name}: 0777 less the umask");
        }
        let listed = qmp.execute("query-chardev", json!({}))?.to_string();
        assert!(listed.contains("unix:qmp,server=on"), "as it was named: {listed}");
        // A client that comes again.
        UnixStream::connect(&absolute).during("connect to the serial port")?;
        UnixStream::connect(&absolute).during("connect to the serial port again")?;
        qmp.quit()?;
        let finished = emulator.wait()?;
        assert_eq!(finished.status.code(), Some(0), "{finished:?}");
        assert_eq!(refusals(&finished.stderr), Vec::<&str>::new());
        emulator.assert_nothing_left(&workdir, &files)?;
    }
    Ok(())
}

/// Where a management layer has its own user and starts guests as root.
#[test]
fn root_listens_in_the_folder_of_another_user() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let folder = workdir.path("theirs");
    fs::create_dir(&folder).during("make the folder")?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).during("close the folder")?;
    std::os::unix::fs::chown(&folder, Some(ORDINARY_USER), Some(ORDINARY_USER)).during("give the folder away")?;
    let mut emulator = command(&workdir).args(["-qmp", "unix:theirs/qmp,server=on,wait=off"]).start()?;
    let mut qmp = monitor(&emulator, &folder.join("qmp"))?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!((finished.status.code(), refusals(&finished.stderr)), (Some(0), Vec::new()), "{finished:?}");
    let gone = || Ok(fs::read_dir(&folder).during("look into the folder")?.next().is_none().then_some(()));
    until(PATIENCE, "the socket to go", gone)
}

#[test]
fn the_umask_of_the_start_holds() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let words = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
    let mut emulator = command(&workdir).through(words).args(MONITOR).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    let mode = fs::symlink_metadata(workdir.path("qmp")).during("look at the socket")?.permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    qmp.quit()?;
    emulator.wait()?;
    Ok(())
}

#[test]
fn a_killed_guest_leaves_no_socket() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let files = workdir.listing()?;
    let mut emulator = command(&workdir).args(MONITOR).start()?;
    drop(monitor(&emulator, &workdir.path("qmp"))?);
    emulator.signal(Signal::KILL)?;
    emulator.wait()?;
    emulator.assert_nothing_left(&workdir, &files)
}

/// A socket that a killed QEMU has left behind is replaced; a file, and a socket that came later, are not.
#[test]
fn what_is_in_the_way_is_removed_only_if_it_is_an_old_socket() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    drop(UnixListener::bind(workdir.path("qmp")).during("bind a socket")?);
    let mut emulator = command(&workdir).args(MONITOR).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    // The operator has put something else there meanwhile: it stays.
    fs::remove_file(workdir.path("qmp")).during("remove the socket")?;
    fs::write(workdir.path("qmp"), "mine").during("write a file")?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(workdir.read("qmp")?, b"mine");
    assert!(finished.stderr.contains("is no socket, and is not removed"), "{finished:?}");

    let refused = command(&workdir).args(MONITOR).run()?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("Failed to unlink socket qmp: Permission denied"), "{refused:?}");
    assert_eq!(workdir.read("qmp")?, b"mine");
    Ok(())
}

#[test]
fn an_abstract_name_takes_connections() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let name = format!("broker-test-{}", std::process::id());
    let chardev = format!("socket,id=a,path={name},abstract=on,server=on,wait=off");
    let mut emulator = command(&workdir).args(MONITOR).args(["-chardev", &chardev]).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    let address = SocketAddr::from_abstract_name(&name).during("make the name")?;
    UnixStream::connect_addr(&address).during("connect to the abstract name")?;
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    Ok(())
}

/// The first port that is free, of several; and the error text where none is.
#[test]
fn ports_are_tried_as_without_a_broker() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let taken = TcpListener::bind(("127.0.0.1", 0)).during("bind a port")?;
    let port = taken.local_addr().during("ask for the port")?.port();
    let range = format!("socket,id=r,host=127.0.0.1,port={port},to={},server=on,wait=off", port.saturating_add(50));
    let mut emulator = command(&workdir).args(MONITOR).args(["-chardev", &range]).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    let listed = qmp.execute("query-chardev", json!({}))?.to_string();
    assert!(!listed.contains(&format!("127.0.0.1:{port},")), "{listed}");
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));

    let one = format!("socket,id=r,host=127.0.0.1,port={port},server=on,wait=off");
    let said = |bare: bool| -> Result<(Option<i32>, Vec<String>)> {
        let start = command(&workdir).args(["-chardev", &one]);
        let finished = if bare { start.bare().run()? } else { start.run()? };
        let own = finished.stderr.lines().filter(|line| !line.starts_with("broker:")).map(str::to_owned).collect();
        Ok((finished.status.code(), own))
    };
    let (bare, brokered) = (said(true)?, said(false)?);
    assert!(bare.1.iter().any(|line| line.contains("Address already in use")), "{bare:?}");
    assert_eq!(brokered, bare);
    Ok(())
}

/// The addresses and ports that are listened on in the host's network, in the kernel's hexadecimal digits.
fn listening() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).during(format!("read {table}"))?;
        let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        found.extend(
            rows.filter(|row| row.get(3) == Some(&"0A")).filter_map(|row| row.get(1).map(|at| (*at).to_owned())),
        );
    }
    Ok(found)
}

/// The same addresses, and the same answers about them, as plain QEMU has.
#[test]
fn tcp_servers_are_where_plain_qemu_has_them() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (any, local, six, gdb) = (free_port()?, free_port()?, free_port()?, free_port()?);
    let vnc = free_port()?.max(10_000);
    let display = vnc - 5900;
    let arguments: [[String; 2]; 6] = [
        ["-chardev".into(), format!("socket,id=any,host=,port={any},server=on,wait=off")],
        ["-chardev".into(), format!("socket,id=local,host=localhost,port={local},server=on,wait=off,telnet=on")],
        ["-chardev".into(), format!("socket,id=six,host=::1,port={six},server=on,wait=off,ipv6=on")],
        ["-gdb".into(), format!("tcp:127.0.0.1:{gdb}")],
        ["-vnc".into(), format!("127.0.0.1:{display}")],
        ["-incoming".into(), "defer".into()],
    ];
    let ports: Vec<String> = [any, local, six, gdb].iter().chain([&vnc]).map(|port| format!(":{port:04X}")).collect();
    let ours = || -> Result<Vec<String>> {
        Ok(listening()?.into_iter().filter(|at| ports.iter().any(|port| at.ends_with(port))).collect())
    };
    let look = |bare: bool| -> Result<(Vec<String>, Vec<String>)> {
        // The debugger wants a processor.
        let machine = ["-M", "pc", "-m", "32"];
        let start = command(&workdir).args(machine).args(arguments.iter().flatten()).args(MONITOR);
        let mut emulator = if bare { start.bare().start()? } else { start.start()? };
        let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
        let found = ours()?;
        // Their order, and the label of the debugger's own, are random.
        let listed = qmp.execute("query-chardev", json!({}))?;
        let devices = listed.as_array().into_iter().flatten();
        let mut answers: Vec<String> = devices.map(|device| device["filename"].to_string()).collect();
        answers.sort_unstable();
        answers.push(qmp.execute("query-vnc", json!({}))?.to_string());
        TcpStream::connect(("127.0.0.1", any)).during("connect to the server")?;
        let mut hello = [0; 4];
        let mut viewer = TcpStream::connect(("127.0.0.1", vnc)).during("connect to VNC")?;
        viewer.read_exact(&mut hello).during("read from VNC")?;
        assert_eq!(&hello, b"RFB ");
        qmp.quit()?;
        let finished = emulator.wait()?;
        assert_eq!((finished.status.code(), refusals(&finished.stderr)), (Some(0), Vec::new()));
        Ok((found, answers))
    };
    let (bare, brokered) = (look(true)?, look(false)?);
    assert!(bare.0.len() >= 5, "{bare:?}");
    assert_eq!(brokered, bare);
    Ok(())
}

#[test]
fn vnc_and_a_monitor_on_unix_sockets() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let files = workdir.listing()?;
    let arguments = ["-vnc", "unix:vnc", "-monitor", "unix:hmp,server=on,wait=off"];
    let mut emulator = command(&workdir).args(MONITOR).args(arguments).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    let mut hello = [0; 4];
    let mut viewer = UnixStream::connect(workdir.path("vnc")).during("connect to VNC")?;
    viewer.read_exact(&mut hello).during("read from VNC")?;
    assert_eq!(&hello, b"RFB ");
    let mut prompt = UnixStream::connect(workdir.path("hmp")).during("connect to the monitor")?;
    prompt.write_all(b"info version\n").during("write to the monitor")?;
    let mut said = [0; 5];
    prompt.read_exact(&mut said).during("read from the monitor")?;
    assert_eq!(&said, b"QEMU ");
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    emulator.assert_nothing_left(&workdir, &files)
}

/// Root keeps the right to bind a low port only where one is named; an ordinary user has none to keep.
#[test]
fn ports_below_1024_are_roots() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let chardev = "socket,id=l,host=127.0.0.1,port=977,server=on,wait=off";
    let mut emulator = command(&workdir).args(MONITOR).args(["-chardev", chardev]).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    TcpStream::connect(("127.0.0.1", 977)).during("connect to port 977")?;
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));

    let workdir = Workdir::new()?;
    let refused = command(&workdir).user(ORDINARY_USER).args(["-chardev", chardev]).run()?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
    Ok(())
}

#[test]
fn a_daemon_is_reached_by_its_sockets_and_leaves_none() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let files = workdir.listing()?;
    let mut starter = command(&workdir).args(MONITOR).args(["-daemonize"]).start()?;
    assert_eq!(starter.wait()?.status.code(), Some(0));
    // It returns when the sockets are there.
    assert!(workdir.path("qmp").exists());
    let mut qmp = monitor(&starter, &workdir.path("qmp"))?;
    qmp.quit()?;
    until(PATIENCE, "the socket's end", || Ok((!workdir.path("qmp").exists()).then_some(())))?;
    starter.assert_nothing_left(&workdir, &files)
}
