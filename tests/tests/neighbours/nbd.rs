//! NBD, with the server and the client under the broker.

use std::os::unix::net::UnixStream;

use serde_json::json;
use tests::{ALIVE, Emulator, ORDINARY_USER, Result, Workdir, need, qcow2_over, raw_boot_disk, run_tool, writes_in};

use crate::keys::Keys;
use crate::scene::{assert_well, command, free_port, wait_for_pid_file};

/// Where a server listens, in its words and in those of its clients.
struct Address {
    server: Vec<String>,
    /// As one name.
    name: String,
    /// As options of a block node.
    options: String,
}

impl Address {
    fn unix() -> Self {
        Self {
            server: ["-k", "nbd.sock", "-x", "disk"].map(str::to_owned).to_vec(),
            name: "nbd+unix:///disk?socket=nbd.sock".into(),
            options: "driver=nbd,server.type=unix,server.path=nbd.sock,export=disk".into(),
        }
    }

    fn tcp() -> Result<Self> {
        let port = free_port()?;
        Ok(Self {
            server: ["-b", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec(),
            name: format!("nbd:127.0.0.1:{port}"),
            options: format!("driver=nbd,server.type=inet,server.host=127.0.0.1,server.port={port}"),
        })
    }
}

/// Starts `qemu-nbd` for `top.qcow2`, which is over a boot disk, and waits until it listens.
fn serve(workdir: &Workdir, user: Option<u32>, address: &Address, more: &[&str]) -> Result<Emulator> {
    raw_boot_disk(workdir, "base.raw")?;
    qcow2_over(workdir, "top.qcow2", "base.raw", "raw")?;
    let server = command(workdir, user).program("qemu-nbd").args(["-t", "-f", "qcow2", "--pid-file", "pid"]);
    let path = workdir.path("nbd.sock");
    // QEMU takes an absolute path alone.
    let words = address.server.iter().map(|word| if word == "nbd.sock" { path.as_os_str() } else { word.as_ref() });
    let server = server.args(words).args(more.iter().copied()).args(["top.qcow2"]).start()?;
    wait_for_pid_file(workdir, &server)?;
    Ok(server)
}

fn end(mut server: Emulator) -> Result<()> {
    server.signal(rustix::process::Signal::TERM)?;
    assert_well(&server.wait()?);
    Ok(())
}

/// A guest boots from a server's disk and writes to it; then tools copy it from there and back.
fn boots_and_copies(user: Option<u32>, address: &Address) -> Result<()> {
    let workdir = Workdir::new()?;
    let server = serve(&workdir, user, address, &[])?;
    let mut guest = command(&workdir, user).boot_sector(&format!("file={},format=raw", address.name)).start()?;
    guest.wait_for_output("the guest", |said| said.contains(ALIVE))?;
    guest.wait_for_writes(3)?;
    guest.signal(rustix::process::Signal::TERM)?;
    assert_well(&guest.wait()?);
    let tool = |words: &[&str]| -> Result<()> {
        assert_well(&command(&workdir, user).program("qemu-img").args(words.iter().copied()).run()?);
        Ok(())
    };
    tool(&["convert", "-f", "raw", "-O", "qcow2", &address.name, "out.qcow2"])?;
    tool(&["convert", "-n", "-f", "qcow2", "-O", "raw", "out.qcow2", &address.name])?;
    tool(&["info", "--image-opts", &address.options])?;
    end(server)?;
    assert!(writes_in(&workdir, "out.qcow2", "qcow2")? >= 3);
    run_tool(&workdir.files(), "qemu-img", &["compare", "-f", "qcow2", "-F", "qcow2", "top.qcow2", "out.qcow2"])?;
    assert_eq!(writes_in(&workdir, "base.raw", "raw")?, 0);
    Ok(())
}

#[test]
fn a_guest_boots_from_a_server_on_a_unix_socket() -> Result<()> {
    need!(Qemu, Tools, Landlock);
    boots_and_copies(None, &Address::unix())
}

#[test]
fn a_users_guest_boots_from_a_server_on_tcp() -> Result<()> {
    need!(Qemu, Tools, Landlock, UserNamespaces);
    boots_and_copies(Some(ORDINARY_USER), &Address::tcp()?)
}

/// With certificates and with shared keys, and not without them.
#[test]
fn a_server_with_keys_is_read_by_who_has_them() -> Result<()> {
    need!(Qemu, Tools, Landlock, TlsTools, UserNamespaces);
    for (user, kind, client_has) in [(None, "x509", ""), (Some(ORDINARY_USER), "psk", ",username=guest")] {
        let workdir = Workdir::new()?;
        Keys::make(&workdir)?;
        let address = Address::tcp()?;
        let object = |endpoint: &str, more: &str| format!("tls-creds-{kind},id=t,dir=.,endpoint={endpoint}{more}");
        let more = ["--object", &object("server", ""), "--tls-creds", "t"];
        let server = serve(&workdir, user, &address, &more)?;
        let read = |words: &[&str]| command(&workdir, user).program("qemu-img").args(words.iter().copied()).run();
        let options = format!("{},tls-creds=t", address.options);
        let own = object("client", client_has);
        assert_well(&read(&["convert", "--object", &own, "--image-opts", &options, "-O", "raw", "out.raw"])?);
        let without = read(&["info", "--image-opts", &address.options])?;
        assert!(without.stderr.contains("TLS negotiation required"), "{without:?}");
        end(server)?;
        run_tool(&workdir.files(), "qemu-img", &["compare", "-f", "qcow2", "-F", "raw", "top.qcow2", "out.raw"])?;
    }
    Ok(())
}

/// A running guest's disk is served where the operator has allowed it, to a client without a broker.
#[test]
fn a_guest_serves_its_disk_when_it_is_told_to() -> Result<()> {
    need!(Broker, Qemu, Tools, Landlock);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    let port = free_port()?.to_string();
    let (tcp, unix) = (format!("127.0.0.1:{port}"), format!("unix:{}", workdir.path("nbd.sock").display()));
    let start = command(&workdir, None).options(["--listen", &tcp, "--listen", &unix]);
    let start = start.args(["-machine", "none", "-nodefaults", "-display", "none"]);
    let node = "driver=raw,node-name=d,file.driver=file,file.filename=disk.raw";
    let (mut emulator, mut qmp) = start.args(["-blockdev", node]).start_with_monitor()?;
    let named = [
        (json!({ "type": "inet", "data": { "host": "127.0.0.1", "port": port } }), format!("nbd://{tcp}/d")),
        (json!({ "type": "unix", "data": { "path": "nbd.sock" } }), "nbd+unix:///d?socket=nbd.sock".to_owned()),
    ];
    for (address, client) in named {
        qmp.execute("nbd-server-start", json!({ "addr": address }))?;
        qmp.execute("block-export-add", json!({ "type": "nbd", "id": "e", "node-name": "d", "writable": false }))?;
        let compare = ["compare", "-U", "-f", "raw", "-F", "raw", "disk.raw", &client];
        run_tool(&workdir.files(), "qemu-img", &compare)?;
        qmp.execute("nbd-server-stop", json!({}))?;
    }
    assert!(UnixStream::connect(workdir.path("nbd.sock")).is_err());
    qmp.quit()?;
    assert_well(&emulator.wait()?);
    Ok(())
}
