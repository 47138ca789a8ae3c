//! `broker ctl NAME tap`: a guest that runs is given a network interface, by a monitor whose other end may be hostile.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use broker::packets;
use broker::sys::tun;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::control::{Answered, Control, unique_name};
use tests::{
    BrokerCommand, During, Emulator, Error, Network, PATIENCE, PLAIN_QEMU, Process, Qmp, Result, Workdir, need, until,
};

/// A guest without a network, in a network namespace with a bridge that an access list allows.
struct Scene {
    network: Network,
    workdir: Workdir,
    emulator: Emulator,
    control: Control,
    monitor: String,
    list: String,
}

impl Scene {
    fn new() -> Result<Self> {
        let (network, workdir) = (Network::new()?, Workdir::new()?);
        for bridge in ["br0", "br1"] {
            network.bridge(bridge)?;
            network.without_ipv6(bridge)?;
        }
        let list = workdir.write("bridge.conf", b"allow br0\n")?.display().to_string();
        let name = unique_name();
        let path = workdir.aside().join("monitor");
        let audit = workdir.aside().join("audit.json").into_os_string();
        let emulator = BrokerCommand::new(&workdir)
            .inside(&network)
            .options(["--name".into(), name.clone().into(), "--audit".into(), audit])
            .args(PLAIN_QEMU)
            .args(["-S", "-machine", "pc"])
            .start_with_monitor_at(&path)?;
        let control = Control::new(&name).inside(&network);
        let scene = Self { network, workdir, emulator, control, monitor: path.display().to_string(), list };
        // The guest is there when its monitor greets.
        scene.qmp()?;
        Ok(scene)
    }

    /// A connection to the monitor, which has one client at a time.
    fn qmp(&self) -> Result<Qmp> {
        Qmp::greet(UnixStream::connect(&self.monitor).during("connect to the monitor")?)
    }

    fn tap(&self, words: &[&str]) -> Vec<String> {
        ["tap", "--qmp", &self.monitor].iter().chain(words).map(|word| (*word).to_owned()).collect()
    }

    /// `broker ctl NAME tap`, which must fail and leave nothing.
    fn refuse(&self, words: &[&str], complaint: &str) -> Result<()> {
        let before = self.network.interfaces()?;
        let said = self.control.refused(self.tap(words))?;
        assert!(said.contains(complaint), "{said}");
        assert_eq!(self.network.interfaces()?, before);
        Ok(())
    }

    fn audit(&self) -> Result<String> {
        fs::read_to_string(self.workdir.aside().join("audit.json")).during("read the audit file")
    }

    /// Waits until only these interfaces are there.
    fn expect_interfaces(&self, wanted: &[&str]) -> Result<()> {
        until(PATIENCE, &format!("only {wanted:?}"), || Ok((self.network.interfaces()? == wanted).then_some(())))
    }

    fn quit(mut self) -> Result<()> {
        self.qmp()?.quit()?;
        assert!(self.emulator.wait()?.status.success());
        self.emulator.assert_nothing_left(&self.workdir, &self.workdir.listing()?)?;
        self.expect_interfaces(&["lo", "br0", "br1"])
    }
}

/// The commands that were printed, a line each.
fn commands(text: &str) -> Result<Vec<(String, Value)>> {
    let parse = |line: &str| {
        let mut command: Value =
            serde_json::from_str(line).map_err(|error| Error::Unexpected(format!("{line}: {error}")))?;
        let mut take = |key| command.get_mut(key).map(Value::take).unwrap_or_default();
        Ok((take("execute").as_str().unwrap_or_default().to_owned(), take("arguments")))
    };
    text.lines().map(parse).collect()
}

/// How many taps a process has open.
fn taps_of(process: Process) -> Result<usize> {
    Ok(process.descriptors()?.values().filter(|target| target.ends_with("net/tun")).count())
}

#[test]
fn a_card_on_a_bridge_is_plugged_in() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let said = scene.control.order(scene.tap(&["--bridge", "br0", "--bridge-acl", &scene.list, "--id", "lan"]))?;
    let commands = commands(&said)?;
    let names: Vec<&str> = commands.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["netdev_add", "device_add"], "{said}");
    assert_eq!(commands[0].1, json!({ "type": "tap", "id": "lan", "fd": "lan-fd0" }));
    let mut qmp = scene.qmp()?;
    for (name, arguments) in commands {
        qmp.execute(&name, arguments)?;
    }
    let shown = qmp.execute("human-monitor-command", json!({ "command-line": "info network" }))?;
    assert!(shown.as_str().is_some_and(|text| text.contains("lan: index=0,type=tap,fd=")), "{shown}");
    let tap = scene.network.link("tap0")?.unwrap_or_default();
    assert_eq!(tap["master"], "br0", "{tap}");
    assert_eq!(tap["linkinfo"]["info_data"]["persist"], false, "{tap}");
    assert_eq!(taps_of(scene.emulator.process())?, 1);
    for process in scene.emulator.helpers()? {
        assert_eq!(taps_of(process)?, 0);
    }
    assert!(
        scene.audit()?.contains("tap tap0, 1 queue(s), offered to the emulator by broker ctl as lan"),
        "{}",
        scene.audit()?
    );
    // QEMU 10 keeps a network until its card is gone too, and this guest does not run to let go of it.
    drop(qmp);
    scene.quit()
}

#[test]
fn a_network_that_is_taken_away_takes_its_tap_along() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    scene.control.order(scene.tap(&["--bridge", "br0", "--bridge-acl", &scene.list, "--id", "lan", "--add"]))?;
    assert!(scene.network.link("tap0")?.is_some());
    let mut qmp = scene.qmp()?;
    qmp.execute("netdev_del", json!({ "id": "lan" }))?;
    scene.expect_interfaces(&["lo", "br0", "br1"])?;
    drop(qmp);
    scene.quit()
}

#[test]
fn queues_are_added_at_once_and_what_qemu_refuses_is_taken_back() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let said = scene.control.order(scene.tap(&["--ifname", "wan", "--queues", "2", "--add"]))?;
    let card = json!({ "driver": "virtio-net-pci", "netdev": "wan", "id": "wan-card", "mq": true, "vectors": 6 });
    assert_eq!(commands(&said)?, [("device_add".to_owned(), card.clone())]);
    assert_eq!(taps_of(scene.emulator.process())?, 2);
    scene.refuse(
        &["--bridge", "br0", "--bridge-acl", &scene.list, "--id", "wan", "--add"],
        "QEMU refuses netdev_add: ",
    )?;
    assert_eq!(taps_of(scene.emulator.process())?, 2);
    let mut qmp = scene.qmp()?;
    qmp.execute("device_add", card)?;
    let shown = qmp.execute("human-monitor-command", json!({ "command-line": "info network" }))?;
    assert_eq!(shown.as_str().map(|text| text.matches("type=tap").count()), Some(2), "{shown}");
    drop(qmp);
    scene.quit()
}

#[test]
fn what_cannot_be_handed_over_is_said_and_leaves_nothing() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let mut scene = Scene::new()?;
    let on = |bridge| ["--bridge", bridge, "--bridge-acl", &scene.list];
    scene.refuse(&on("br1"), "no rule of ")?;
    scene.refuse(&on("br2"), "there is no bridge br2")?;
    scene.refuse(&["--ifname", "br0"], "br0 is ")?;
    scene.refuse(&["--id", "0", "--ifname", "t0"], "--id")?;
    if !Path::new("/dev/vhost-net").exists() {
        scene.refuse(&["--vhost", "on"], "modprobe vhost_net")?;
        let said = scene.control.order(scene.tap(&["--vhost", "try", "--id", "lan"]))?;
        assert!(!said.contains("vhost"), "{said}");
        scene.expect_interfaces(&["lo", "br0", "br1", "tap0"])?;
        scene.qmp()?.execute("closefd", json!({ "fdname": "lan-fd0" }))?;
        scene.expect_interfaces(&["lo", "br0", "br1"])?;
    }
    let other = scene.workdir.path("bridge.conf").display().to_string();
    let refused = scene.control.refused(["tap", "--qmp", &other])?;
    assert!(refused.contains("cannot connect to the monitor"), "{refused}");
    // Somebody else has the monitor.
    let qmp = scene.qmp()?;
    scene.refuse(&on("br0"), "does not answer")?;
    drop(qmp);
    scene.emulator.signal(Signal::KILL)?;
    scene.emulator.wait()?;
    let gone = scene.control.refused(scene.tap(&on("br0")))?;
    assert!(gone.contains("no guest"), "{gone}");
    scene.expect_interfaces(&["lo", "br0", "br1"])
}

const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

/// Answers in the place of a monitor until the client leaves: the first `good` times as QEMU would, and `then` like this; what
/// it is handed is lost.
fn answer(stream: UnixStream, good: usize, then: &str) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone().during("duplicate a socket")?).lines();
    let mut out = stream;
    out.write_all(GREETING.as_bytes()).during("greet")?;
    for number in 1.. {
        let Some(Ok(_)) = lines.next() else { return Ok(()) };
        let text = if number <= good { format!("{{\"return\": {{}}, \"id\": {number}}}\n") } else { then.to_owned() };
        if text.is_empty() || out.write_all(text.as_bytes()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes the same for as long as somebody reads.
fn flood(mut stream: UnixStream, text: &str) -> Result<()> {
    let text = text.repeat(1024);
    while stream.write_all(text.as_bytes()).is_ok() {}
    Ok(())
}

/// Greets with descriptors beside, and answers nothing.
fn send_descriptors(stream: &UnixStream) -> Result<()> {
    let files = [fs::File::open("/dev/null").during("open /dev/null")?];
    let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).cycle().take(200).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    let bytes = [std::io::IoSlice::new(GREETING.as_bytes())];
    sendmsg(stream, &bytes, &mut control, SendFlags::empty()).during("send descriptors")?;
    // Until the client has given up.
    BufReader::new(stream).lines().map_while(std::result::Result::ok).for_each(drop);
    Ok(())
}

/// Answers in the place of a monitor until the client leaves, a line of `answers` to each command, and returns every
/// descriptor that came with them.
fn keep(stream: &UnixStream, answers: &[&str]) -> Result<Vec<OwnedFd>> {
    let mut out = stream;
    out.write_all(GREETING.as_bytes()).during("greet")?;
    let (mut kept, mut answers) = (Vec::new(), answers.iter());
    while let Some((byte, descriptors)) = packets::receive(stream.as_fd()).during("read a command")? {
        kept.extend(descriptors);
        if byte == b'\n' {
            let answer = answers.next().ok_or_else(|| Error::Unexpected("a command too many".to_owned()))?;
            out.write_all(answer.as_bytes()).during("answer")?;
        }
    }
    Ok(kept)
}

/// Runs `broker ctl` against a monitor that `serve` plays, which must fail; also returns what `serve` does.
fn meet<T: Send>(
    scene: &Scene,
    name: &str,
    serve: impl FnOnce(UnixStream) -> Result<T> + Send,
) -> Result<(Answered, T)> {
    let path = scene.workdir.aside().join(name);
    let listener = UnixListener::bind(&path).during("listen")?;
    let path = path.display().to_string();
    let words = ["tap", "--qmp", &path, "--bridge", "br0", "--bridge-acl", &scene.list, "--id", "lan", "--add"];
    let (answered, served) = thread::scope(|scope| {
        let server = scope.spawn(|| serve(listener.accept().during("accept")?.0));
        let answered = scene.control.run(words)?;
        let served = server.join().map_err(|_| Error::Unexpected("the server panicked".to_owned()))??;
        Ok::<_, Error>((answered, served))
    })?;
    assert_eq!(answered.status.code(), Some(125), "{answered:?}");
    assert!(answered.stderr.lines().all(|line| line.starts_with("broker: ") && line.len() < 1000), "{answered:?}");
    assert!(!answered.stderr.contains('\u{1b}'), "{answered:?}");
    Ok((answered, served))
}

/// The same, of which nothing may be left.
fn attack(scene: &Scene, name: &str, serve: impl FnOnce(UnixStream) -> Result<()> + Send) -> Result<Answered> {
    let before = scene.network.interfaces()?;
    let (answered, ()) = meet(scene, name, serve)?;
    let gone = || Ok((scene.network.interfaces()? == before).then_some(()));
    until(PATIENCE, "the interface is gone", gone)?;
    Ok(answered)
}

#[test]
fn a_hostile_monitor_gains_nothing_and_stops_nobody() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let complains = |answered: &Answered, what: &str| assert!(answered.stderr.contains(what), "{what}: {answered:?}");
    // Says nothing, or nothing more.
    let silent = |stream| BufReader::new(stream).lines().map_while(std::result::Result::ok).for_each(drop);
    complains(
        &attack(&scene, "silent", |stream| {
            silent(stream);
            Ok(())
        })?,
        "does not answer",
    );
    complains(&attack(&scene, "descriptors", |stream| send_descriptors(&stream))?, "does not answer");
    // Says too much: without a line's end, and as events without end.
    complains(&attack(&scene, "line", |stream| flood(stream, "x"))?, "more than QEMU would");
    let event = "{\"event\": \"X\"}\n";
    let greet = |mut stream: UnixStream| stream.write_all(GREETING.as_bytes()).map(|()| stream);
    complains(
        &attack(&scene, "events", |stream| flood(greet(stream).during("greet")?, event))?,
        "more than QEMU would",
    );
    // Says something else.
    complains(&attack(&scene, "people", |stream| flood(stream, "QEMU 7.2 monitor\n"))?, "does not greet");
    let deep = "[".repeat(10_000) + "\n";
    complains(&attack(&scene, "deep", |stream| answer(stream, 1, &deep))?, "no JSON");
    // Takes the interface, and then says no, in letters that would move the cursor, or leaves.
    let no = "{\"error\": {\"class\": \"X\", \"desc\": \"\\u001b[2J\\nbroker: all is well\"}, \"id\": 3}\n";
    complains(
        &attack(&scene, "refuses", |stream| answer(stream, 2, no))?,
        "QEMU refuses netdev_add: \\u{1b}[2J\\nbroker",
    );
    let left = attack(&scene, "leaves", |stream| answer(stream, 2, ""))?;
    complains(&left, "has closed the connection");
    complains(&left, "the emulator may still have lan-fd0");
    scene.quit()
}

#[test]
fn an_interface_that_the_emulator_keeps_is_named_with_what_removes_it() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    let fine = [1, 2, 3, 4].map(|number| format!("{{\"return\": {{}}, \"id\": {number}}}\n"));
    let no = [2, 3].map(|number| format!("{{\"error\": {{\"class\": \"X\", \"desc\": \"no\"}}, \"id\": {number}}}\n"));
    // Takes the interface and says that it does not; takes it, and says that it has given it back.
    let cases = [("getfd", vec![&*fine[0], &*no[0]]), ("netdev_add", vec![&*fine[0], &*fine[1], &*no[1], &*fine[3]])];
    for (count, (refused, answers)) in cases.into_iter().enumerate() {
        let (answered, kept) = meet(&scene, refused, |stream| keep(&stream, &answers))?;
        assert_eq!(kept.len(), 1, "{refused}");
        assert_eq!(tun::interface(kept[0].as_fd()).during("TUNGETIFF")?.0, "tap0");
        let remedy = "ip link delete tap0";
        let line = format!("broker: the emulator has kept tap0; as root: {remedy}, or end the guest\n");
        assert!(answered.stderr.contains(&line), "{answered:?}");
        assert!(answered.stderr.contains(&format!("QEMU refuses {refused}: no")), "{answered:?}");
        let offered = "tap tap0, 1 queue(s), offered to the emulator by broker ctl as lan";
        assert_eq!(scene.audit()?.matches(offered).count(), count + 1, "{}", scene.audit()?);
        assert!(scene.network.link("tap0")?.is_some());
        scene.network.ip(remedy.trim_start_matches("ip "))?;
        scene.expect_interfaces(&["lo", "br0", "br1"])?;
    }
    scene.quit()
}
