//! The way between the protocol's open flags and open(2)'s.
//!
//! Linux numbers its open flags differently on each architecture (`O_DIRECT` is 0o40000 on x86_64
//! and 0o200000 on aarch64), and a bit that is not listed here must never reach the kernel by
//! accident, so flags are translated one by one in both directions.

use std::fmt;

use thiserror::Error;

use super::{AccessMode, OpenBits, OpenFlags};

/// `O_LARGEFILE` as the kernel has it on this architecture. The libc crate follows glibc, where it
/// is 0 on 64-bit machines, but other C libraries pass the kernel's bit.
const LARGEFILE: i32 = i32::from_ne_bytes(rustix::fs::OFlags::LARGEFILE.bits().to_ne_bytes());

/// Protocol bit, Linux's bit on this architecture, and its name. `O_SYNC` contains `O_DSYNC`
/// (open(2)) and so stands before it: the first match takes its bits away.
const TABLE: [(OpenBits, i32, &str); 13] = [
    (OpenBits::EXCLUSIVE, libc::O_EXCL, "O_EXCL"),
    (OpenBits::TRUNCATE, libc::O_TRUNC, "O_TRUNC"),
    (OpenBits::APPEND, libc::O_APPEND, "O_APPEND"),
    (OpenBits::DIRECT, libc::O_DIRECT, "O_DIRECT"),
    (OpenBits::SYNC, libc::O_SYNC, "O_SYNC"),
    (OpenBits::DSYNC, libc::O_DSYNC, "O_DSYNC"),
    (OpenBits::NOATIME, libc::O_NOATIME, "O_NOATIME"),
    (OpenBits::NONBLOCK, libc::O_NONBLOCK, "O_NONBLOCK"),
    (OpenBits::DIRECTORY, libc::O_DIRECTORY, "O_DIRECTORY"),
    (OpenBits::NOFOLLOW, libc::O_NOFOLLOW, "O_NOFOLLOW"),
    (OpenBits::PATH, libc::O_PATH, "O_PATH"),
    (OpenBits::NOCTTY, libc::O_NOCTTY, "O_NOCTTY"),
    (OpenBits::CLOEXEC, libc::O_CLOEXEC, "O_CLOEXEC"),
];

impl OpenFlags {
    /// Translates the flags argument of open(2) on this architecture. `O_LARGEFILE` is dropped: a
    /// 64-bit kernel sets it by itself.
    ///
    /// # Errors
    /// [`UnknownFlags`] when a bit is set that the protocol does not carry, such as `O_TMPFILE` or
    /// `O_ASYNC`, or when the access mode is the reserved value 3. `O_CREAT` is such a bit too: the
    /// kind of the request says it ([`RequestBody::Create`](crate::RequestBody::Create)).
    pub fn from_linux(raw: i32) -> Result<Self, UnknownFlags> {
        let access = match raw & libc::O_ACCMODE {
            libc::O_RDONLY => AccessMode::Read,
            libc::O_WRONLY => AccessMode::Write,
            libc::O_RDWR => AccessMode::ReadWrite,
            reserved => return Err(UnknownFlags(reserved)),
        };
        let mut rest = raw & !libc::O_ACCMODE & !LARGEFILE;
        let mut flags = Self::new(access, OpenBits::NONE);
        for (bit, linux, _) in TABLE {
            if rest & linux == linux {
                rest &= !linux;
                flags = flags.with(bit);
            }
        }
        if rest != 0 {
            return Err(UnknownFlags(rest));
        }
        Ok(flags)
    }

    /// The flags argument of open(2) on this architecture.
    #[must_use]
    pub fn to_linux(self) -> i32 {
        let access = match self.access {
            AccessMode::Read => libc::O_RDONLY,
            AccessMode::Write => libc::O_WRONLY,
            AccessMode::ReadWrite => libc::O_RDWR,
        };
        let set = TABLE.iter().filter(|(bit, ..)| self.contains(*bit));
        set.fold(access, |flags, (_, linux, _)| flags | linux)
    }
}

/// In the notation of open(2): `O_RDWR|O_DIRECT`.
impl fmt::Display for OpenFlags {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.access {
            AccessMode::Read => "O_RDONLY",
            AccessMode::Write => "O_WRONLY",
            AccessMode::ReadWrite => "O_RDWR",
        })?;
        for (bit, _, name) in TABLE {
            if self.contains(bit) {
                write!(out, "|{name}")?;
            }
        }
        Ok(())
    }
}

/// Bits of open(2)'s flags argument that no request can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("open flags {bits:#o}{names} cannot be part of a request; ask without them",
    bits = self.0, names = named(self.0))]
pub struct UnknownFlags(i32);

impl UnknownFlags {
    /// The offending bits, in this architecture's numbering.
    #[must_use]
    pub const fn bits(self) -> i32 {
        self.0
    }
}

/// The refused flags that a program is likely to use. By the time bits are refused, the
/// `O_DIRECTORY` within `O_TMPFILE` has been taken away.
const REFUSED: [(i32, &str); 3] =
    [(libc::O_CREAT, "O_CREAT"), (libc::O_TMPFILE & !libc::O_DIRECTORY, "O_TMPFILE"), (libc::O_ASYNC, "O_ASYNC")];

/// The names of `bits`, in brackets, as far as they have one.
fn named(bits: i32) -> String {
    let names: Vec<_> = REFUSED.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_bits_survives_the_way_to_linux_and_back() {
        for access in [AccessMode::Read, AccessMode::Write, AccessMode::ReadWrite] {
            for bits in (0..=OpenBits::ALL).step_by(2) {
                let flags = OpenFlags::new(access, OpenBits::try_from(bits).unwrap());
                let back = OpenFlags::from_linux(flags.to_linux()).unwrap();
                let implied = if flags.contains(OpenBits::SYNC) { flags.without(OpenBits::DSYNC) } else { flags };
                assert_eq!(back, implied);
            }
        }
    }

    #[test]
    fn every_defined_bit_is_in_the_table_once() {
        let all = TABLE.iter().fold(0, |all, (bit, ..)| {
            assert_eq!(all & bit.0, 0, "{bit:?} twice");
            all | bit.0
        });
        assert_eq!(all, OpenBits::ALL);
    }

    #[test]
    fn unlisted_linux_flags_are_refused_and_named() {
        let tmpfile = OpenFlags::from_linux(libc::O_TMPFILE | libc::O_RDWR).unwrap_err();
        assert!(tmpfile.to_string().contains("O_TMPFILE"), "{tmpfile}");
        let asynchronous = OpenFlags::from_linux(libc::O_ASYNC).unwrap_err();
        assert!(asynchronous.to_string().contains("O_ASYNC"));
        let creating = OpenFlags::from_linux(libc::O_CREAT | libc::O_ASYNC | libc::O_WRONLY).unwrap_err();
        assert!(creating.to_string().contains("(O_CREAT, O_ASYNC)"), "{creating}");
        assert_eq!(OpenFlags::from_linux(3).unwrap_err().bits(), 3);
    }

    #[test]
    fn each_of_the_32_bits_is_carried_dropped_or_refused() {
        for bit in (0..32).map(|shift| 1_i32 << shift) {
            let carried = bit & libc::O_ACCMODE != 0 || TABLE.iter().any(|row| row.1 == bit);
            let dropped = bit == LARGEFILE;
            let result = OpenFlags::from_linux(bit);
            assert_eq!(result.is_ok(), carried || dropped, "{bit:#o}");
            assert_eq!(result.map_or(0, OpenFlags::to_linux), if carried { bit } else { 0 });
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn numbers_of_x86_64_are_understood() {
        let flags = OpenFlags::from_linux(0o2 | 0o40_000 | 0o100_000 | 0o2_000_000).unwrap();
        assert_eq!(flags.to_string(), "O_RDWR|O_DIRECT|O_CLOEXEC");
        assert_eq!(flags.to_linux(), 0o2 | 0o40_000 | 0o2_000_000);
    }
}
