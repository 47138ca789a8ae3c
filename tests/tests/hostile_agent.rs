//! An agent that was taken over speaks to the broker's own loop, which here runs in a thread of the test: nothing
//! that it sends gives it more than a grant, ends the broker, or leaves anything in it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use broker::open::pin::Pin;
use broker::packets;
use broker::serve::audit::Audit;
use broker::serve::folders::Folders;
use broker::serve::grants::{Access, Grant, Role};
use broker::serve::ledger::{Ledger, Limits};
use broker::serve::links::Links;
use broker::serve::policy::Policy;
use broker::serve::sockets::Sockets;
use broker::serve::table::Table;
use broker::serve::workers::Workers;
use broker::serve::{Broker, Life, serve};
use protocol::{
    AccessMode, ClientHandshake, ClientSession, Name, OpenBits, OpenFlags, ReplyOutcome, RequestBody, SocketMode,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::time::Timespec;
use tests::{During, Error, PATIENCE, Process, Result, Workdir};

/// The client's first packet (`docs/protocol.md`).
const HELLO: &[u8] = b"BRKR\x03";

/// The byte that announces a session (`broker::packets`); the broker looks at the descriptor alone.
const SESSION: u8 = 1;

/// Sessions of random packets.
const SESSIONS: u64 = 5_000;

/// A broker with one grant, for reading, and the emulator's end that it waits for.
struct Served {
    workdir: Workdir,
    keeper: OwnedFd,
    emulator: OwnedFd,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Served {
    fn start() -> Result<Self> {
        let workdir = Workdir::new()?;
        let pin = Pin::take(&workdir.write("granted.raw", b"granted")?).during("pin the granted file")?;
        workdir.write("victim.raw", b"victim")?;
        let grant = Grant {
            role: Role::Image,
            option: "-drive file=granted.raw,readonly=on".into(),
            access: Access::ReadOnly,
            pin: Arc::new(pin),
            view: None,
            name: b"granted.raw".to_vec(),
            home: None,
            opened: AtomicBool::new(false),
        };
        let (keeper, brokers) = packets::pair().during("make the keeper's sockets")?;
        let (started, emulator) = rustix::pipe::pipe().during("make the emulator's pipe")?;
        let mut broker = Broker {
            policy: Policy {
                table: Table::new(workdir.files(), vec![grant], Vec::new()),
                folders: Folders::default(),
                ledger: Arc::new(Ledger::new(Limits::default())),
                owner: None,
                journal: None,
                sockets: Sockets::none(),
                terminals: None,
            },
            audit: Audit::new("hostile".into(), std::process::id(), None, None, false),
            workers: Workers::new(false).during("prepare the workers")?,
            links: Links::default(),
            control: None,
            keeper: Some(brokers),
            open_timeout: PATIENCE,
            life: Life::Guest { started: Some(started), daemonizes: false },
        };
        let thread = std::thread::spawn(move || serve(&mut broker, Vec::new()));
        Ok(Self { workdir, keeper, emulator, thread })
    }

    /// A session on which nothing was said.
    fn connect(&self) -> Result<OwnedFd> {
        let (ours, theirs) = protocol::socketpair(SocketMode::NonBlocking).during("make a session's sockets")?;
        packets::send(self.keeper.as_fd(), SESSION, &[theirs.as_fd()]).during("announce a session")?;
        Ok(ours)
    }

    /// A session that has been greeted.
    fn greet(&self) -> Result<ClientSession> {
        let greeted = ClientHandshake::start(self.connect()?).and_then(ClientHandshake::finish);
        greeted.map_err(|error| Error::Unexpected(format!("greet: {error}")))
    }

    /// Fails unless the broker still does what it should, and does nothing else.
    fn assert_serves(&self) -> Result<()> {
        let mut session = self.greet()?;
        let read = OpenFlags::new(AccessMode::Read, OpenBits::NONE);
        let write = OpenFlags::new(AccessMode::ReadWrite, OpenBits::NONE);
        let absolute = self.workdir.path("victim.raw").to_string_lossy().into_owned();
        assert!(matches!(ask(&mut session, "granted.raw", read)?, ReplyOutcome::Descriptor(_)));
        for (name, flags) in [("granted.raw", write), ("victim.raw", read), (absolute.as_str(), read)] {
            let answer = ask(&mut session, name, flags)?;
            assert!(matches!(answer, ReplyOutcome::Errno(errno) if errno == protocol::Errno::ACCES), "{answer:?}");
        }
        Ok(())
    }

    /// Ends the emulator, and with it the broker.
    fn end(self) -> Result<()> {
        drop(self.emulator);
        match self.thread.join() {
            Ok(served) => served.during("serve"),
            Err(_) => Err(Error::Unexpected("the broker's loop panicked".into())),
        }
    }
}

fn ask(session: &mut ClientSession, name: &str, flags: OpenFlags) -> Result<ReplyOutcome> {
    let unexpected = |error: protocol::Error| Error::Unexpected(format!("ask for {name}: {error}"));
    let name = Name::new(name.as_bytes().to_vec()).map_err(|error| Error::Unexpected(error.to_string()))?;
    session.request(&RequestBody::Open { name, flags }).map_err(unexpected)?;
    session.recv().map(|(_, outcome)| outcome).map_err(unexpected)
}

/// Sends a packet as it is; whether it could be sent.
fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(packets::MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "too many descriptors for a packet");
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags).is_ok()
}

/// Waits until the broker has answered, or has ended the session.
fn await_reaction(socket: &OwnedFd) -> Result<()> {
    let mut polled = [PollFd::new(socket, PollFlags::IN | PollFlags::RDHUP)];
    let limit = Timespec::try_from(PATIENCE).map_err(|error| Error::Unexpected(error.to_string()))?;
    match poll(&mut polled, Some(&limit)).during("poll the session")? {
        0 => Err(Error::TooLong { what: "the broker's reaction".into(), seconds: PATIENCE.as_secs() }),
        _ => Ok(()),
    }
}

/// Waits until the broker has ended the session.
fn await_end(socket: &OwnedFd) -> Result<()> {
    let mut buffer = [0; protocol::MAX_MESSAGE];
    loop {
        await_reaction(socket)?;
        match rustix::net::recv(socket, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(()),
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => return Err(error).during("receive from the session"),
        }
    }
}

/// Request 1: opens `granted.raw` for reading.
fn request() -> Vec<u8> {
    [&[1, 0, 11][..], b"granted.raw", &[0, 0]].concat()
}

/// A request of each kind, in the order of their numbers (`docs/protocol.md`).
fn requests() -> [Vec<u8>; 9] {
    let named = |kind: u8, rest: &[u8]| [&[1, kind, 11][..], b"granted.raw", rest].concat();
    [
        named(0, &[0, 0]),
        named(1, &[]),
        vec![1, 2, 0xfa, 1, 0xbe, 0x80, 0x80, 0x80, 0x0c],
        named(3, &[2, 0, 0xa4, 3]),
        named(4, &[]),
        named(5, &[]),
        named(6, &[0, 0]),
        vec![1, 7],
        named(8, &[]),
    ]
}

/// xorshift64 (Marsaglia, 2003): the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A request of any kind with a few bytes changed, or of random bytes altogether.
    fn packet(&mut self) -> Vec<u8> {
        let requests = requests();
        let kind = usize::try_from(self.next()).unwrap_or(0) % requests.len();
        let mut bytes = requests.get(kind).cloned().unwrap_or_default();
        if self.next() & 3 == 0 {
            bytes = (0..self.next() % 300).map(|_| self.next().to_le_bytes()[0]).collect();
        }
        for _ in 0..self.next() % 4 {
            let value = self.next().to_le_bytes()[0];
            let length = bytes.len().max(1);
            let place = usize::try_from(self.next()).unwrap_or(0) % length;
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        bytes
    }
}

/// Every way to break the rules that one packet has, after a greeting where there is one.
fn break_rules(served: &Served) -> Result<()> {
    let none: &[BorrowedFd<'_>] = &[];
    let one = [served.keeper.as_fd()];
    let many = vec![served.keeper.as_fd(); packets::MAX_DESCRIPTORS];
    let (valid, oversize, longer) = (request(), vec![0; 100_000], [request(), vec![0]].concat());
    let strange_name = [&[1, 0, 4][..], b"a\0b\0", &[0, 0]].concat();
    let first: [(&[u8], &[BorrowedFd<'_>]); 5] =
        [(b"", none), (b"GET / HTTP/1.0\r\n", none), (b"BRKR\x01", none), (HELLO, &many), (&valid, none)];
    for (bytes, descriptors) in first {
        let socket = served.connect()?;
        assert!(send(&socket, bytes, descriptors));
        await_end(&socket)?;
    }
    let second: [(&[u8], &[BorrowedFd<'_>]); 8] = [
        (b"", none),
        (b"\xff", none),
        (b"\x01\x00\x0bgr", none),
        (&longer, none),
        (&oversize, none),
        (&strange_name, none),
        (&valid, &one),
        (&valid, &many),
    ];
    for (bytes, descriptors) in second {
        let socket = served.connect()?;
        assert!(send(&socket, HELLO, none) && send(&socket, bytes, descriptors));
        await_end(&socket)?;
    }
    Ok(())
}

/// Sessions of one packet each that is hardly ever a request.
fn send_at_random(served: &Served) -> Result<()> {
    let mut random = Random(0x2026_1122);
    for _ in 0..SESSIONS {
        let socket = served.connect()?;
        assert!(send(&socket, HELLO, &[]) && send(&socket, &random.packet(), &[]));
        await_reaction(&socket)?;
    }
    Ok(())
}

/// Requests without end whose answers nobody takes: the session ends, and with it what was under way.
fn ask_without_end(served: &Served) -> Result<()> {
    let socket = served.connect()?;
    assert!(send(&socket, HELLO, &[]));
    for id in (1..=127).cycle().take(100_000) {
        let mut request = request();
        if let Some(first) = request.first_mut() {
            *first = id;
        }
        send(&socket, &request, &[]);
    }
    await_end(&socket)
}

#[test]
fn a_hostile_agent_gains_nothing_and_leaves_nothing() -> Result<()> {
    let served = Served::start()?;
    served.assert_serves()?;
    let own = Process(std::process::id());
    let descriptors = own.descriptors()?.len();

    break_rules(&served)?;
    served.assert_serves()?;

    send_at_random(&served)?;
    served.assert_serves()?;

    ask_without_end(&served)?;
    served.assert_serves()?;

    let settled = tests::until(PATIENCE, "the last descriptors to be closed", || {
        Ok((own.descriptors()?.len() <= descriptors).then_some(()))
    });
    assert!(settled.is_ok(), "{descriptors} descriptors became {:?}", own.descriptors()?);
    served.end()
}
