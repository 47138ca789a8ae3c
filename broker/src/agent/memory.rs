//! Reading names and addresses from the emulator's memory: bounded, into a copy that is all that is ever acted on. Writing
//! what a call returns there.

use std::io::{IoSlice, IoSliceMut};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

/// Bytes of a name at most, with the NUL at its end: `PATH_MAX`, include/uapi/linux/limits.h.
const PATH_MAX: usize = 4096;

/// Reads never cross a boundary of this many bytes, so that one unmapped page does not hide the name before it. Every
/// page size of Linux is a multiple.
const PAGE: usize = 4096;

/// The NUL-terminated name at `address` in the memory of `thread`, without the NUL.
///
/// # Errors
/// `EFAULT`: not mapped. `ENAMETOOLONG`: no NUL within 4096 bytes. `EPERM`: the kernel forbids to read this memory.
/// `ESRCH`: the thread is gone.
pub fn read_name(thread: Pid, address: u64) -> Result<Vec<u8>, Errno> {
    let mut base = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let mut name = Vec::with_capacity(128);
    let mut page = [0; PAGE];
    while name.len() < PATH_MAX {
        let length = (PAGE - base % PAGE).min(PATH_MAX - name.len());
        let chunk = page.get_mut(..length).ok_or(Errno::EFAULT)?;
        let read = process_vm_readv(thread, &mut [IoSliceMut::new(chunk)], &[RemoteIoVec { base, len: length }])?;
        let chunk = chunk.get(..read).ok_or(Errno::EFAULT)?;
        if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
            name.extend(chunk.iter().take(end));
            return Ok(name);
        }
        if read == 0 {
            return Err(Errno::EFAULT);
        }
        name.extend_from_slice(chunk);
        base = base.checked_add(read).ok_or(Errno::EFAULT)?;
    }
    Err(Errno::ENAMETOOLONG)
}

/// `length` bytes at `address` in the memory of `thread`. The caller bounds the length.
///
/// # Errors
/// `EFAULT`: not all of it is mapped. `EPERM` and `ESRCH` as [`read_name`].
pub fn read_bytes(thread: Pid, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let base = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let mut bytes = vec![0; length];
    if length == 0 {
        return Ok(bytes);
    }
    let read = process_vm_readv(thread, &mut [IoSliceMut::new(&mut bytes)], &[RemoteIoVec { base, len: length }])?;
    if read == length { Ok(bytes) } else { Err(Errno::EFAULT) }
}

/// Puts `bytes` at `address` into the memory of `thread`. Whatever process that is by now, it is one that the kernel lets the
/// agent write to, so one of the emulator's.
///
/// # Errors
/// `EFAULT`: not all of it is mapped, or not for writing. `EPERM` and `ESRCH` as [`read_name`].
pub fn write_bytes(thread: Pid, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let base = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let to = RemoteIoVec { base, len: bytes.len() };
    let written = process_vm_writev(thread, &[IoSlice::new(bytes)], &[to])?;
    if written == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u8>, Errno> {
        read_name(Pid::this(), bytes.as_ptr() as u64)
    }

    #[test]
    fn reads_names_up_to_the_kernels_limit() {
        assert_eq!(read(b"/a\0b").unwrap(), b"/a");
        assert_eq!(read(b"\0").unwrap(), b"");
        let mut longest = vec![b'x'; PATH_MAX - 1];
        longest.push(0);
        assert_eq!(read(&longest).unwrap().len(), PATH_MAX - 1);
    }

    #[test]
    fn refuses_what_the_kernel_would_refuse() {
        assert_eq!(read(&[b'x'; PATH_MAX + 1]), Err(Errno::ENAMETOOLONG));
        assert_eq!(read_name(Pid::this(), 8), Err(Errno::EFAULT));
        assert_eq!(read_name(Pid::this(), u64::MAX), Err(Errno::EFAULT));
        assert_eq!(read_bytes(Pid::this(), 8, 16), Err(Errno::EFAULT));
    }

    #[test]
    fn reads_as_many_bytes_as_asked_for() {
        let bytes = *b"\x02\0ab";
        assert_eq!(read_bytes(Pid::this(), bytes.as_ptr() as u64, 3).unwrap(), b"\x02\0a");
        assert_eq!(read_bytes(Pid::this(), 0, 0).unwrap(), b"");
    }

    #[test]
    fn writes_what_it_is_given() {
        let mut there = [0_u8; 4];
        write_bytes(Pid::this(), there.as_mut_ptr() as u64, b"ab").unwrap();
        assert_eq!(there, *b"ab\0\0");
        static CONSTANT: [u8; 2] = *b"no";
        assert_eq!(write_bytes(Pid::this(), CONSTANT.as_ptr() as u64, b"ab"), Err(Errno::EFAULT));
        assert_eq!(write_bytes(Pid::this(), 8, b"ab"), Err(Errno::EFAULT));
    }
}
