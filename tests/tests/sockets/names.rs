//! Names of hosts, which the broker finds and the emulator looks up in tables of its own.

use std::net::TcpStream;

use tests::{During, Result, Workdir, need};

use crate::scene::{command, free_port, monitor, refusals};

const MONITOR: [&str; 2] = ["-qmp", "unix:qmp,server=on,wait=off"];

/// Runs what follows with the file `hosts` as the host's table of names.
const OWN_HOSTS: [&str; 7] = ["unshare", "-m", "sh", "-c", "mount --bind hosts /etc/hosts && exec \"$@\"", "sh", "env"];

#[test]
fn a_name_stands_for_what_it_stands_for_on_the_host() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let (port, other) = (free_port()?, free_port()?);
    let table =
        "127.0.0.1 localhost\n::1 localhost\n127.0.0.9 elsewhere.example\n::1 both.example\n127.0.0.8 both.example\n";
    let arguments = [
        format!("socket,id=a,host=elsewhere.example,port={port},server=on,wait=off"),
        format!("socket,id=b,host=both.example,port={other},server=on,wait=off"),
    ];
    let look = |bare: bool| -> Result<String> {
        let workdir = Workdir::new()?;
        workdir.write("hosts", table.as_bytes())?;
        let options = arguments.iter().flat_map(|chardev| ["-chardev", chardev.as_str()]);
        let start = command(&workdir).through(OWN_HOSTS).args(MONITOR).args(options);
        let mut emulator = if bare { start.bare().start()? } else { start.start()? };
        let mut qmp = monitor(&emulator, &workdir.path("qmp"))?;
        let listed = qmp.execute("query-chardev", serde_json::json!({}))?.to_string();
        TcpStream::connect(("127.0.0.9", port)).during("connect to the named address")?;
        qmp.quit()?;
        let finished = emulator.wait()?;
        assert_eq!((finished.status.code(), refusals(&finished.stderr)), (Some(0), Vec::new()), "{finished:?}");
        Ok(listed)
    };
    let (bare, brokered) = (look(true)?, look(false)?);
    assert_eq!(brokered, bare);
    Ok(())
}

#[test]
fn a_name_that_nobody_knows_is_told_of_as_ever() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    workdir.write("hosts", b"127.0.0.1 localhost\n")?;
    let chardev = "socket,id=a,host=nobody.invalid,port=1,server=on,wait=off";
    let finished = command(&workdir).through(OWN_HOSTS).args(["-chardev", chardev]).run()?;
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("address resolution failed for nobody.invalid:1"), "{finished:?}");
    assert!(finished.stderr.contains("the name nobody.invalid stands for no address"), "{finished:?}");
    assert_eq!(refusals(&finished.stderr), Vec::<&str>::new());
    Ok(())
}
