//! Two guests that speak to each other, and what must be true afterwards.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tests::{BrokerCommand, Emulator, Network, NetworkGuest, Result, Workdir, until};

/// How long interfaces may stay after the emulator has ended: until the kernel has taken them apart.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the client must have seen, before the number of its card's queues.
const ALL_WENT_WELL: &str = "ping=3/3 bytes=67108864 sha256=ok";

/// Two guests at a time are as many as a small machine boots with patience.
static ONE_PAIR: Mutex<()> = Mutex::new(());

/// How one of the two guests is started.
#[derive(Debug, Default)]
pub struct Side {
    /// An ordinary user, or whoever runs the tests.
    pub user: Option<u32>,
    /// Whether stock QEMU runs without the broker.
    pub bare: bool,
    /// Options of the broker.
    pub options: Vec<String>,
    /// The network card.
    pub card: Vec<String>,
}

impl Side {
    /// A card, as the words that name it.
    pub fn card(words: &[&str]) -> Self {
        Self { card: words.iter().map(|word| (*word).to_owned()).collect(), ..Self::default() }
    }

    /// A network backend with the id `n`, given by its other words, and a card on it with this address.
    pub fn backend(netdev: &str, address: &str) -> Self {
        let (kind, keys) = netdev.split_once(',').map_or((netdev, ""), |(kind, keys)| (kind, keys));
        let comma = if keys.is_empty() { "" } else { "," };
        let device = format!("virtio-net-pci,netdev=n,mac={address},romfile=");
        Self::card(&["-netdev", &format!("{kind},id=n{comma}{keys}"), "-device", &device])
    }

    /// Starts as an ordinary user, without any capability.
    pub fn user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// Starts stock QEMU, without the broker.
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Adds options of the broker.
    pub fn options(mut self, options: &[String]) -> Self {
        self.options.extend_from_slice(options);
        self
    }

    /// The start, with all arguments but those that boot the guest.
    pub fn command<'a>(self, workdir: &'a Workdir, network: &'a Network) -> BrokerCommand<'a> {
        let mut command = BrokerCommand::new(workdir).inside(network).options(self.options).args(self.card);
        if let Some(user) = self.user {
            command = command.user(user);
        }
        if self.bare { command.bare() } else { command }
    }
}

/// The addresses of the two cards, of those that nobody owns (locally administered).
pub const SERVER_CARD: &str = "52:54:00:00:02:01";
/// The client's.
pub const CLIENT_CARD: &str = "52:54:00:00:02:02";

/// Waits for the turn of a test that boots guests.
pub fn our_turn() -> MutexGuard<'static, ()> {
    // A test that failed holds no guest any more.
    ONE_PAIR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A network with a bridge in it, `br0`. A bridge that was given no address of its own takes that of a port for as long
/// as there is one.
pub fn bridged() -> Result<Network> {
    let network = Network::new()?;
    network.bridge("br0")?;
    network.ip("link set br0 address 52:54:00:00:02:00")?;
    network.without_ipv6("br0")?;
    Ok(network)
}

/// What a network consists of; two looks at one that nobody has changed are equal.
#[derive(Debug, PartialEq)]
pub struct Inventory {
    interfaces: Vec<Value>,
    routes: Vec<Value>,
    processes: usize,
}

/// Where `ip` tells what was said of an interface by whoever made it, and not what happens on it.
const LASTING: [&str; 9] = [
    "/ifindex",
    "/ifname",
    "/address",
    "/mtu",
    "/master",
    "/linkinfo/info_kind",
    "/linkinfo/info_data/persist",
    "/linkinfo/info_data/user",
    "/linkinfo/info_data/multi_queue",
];

impl Inventory {
    /// Looks at a network.
    pub fn of(network: &Network) -> Result<Self> {
        let mut interfaces = Vec::new();
        for name in network.interfaces()? {
            let link = network.link(&name)?.unwrap_or_default();
            interfaces.push(LASTING.iter().map(|key| link.pointer(key).cloned().unwrap_or_default()).collect());
        }
        Ok(Self { interfaces, routes: network.routes()?, processes: network.processes()?.len() })
    }

    /// Fails unless the network is as it was at this look.
    pub fn assert_unchanged(&self, network: &Network) -> Result<()> {
        let same = until(FAREWELL, "the network as it was", || Ok((Self::of(network)? == *self).then_some(())));
        assert!(same.is_ok(), "before: {self:#?}\nafter: {:#?}", Self::of(network)?);
        Ok(())
    }
}

/// Boots both guests, the client with as many processors as its card is to have queues, lets them speak, and looks at
/// what the client saw and at what is left.
pub fn converse(network: &Network, server: Side, client: Side, queues: u16) -> Result<()> {
    let before = Inventory::of(network)?;
    let workdir = Workdir::new()?;
    let guest = NetworkGuest::copy_to(&workdir)?;
    let files = workdir.listing()?;
    let start = |side: Side, arguments: Vec<String>| -> Result<Emulator> {
        side.command(&workdir, network).args(arguments).args(["-smp".to_owned(), queues.to_string()]).start()
    };
    let mut server = start(server, guest.server())?;
    let mut client = start(client, guest.client())?;
    let finished = client.wait()?;
    let proof = NetworkGuest::proof(&finished)?;
    assert!(proof.starts_with(&format!("{ALL_WENT_WELL} queues={queues} ")), "{proof}");
    assert!(finished.status.success(), "{finished:?}");
    let finished = server.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    for emulator in [server, client] {
        emulator.assert_nothing_left(&workdir, &files)?;
    }
    before.assert_unchanged(network)
}
