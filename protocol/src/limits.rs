//! The numbers both sides agree on. Changing any of them is a new [`VERSION`].

/// First bytes of the first packet in each direction, the same in every version, so that a
/// stranger's socket is told from a broker's before anything else is decoded.
pub const MAGIC: [u8; 4] = *b"BRKR";

/// Version of the messages this crate speaks. Both sides must speak the same one.
pub const VERSION: u16 = 3;

/// Greatest length of a packet, in bytes. A request with two names of [`MAX_NAME`] bytes and the
/// small fields around them fits, so every later request will as well.
pub const MAX_MESSAGE: usize = 8192;

/// Greatest length of a file name, in bytes: Linux's `PATH_MAX` of 4096 (`linux/limits.h`) counts
/// the NUL at the end, which is not sent.
pub const MAX_NAME: usize = 4095;

/// Greatest length of the name of a UNIX socket, in bytes: `UNIX_PATH_MAX` (`linux/un.h`), for the kernel takes a path
/// without a NUL at its end.
pub const MAX_UNIX_NAME: usize = 108;

/// Requests that one client may have unanswered at a time. It bounds what one client can make the
/// broker remember; a QEMU start has at most one open per thread waiting.
pub const MAX_IN_FLIGHT: usize = 64;

/// Greatest errno: Linux's `MAX_ERRNO` (`include/linux/err.h`).
pub const MAX_ERRNO: u16 = 4095;

/// All permission bits that a file mode can have: `S_IALLUGO` (`include/linux/stat.h`).
pub const MAX_MODE: u32 = 0o7777;
