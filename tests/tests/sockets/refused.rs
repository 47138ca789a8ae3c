//! What no option names is not bound, not connected to and not removed.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};
use tests::{During, Error, Qmp, Result, Workdir, need};

use crate::scene::{command, free_port, monitor};

const MONITOR: [&str; 2] = ["-qmp", "unix:qmp,server=on,wait=off"];

/// Asks for a character device at an address, and gives what QEMU says of its refusal.
fn refusal(qmp: &mut Qmp, address: Value, server: bool) -> Result<String> {
    // A client has nothing to wait for.
    let data = match server {
        true => json!({ "addr": address, "server": true, "wait": false }),
        false => json!({ "addr": address, "server": false }),
    };
    let backend = json!({ "type": "socket", "data": data });
    match qmp.execute("chardev-add", json!({ "id": "new", "backend": backend })) {
        Err(Error::Refused { description, .. }) => Ok(description),
        other => Err(Error::Unexpected(format!("{address} was granted: {other:?}"))),
    }
}

#[test]
fn no_other_address_is_granted() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let listening = UnixListener::bind(workdir.path("others")).during("bind a socket")?;
    let tcp = TcpListener::bind(("127.0.0.1", 0)).during("bind a port")?;
    let taken = tcp.local_addr().during("ask for the port")?.port().to_string();
    let (named, free) = (free_port()?, free_port()?.to_string());
    let chardev = format!("socket,id=l,host=127.0.0.1,port={named},server=on,wait=off");
    let audit = workdir.aside().join("audit");
    let options = ["--audit".into(), audit.clone().into_os_string()];
    let mut emulator = command(&workdir).options(options).args(MONITOR).args(["-chardev", &chardev]).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    let path = |name: &str| json!({ "type": "unix", "data": { "path": name } });
    let hidden = json!({ "type": "unix", "data": { "path": "hidden", "abstract": true } });
    let port = |port: &str| json!({ "type": "inet", "data": { "host": "127.0.0.1", "port": port } });
    let asked = [
        (path("others"), false),
        (path("new"), true),
        (path("/run/new"), true),
        (hidden.clone(), true),
        (hidden, false),
        (port(&taken), false),
        (port(&free), true),
        (port("0"), true),
        // It may be listened on, not connected to.
        (port(&named.to_string()), false),
    ];
    for (address, server) in asked {
        let said = refusal(&mut qmp, address.clone(), server)?;
        assert!(said.contains("Permission denied"), "{address}: {said}");
    }
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    listening.set_nonblocking(true).during("set the listener")?;
    assert!(listening.accept().is_err(), "somebody was connected");
    assert!(!workdir.path("new").exists());
    let written = std::fs::read_to_string(&audit).during("read the audit file")?;
    for line in
        [format!("127.0.0.1:{taken}"), format!("127.0.0.1:{free}"), "unix:others".to_owned(), "abstract:hidden".into()]
    {
        assert!(written.contains(&line), "{line} in {written}");
    }
    for request in ["\"bind\"", "\"connect\""] {
        assert!(written.contains(request), "{request} in {written}");
    }
    Ok(())
}

/// A link that takes the place of a server's socket leads nowhere.
#[test]
fn a_server_is_no_link_that_came_later() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let others = UnixListener::bind(workdir.path("others")).during("bind a socket")?;
    let chardev = "socket,id=c,path=server,reconnect=1";
    let mut emulator = command(&workdir).args(MONITOR).args(["-chardev", chardev]).start()?;
    let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
    std::os::unix::fs::symlink("others", workdir.path("server")).during("make a link")?;
    emulator.wait_for_message("connect unix:server: Connection refused")?;
    qmp.quit()?;
    emulator.wait()?;
    others.set_nonblocking(true).during("set the listener")?;
    assert!(others.accept().is_err(), "the link was followed");
    Ok(())
}
