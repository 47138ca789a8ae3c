//! A guest asks for an address by DHCP and gets one: its boot firmware does (iPXE, which comes with QEMU).

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{BrokerCommand, During, Network, PATIENCE, PLAIN_QEMU, Qmp, Result, Workdir, need, until};

use super::{BRIDGE, BRIDGE_ADDRESS, Held, TAP, assert_held, joining_script, network_with_bridge, take_turn, workers};

/// The card's place in QEMU's tree of objects, by its `id=card`.
const CARD: &str = "/machine/peripheral/card/virtio-backend";

/// A DHCP server on the bridge (busybox's). Ended when it is dropped.
struct Addresses {
    server: Child,
    log: PathBuf,
}

impl Addresses {
    fn serve(network: &Network, workdir: &Workdir) -> Result<Self> {
        let (log, path) = workdir.log("addresses")?;
        let file = |name: &str| workdir.aside().join(name).display().to_string();
        let (leases, own) = (file("leases"), file("addresses.pid"));
        File::create(&leases).during(format!("create {leases}"))?;
        let text = format!(
            "interface {BRIDGE}\nstart 10.77.0.10\nend 10.77.0.20\nmax_leases 5\nopt subnet 255.255.255.0\n\
             lease_file {leases}\npidfile {own}\n"
        );
        let settings = file("addresses.conf");
        std::fs::write(&settings, text).during(format!("write {settings}"))?;
        let mut words = network.words(None).into_iter();
        let server = Command::new(words.next().unwrap_or_default())
            .args(words)
            .args(["busybox", "udhcpd", "-f", "-I", BRIDGE_ADDRESS, &settings])
            .stdin(Stdio::null())
            .stdout(log.try_clone().during("duplicate the log")?)
            .stderr(log)
            .spawn()
            .during("start udhcpd")?;
        Ok(Self { server, log: path })
    }

    /// Waits until a guest has heard of its address and has said so.
    fn wait_for_a_taker(&self) -> Result<()> {
        until(PATIENCE, "the guest to take an address", || {
            let said = std::fs::read_to_string(&self.log).during("read what udhcpd says")?;
            Ok(said.contains("sending ACK").then_some(()))
        })
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        // Both fail only for a server that has ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A guest that waits for `cont`, with a new tap of so many queues on the bridge.
fn guest<'a>(workdir: &'a Workdir, network: &'a Network, queues: usize) -> Result<BrokerCommand<'a>> {
    let script = joining_script(workdir)?;
    let (more, card) = if queues > 1 { (format!(",queues={queues}"), ",mq=on") } else { (String::new(), "") };
    let script = script.display();
    let backend = format!("tap,id=n,ifname={TAP},script={script},downscript=no,vhost=on{more}");
    let card = format!("virtio-net-pci,id=card,netdev=n{card}");
    let command = BrokerCommand::new(workdir).inside(network).args(PLAIN_QEMU);
    Ok(command.args(["-accel", "tcg", "-S", "-boot", "n", "-netdev", &backend, "-device", &card]))
}

/// Whether QEMU says that it has given the card's queues to the kernel, and so leaves the tap alone.
fn kernel_has_the_queues(qmp: &mut Qmp) -> Result<bool> {
    let status = qmp.execute("x-query-virtio-status", json!({ "path": CARD }))?;
    Ok(status.get("vhost-started").and_then(Value::as_bool) == Some(true))
}

fn frames_go_through_the_kernel(queues: usize, quit: bool) -> Result<()> {
    let _turn = take_turn();
    let (workdir, network) = (Workdir::new()?, network_with_bridge()?);
    let (interfaces, files) = (network.interfaces()?, workdir.listing()?);
    let addresses = Addresses::serve(&network, &workdir)?;
    let (mut emulator, mut qmp) = guest(&workdir, &network, queues)?.start_with_monitor()?;
    assert_held(&emulator, &Held::taps(queues, TAP))?;
    let idle = workers(&emulator)?;
    assert_eq!(idle.len(), queues, "{idle:?}");

    qmp.execute("cont", json!({}))?;
    addresses.wait_for_a_taker()?;
    assert!(kernel_has_the_queues(&mut qmp)?);
    let busy = workers(&emulator)?;
    assert!(busy.keys().eq(idle.keys()) && busy.values().sum::<u64>() > idle.values().sum(), "{idle:?} {busy:?}");

    if quit {
        qmp.quit()?;
    } else {
        emulator.signal(Signal::KILL)?;
    }
    let finished = emulator.wait()?;
    assert_eq!(finished.status.success(), quit, "{finished:?}");
    emulator.assert_nothing_left(&workdir, &files)?;
    assert_eq!(network.interfaces()?, interfaces);
    // The bridge's own routes stay, and change with its carrier.
    let leads_elsewhere = |route: &Value| route.get("dev").is_none_or(|device| device != BRIDGE);
    let routes: Vec<Value> = network.routes()?.into_iter().filter(leads_elsewhere).collect();
    assert!(routes.is_empty(), "{routes:?}");
    drop(addresses);
    assert_eq!(network.processes()?, []);
    Ok(())
}

#[test]
fn one_queue_and_quit() -> Result<()> {
    need!(VhostNet, NetworkNamespaces, Tun, Root, Qemu);
    frames_go_through_the_kernel(1, true)
}

#[test]
fn two_queues_and_kill() -> Result<()> {
    need!(VhostNet, NetworkNamespaces, Tun, Root, Qemu);
    frames_go_through_the_kernel(2, false)
}
