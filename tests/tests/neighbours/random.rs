//! A daemon that gives random numbers (EGD), which QEMU asks for its guest; and what else is made of such parts.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use tests::{During, Error, Result, Workdir, need};

use crate::scene::{assert_well, boot, command, proof, users};

/// What a request begins with; how many bytes it is for follows (`rng_egd_request_entropy` in QEMU's `backends/rng-egd.c`).
const ASK: u8 = 2;

/// Answers one client with bytes of 0x5a until it has gone.
fn give(listener: &UnixListener) -> Result<()> {
    let (mut client, _) = listener.accept().during("accept the emulator")?;
    let mut request = [0; 2];
    while client.read_exact(&mut request).is_ok() {
        let [ASK, count] = request else { return Err(Error::Unexpected(format!("asked by {request:?}"))) };
        client.write_all(&vec![0x5a; usize::from(count)]).during("give random numbers")?;
    }
    Ok(())
}

#[test]
fn a_guest_gets_the_daemons_random_numbers() -> Result<()> {
    need!(Qemu, Landlock, Guest, UserNamespaces);
    for user in users() {
        let workdir = Workdir::new()?;
        let listener = UnixListener::bind(workdir.path("random.sock")).during("listen")?;
        let daemon = std::thread::spawn(move || give(&listener));
        let finished = boot(command(&workdir, user), &workdir, "near.random")?
            .args(["-chardev", "socket,id=c,path=random.sock", "-object", "rng-egd,id=r,chardev=c"])
            .args(["-device", "virtio-rng-pci,rng=r"])
            .run()?;
        assert_well(&finished);
        assert_eq!(proof(&finished.stdout, "RANDOM-PROOF: "), Some("5a".repeat(16).as_str()), "{finished:?}");
        daemon.join().map_err(|_| Error::Unexpected("the daemon panicked".into()))??;
    }
    Ok(())
}

/// Devices that need a program which is not there, or none: QEMU says of them what it says without a broker.
#[test]
fn parts_without_a_neighbour_start_or_fail_as_ever() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let lines: [&[&str]; 6] = [
        &["-object", "cryptodev-backend-builtin,id=k", "-device", "virtio-crypto-pci,cryptodev=k"],
        &["-chardev", "null,id=c", "-object", "cryptodev-vhost-user,id=k,chardev=c"],
        &["-chardev", "socket,id=c,path=nobody", "-object", "cryptodev-vhost-user,id=k,chardev=c"],
        &["-chardev", "null,id=c", "-netdev", "vhost-user,id=n,chardev=c"],
        &["-chardev", "socket,id=c,path=nobody", "-device", "vhost-user-blk-pci,chardev=c"],
        &["-chardev", "socket,id=c,path=nobody", "-netdev", "vhost-user,id=n,chardev=c"],
    ];
    for line in lines {
        let workdir = Workdir::new()?;
        let outcome = |bare: bool| -> Result<(bool, Option<i32>, String)> {
            let start =
                command(&workdir, None).args(["-nodefaults", "-display", "none", "-S"]).args(line.iter().copied());
            let (mut emulator, monitor) = if bare { start.bare() } else { start }.start_with_monitor_or_end()?;
            let greeted = monitor.is_some();
            if let Some(mut monitor) = monitor {
                monitor.quit()?;
            }
            let finished = emulator.wait()?;
            let own = finished.stderr.lines().filter(|line| !line.starts_with("broker:"));
            Ok((greeted, finished.status.code(), own.collect::<Vec<_>>().join("\n")))
        };
        assert_eq!(outcome(false)?, outcome(true)?, "{line:?}");
    }
    Ok(())
}
