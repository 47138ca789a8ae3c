//! A virtio-9p device as a guest's driver uses it, over QEMU's protocol for tests: one request at a time, in the older
//! layout of PCI ports (virtio 1.2, section 4.1.4.10, "Legacy Interface").

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use tests::{During, Emulator, Error, PATIENCE, Result, until};

/// The device's place on the first PCI bus, and its arguments.
const SLOT: u32 = 4;
/// What selects the device behind `share`.
pub const DEVICE: &str = "virtio-9p-pci,fsdev=share,mount_tag=share,addr=4,disable-legacy=off,disable-modern=on";

/// Where its ports are put, and registers behind that.
const PORTS: u32 = 0xc000;
const QUEUE_ADDRESS: u32 = 0x08;
const QUEUE_SIZE: u32 = 0x0c;
const QUEUE_NOTIFY: u32 = 0x10;
const STATUS: u32 = 0x12;
/// `ACKNOWLEDGE | DRIVER | DRIVER_OK`.
const READY: u32 = 7;

/// Guest memory: the queue, the request, and room for the answer.
const QUEUE: u64 = 0x10_0000;
const REQUEST: u64 = 0x20_0000;
const ANSWER: u64 = 0x21_0000;
/// Bytes of an answer at most.
pub const ROOM: u32 = 8192;

/// The device and the emulator that it is a part of.
pub struct Device {
    lines: BufReader<UnixStream>,
    stream: UnixStream,
    entries: u64,
    sent: u16,
}

impl Device {
    /// Finds the device and makes it ready.
    ///
    /// # Errors
    /// When the emulator ends first; what it said is then in the error.
    pub fn wake(stream: UnixStream, emulator: &Emulator) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE)).during("set the time limit")?;
        let lines = BufReader::new(stream.try_clone().during("copy a socket")?);
        let mut device = Self { lines, stream, entries: 0, sent: 0 };
        match device.prepare() {
            Ok(()) => Ok(device),
            Err(error) => Err(emulator.explain(error)),
        }
    }

    fn prepare(&mut self) -> Result<()> {
        let configuration = |register: u32| 0x8000_0000 | SLOT << 11 | register;
        for (register, value) in [(0x10, PORTS), (0x04, 7)] {
            self.say(&format!("outl 0xcf8 {:#x}", configuration(register)))?;
            self.say(&format!("outl 0xcfc {value:#x}"))?;
        }
        self.say(&format!("outb {:#x} {READY}", PORTS + STATUS))?;
        self.entries = self.number(&format!("inw {:#x}", PORTS + QUEUE_SIZE))?;
        self.say(&format!("outl {:#x} {:#x}", PORTS + QUEUE_ADDRESS, QUEUE >> 12))?;
        Ok(())
    }

    /// Hands a request over and waits for its answer.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.write(REQUEST, request)?;
        let length = u32::try_from(request.len()).unwrap_or(u32::MAX);
        let descriptors = [descriptor(REQUEST, length, 1, 1), descriptor(ANSWER, ROOM, 2, 0)].concat();
        self.write(QUEUE, &descriptors)?;
        // The ring of what is available, behind the table: flags, count, entries. Each entry is descriptor 0.
        let available = QUEUE + 16 * self.entries;
        self.sent = self.sent.wrapping_add(1);
        let sent = self.sent;
        self.write(available + 2, &sent.to_le_bytes())?;
        self.say(&format!("outw {:#x} 0", PORTS + QUEUE_NOTIFY))?;
        let used = (available + 6 + 2 * self.entries).next_multiple_of(4096);
        until(PATIENCE, "the device's answer", || {
            Ok((self.number(&format!("readw {:#x}", used + 2))? == u64::from(sent)).then_some(()))
        })?;
        let size = self.number(&format!("readl {ANSWER:#x}"))?;
        let hex = self.say(&format!("read {ANSWER:#x} {size:#x}"))?;
        bytes(hex.trim_start_matches("0x"))
    }

    fn write(&mut self, address: u64, data: &[u8]) -> Result<()> {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        self.say(&format!("write {address:#x} {:#x} 0x{hex}", data.len())).map(drop)
    }

    fn number(&mut self, command: &str) -> Result<u64> {
        let text = self.say(command)?;
        let parsed = u64::from_str_radix(text.trim_start_matches("0x"), 16);
        parsed.map_err(|_| Error::Unexpected(format!("{command}: {text}")))
    }

    /// Says a command, and returns what follows `OK`.
    fn say(&mut self, command: &str) -> Result<String> {
        self.stream.write_all(format!("{command}\n").as_bytes()).during("speak to the emulator")?;
        let mut line = String::new();
        self.lines.read_line(&mut line).during("hear the emulator")?;
        match line.strip_prefix("OK") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(Error::Unexpected(format!("{command}: {line:?}"))),
        }
    }
}

/// A descriptor of the queue: address, length, flags (1: another follows; 2: the device writes it), the next one.
fn descriptor(address: u64, length: u32, flags: u16, next: u16) -> Vec<u8> {
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    bytes
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let all: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(pair).collect();
    all.ok_or_else(|| Error::Unexpected(format!("no hexadecimal bytes: {hex}")))
}
