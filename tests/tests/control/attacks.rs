//! Nonsense on the control socket, and connections without end, keep neither the guest nor the operator waiting.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recv, sendmsg, socket_with,
};
use tests::control::{Control, unique_name};
use tests::{BrokerCommand, During, Emulator, Error, Process, Qmp, Result, Workdir, need, raw_boot_disk, until};

/// Connections that say nothing: more than a broker has room for.
const SILENT: usize = 200;

/// Connections one after the other, where `HOSTILE_ROUNDS` does not ask for more.
const CONNECTIONS: u64 = 10_000;

/// KiB by which a broker may grow: the allocator's own wavering.
const GROWTH: u64 = 1_024;

/// A running guest, its control socket, and its broker.
struct Guest {
    _workdir: Workdir,
    emulator: Emulator,
    qmp: Qmp,
    control: Control,
    broker: Process,
}

impl Guest {
    fn start() -> Result<Self> {
        let workdir = Workdir::new()?;
        raw_boot_disk(&workdir, "boot.raw")?;
        let name = unique_name();
        let (emulator, qmp) = BrokerCommand::new(&workdir)
            .options(["--name", &name])
            .boot_sector("file=boot.raw,format=raw")
            .start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        let is_broker = |process: &Process| process.status().is_some_and(|status| status.field("Name") == "broker");
        let brokers: Vec<Process> = emulator.helpers()?.into_iter().filter(is_broker).collect();
        let &[broker] = brokers.as_slice() else {
            return Err(Error::Unexpected(format!("no broker, or several: {brokers:?}")));
        };
        Ok(Self { _workdir: workdir, emulator, qmp, control: Control::new(&name), broker })
    }

    fn assert_well(&self) -> Result<()> {
        assert!(self.control.status()?.get("grants").is_some());
        self.emulator.wait_for_writes(1)
    }

    /// KiB of memory, and descriptors.
    fn burden(&self) -> Result<(u64, usize)> {
        let status = self.broker.status();
        let resident = status.as_ref().map_or("", |status| status.field("VmRSS")).split(' ').next();
        let resident = resident.and_then(|text| text.parse().ok());
        let resident = resident.ok_or_else(|| Error::Unexpected("the broker is gone".into()))?;
        Ok((resident, self.broker.descriptors()?.len()))
    }

    /// Fails if the broker holds more than it did `before`.
    fn assert_no_more(&self, before: (u64, usize)) -> Result<()> {
        let settled = until(std::time::Duration::from_secs(70), "the broker to hold no more than before", || {
            let (resident, descriptors) = self.burden()?;
            Ok((resident <= before.0 + GROWTH && descriptors <= before.1).then_some(()))
        });
        assert!(settled.is_ok(), "{before:?} became {:?}", self.burden()?);
        Ok(())
    }
}

/// A connection; `None` when there is no room for it.
fn connect_to(socket: &Path) -> Result<Option<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let ours = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).during("make a socket")?;
    let address = SocketAddrUnix::new(socket).during("make an address")?;
    match connect(&ours, &address) {
        Ok(()) => Ok(Some(ours)),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno).during("connect to the control socket"),
    }
}

fn connect_at_last(socket: &Path) -> Result<OwnedFd> {
    until(tests::PATIENCE, "room for a connection", || connect_to(socket))
}

/// Sends a packet as it is, with descriptors; what becomes of it is not looked at.
fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let _ = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL);
}

/// xorshift64 (Marsaglia, 2003): the same numbers in every run.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

#[test]
fn nonsense_is_answered_or_ended_and_leaves_nothing() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start()?;
    guest.assert_well()?;
    let before = guest.burden()?;
    let socket = guest.control.socket();
    let other = connect_at_last(&socket)?;
    let many = [other.as_fd(); 8];
    let mut random = 0x2026_1122;
    for round in 0..2_000_u64 {
        let connection = connect_at_last(&socket)?;
        let length = [0, 1, 2, 3, 40, 400, 8_192, 8_193, 60_000][usize::try_from(round % 9).unwrap_or(0)];
        let mut bytes: Vec<u8> = (0..length).map(|_| next(&mut random).to_le_bytes()[0]).collect();
        if round % 2 == 0 && !bytes.is_empty() {
            // The right version, and one of the kinds: what follows is nonsense.
            bytes[0] = 1;
            if let Some(kind) = bytes.get_mut(1) {
                *kind %= 6;
            }
        }
        let descriptors = &many[..usize::try_from(round % 4).unwrap_or(0)];
        send(&connection, &bytes, descriptors);
    }
    drop(other);
    guest.assert_well()?;
    guest.assert_no_more(before)?;
    guest.qmp.quit()?;
    assert_eq!(guest.emulator.wait()?.status.code(), Some(0));
    Ok(())
}

#[test]
fn connections_that_say_nothing_hang_nobody() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let guest = Guest::start()?;
    let before = guest.burden()?;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(connect_at_last(&guest.control.socket())?);
    }
    guest.assert_well()?;
    let (_, descriptors) = guest.burden()?;
    assert!(descriptors < before.1 + 64, "{descriptors} descriptors");
    // The oldest ones were given up for the newer ones.
    let ended = recv(&silent[0], &mut [0_u8; 64][..], RecvFlags::DONTWAIT);
    assert!(matches!(ended, Ok((0, _)) | Err(Errno::CONNRESET)), "{ended:?}");
    drop(silent);
    guest.assert_no_more(before)
}

#[test]
fn connections_without_end_leave_the_broker_as_it_was() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let guest = Guest::start()?;
    let connections = std::env::var("HOSTILE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(CONNECTIONS);
    for _ in 0..connections / 10 {
        send(&connect_at_last(&guest.control.socket())?, &[1, 0], &[]);
    }
    guest.assert_well()?;
    let before = guest.burden()?;
    for _ in 0..connections - connections / 10 {
        send(&connect_at_last(&guest.control.socket())?, &[1, 0], &[]);
    }
    guest.assert_no_more(before)?;
    guest.assert_well()
}
