//! A tap on the operator's bridge: an emulator that a guest has taken over sends and receives frames with it, and neither
//! manages the interface nor leaves one behind.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use tests::hostile::{Answers, Scene};
use tests::{During, Error, Network, ORDINARY_USER, PATIENCE, Result, broker_binary, need, until};

/// The tap, and the bridge that it is a port of.
const TAP: &str = "t0";
const BRIDGE: &str = "br0";

/// What each attempt of `interfaces.c` comes to.
const ATTEMPTS: &[(&str, &str)] = &[
    (
        "ok",
        "use-features use-name use-offload use-buffer use-set-header use-header use-endianness use-steering use-write",
    ),
    ("ok", "detach attach"),
    // The filter.
    ("EPERM", "persist persist-high-half persist-through-duplicate owner group address address-high-half link-type"),
    ("EPERM", "debug checksums address-filter packet-filter look-at-packet-filter no-packet-filter bpf-filter number"),
    ("EPERM", "look-at-address by-name"),
    ("EPERM", "carrier later-kernels namespace socket-namespace another-interface another-interface-detached"),
    // The mount namespace and Landlock; the network namespace is empty.
    ("ENOENT|EACCES", "open-tun open-vhost"),
];

/// What some of them come to without the broker, for an ordinary user with the same descriptor in namespaces of its own.
const BARE: &[(&str, &str)] = &[
    ("ok", "persist persist-high-half persist-through-duplicate owner group address address-high-half carrier"),
    ("ok", "address-filter packet-filter bpf-filter"),
    ("EPERM", "namespace socket-namespace"),
];

/// The program with a tap in its hands.
struct Attack {
    child: Child,
    output: PathBuf,
}

impl Attack {
    /// Opens the tap in `network`, as root, and starts `words` with it.
    fn start(scene: &Scene, network: &Network, words: &[String]) -> Result<Self> {
        let output = scene.workdir.path("output");
        let file = File::create(&output).during("create the output")?;
        let program = scene.program().display().to_string();
        let line = [network.words(None), vec![program, "hold-tap".to_owned(), TAP.to_owned()], words.to_vec()].concat();
        let (first, rest) = line.split_first().ok_or_else(|| Error::Unexpected("no words".to_owned()))?;
        let mut command = Command::new(first);
        command.args(rest).stdin(Stdio::null()).stdout(file);
        let child = command.spawn().during("start the attack")?;
        Ok(Self { child, output })
    }

    /// Waits for the program to have tried everything; what came of it.
    fn answers(&mut self) -> Result<Answers> {
        let tried = || {
            let text = std::fs::read_to_string(&self.output).during("read the output")?;
            let over = text.contains("waiting-for a") || self.child.try_wait().during("look at the attack")?.is_some();
            Ok(over.then_some(text))
        };
        let text = until(PATIENCE, "the end of the attempts", tried)?;
        Answers::parse(&text, "waiting-for a")
    }

    /// Ends the program as the kernel's memory killer does.
    fn kill(mut self) -> Result<ExitStatus> {
        self.child.kill().during("kill the attack")?;
        self.child.wait().during("wait for the attack")
    }
}

/// A network with a bridge, and with a tap for as long as `hold-tap` makes it one.
fn network() -> Result<Network> {
    let network = Network::new()?;
    network.bridge(BRIDGE)?;
    Ok(network)
}

fn link(network: &Network) -> Result<Value> {
    network.link(TAP)?.ok_or_else(|| Error::Unexpected(format!("no interface {TAP}")))
}

/// A shell that adds the interface to the bridge, as a script of QEMU's would, and then becomes `command`. Who enters a
/// mount namespace stands in its root (setns(2)).
fn words(scene: &Scene, command: &str) -> Vec<String> {
    let folder = scene.workdir.files().display().to_string();
    let line =
        format!("cd {folder} && ip link set {TAP} master {BRIDGE} up && ip link show {TAP} >before && exec {command}");
    ["sh", "-c", &line].map(str::to_owned).to_vec()
}

/// What `ip link show` prints of the tap: its address and state.
fn shown(network: &Network) -> Result<String> {
    network.ip(&format!("link show {TAP}"))
}

#[test]
fn a_tap_cannot_be_managed_by_who_uses_it_and_dies_with_it() -> Result<()> {
    need!(Broker, Root, UserNamespaces, Qemu, Landlock, NetworkNamespaces, Tun);
    let (scene, network) = (Scene::new()?, network()?);
    let audit = scene.workdir.aside().join("audit.json");
    let start = format!(
        "{} --audit {} --chain-dir {} -- {} {} -netdev tap,id=n,fd=30",
        broker_binary()?.display(),
        audit.display(),
        scene.workdir.chains(None)?.display(),
        scene.program().display(),
        scene.arguments("interfaces").join(" ")
    );
    let mut attack = Attack::start(&scene, &network, &words(&scene, &start))?;
    attack.answers()?.assert(ATTEMPTS);
    let before = std::fs::read_to_string(scene.workdir.path("before")).during("read what the tap was")?;
    let address =
        |text: &str| text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).map(str::to_owned);
    assert!(address(&before).is_some(), "{before}");
    assert_eq!(address(&shown(&network)?), address(&before));
    let now = link(&network)?;
    assert_eq!(now["master"], BRIDGE, "{now}");
    assert_eq!(now["linkinfo"]["info_data"]["persist"], false, "{now}");
    assert_eq!(now["linkinfo"]["info_data"]["user"], Value::Null, "{now}");
    // Refused calls that the filter answers alone reach nobody: no storm of lines, and none of notifications.
    assert!(!scene.audit()?.iter().any(|line| line["name"] == "ioctl"), "{:?}", scene.audit()?);
    assert_eq!(attack.kill()?.signal(), Some(9));
    until(PATIENCE, "the interface is gone", || Ok(network.link(TAP)?.is_none().then_some(())))?;
    assert_eq!(network.interfaces()?, ["lo", BRIDGE]);
    Ok(())
}

#[test]
fn without_the_filter_a_tap_is_managed_by_who_uses_it_and_stays() -> Result<()> {
    need!(Root, Qemu, UserNamespaces, NetworkNamespaces, Tun);
    let (scene, network) = (Scene::new()?, network()?);
    scene.workdir.give_to(ORDINARY_USER)?;
    let user = format!("setpriv --reuid={ORDINARY_USER} --regid={ORDINARY_USER} --clear-groups");
    let program = format!("{} {}", scene.program().display(), scene.arguments("interfaces").join(" "));
    let namespaces = "unshare --user --net --map-current-user";
    let mut attack = Attack::start(&scene, &network, &words(&scene, &format!("{user} {namespaces} {program}")))?;
    let answers = attack.answers()?;
    for (answer, names) in BARE {
        for name in names.split_whitespace() {
            assert_eq!(answers.get(name)?, *answer, "{name}");
        }
    }
    attack.kill()?;
    let left = link(&network)?;
    assert_eq!(left["master"], BRIDGE, "{left}");
    assert_eq!(left["linkinfo"]["info_data"]["persist"], true, "{left}");
    Ok(())
}
