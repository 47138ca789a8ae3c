//! Rings of io_uring: the agent makes them, because no filter sees what goes through one. A ring that it hands over carries
//! the few operations below and nothing else, and nobody can change that (`IORING_REGISTER_RESTRICTIONS`, Linux 5.10).
//!
//! Whose descriptors and rights an operation uses is decided when it is submitted, by who submits it (`current` in Linux's
//! io_uring/io_uring.c): that is the emulator, never the agent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;
use rustix::io_uring::{
    IoringOp, IoringRegisterOp, IoringRestrictionOp, IoringSetupFlags, IoringSqeFlags, io_uring_restriction,
    register_or_sqe_op_or_sqe_flags_union,
};

use super::{memory, thread_of};
use crate::sys::ring::{self, Parameters};
use crate::sys::seccomp::{self, Notification};

/// What may go through a ring: what block/io_uring.c and util/fdmon-io_uring.c of QEMU 7.2 to 10.2 submit.
const OPERATIONS: &[IoringOp] = &[
    // Reads of a disk.
    IoringOp::Readv,
    // Writes of a disk.
    IoringOp::Writev,
    // Reads into one buffer, since QEMU 10.2.
    IoringOp::Read,
    // Writes from one buffer, since QEMU 10.2.
    IoringOp::Write,
    // Flushes of a disk.
    IoringOp::Fsync,
    // The event loop of an I/O thread waits for a descriptor.
    IoringOp::PollAdd,
    // It no longer does.
    IoringOp::PollRemove,
    // It waits no longer than that.
    IoringOp::Timeout,
];

/// What may be registered with a ring: liburing's shorter name for the ring itself, for which QEMU asks since 7.2.
const REGISTRATIONS: &[IoringRegisterOp] = &[IoringRegisterOp::RegisterRingFds, IoringRegisterOp::UnregisterRingFds];

/// Flags that a ring may be made with; liburing asks for this one since 2.6 (Linux 6.6), and then for none. With others the
/// kernel would poll by a thread with the agent's rights, or use the agent's descriptors or memory.
const FLAGS: u32 = IoringSetupFlags::NO_SQARRAY.bits();

/// Entries of a ring at most: twice QEMU's 128 (`MAX_ENTRIES` and `FDMON_IO_URING_ENTRIES`). The memory of a ring, which
/// is about 100 bytes an entry, is charged to the agent's control group.
const MAX_ENTRIES: u32 = 256;

/// Index of `flags` in the parameters.
const FLAGS_AT: usize = 2;

/// Indices of `resv`, which must be zero.
const RESERVED: std::ops::Range<usize> = 7..10;

/// Makes the ring that a call of `io_uring_setup` asks for, whose parameters lie at `address`, and fills those in.
///
/// # Errors
/// What the kernel would say: `EFAULT`, and `EINVAL` for flags that it does not know, which here are all but one.
/// `EPERM`: io_uring is disabled on this host (`kernel.io_uring_disabled`). `ESRCH`: nobody waits for it any more.
pub fn make(
    listener: BorrowedFd<'_>,
    notification: &Notification,
    entries: u32,
    address: u64,
) -> Result<OwnedFd, Errno> {
    let thread = thread_of(notification)?;
    let asked = read_parameters(thread, address)?;
    // Only now it is certain that the memory belonged to the thread that asked.
    if !seccomp::is_waiting(listener, notification.id) {
        return Err(Errno::ESRCH);
    }
    let mut parameters = parameters(entries, &asked)?;
    let ring = restricted(entries, &mut parameters)?;
    let bytes: Vec<u8> = parameters.iter().flat_map(|word| word.to_ne_bytes()).collect();
    memory::write_bytes(thread, address, &bytes)?;
    Ok(ring)
}

fn read_parameters(thread: Pid, address: u64) -> Result<Parameters, Errno> {
    let bytes = memory::read_bytes(thread, address, size_of::<Parameters>())?;
    let mut parameters = Parameters::default();
    for (word, bytes) in parameters.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    Ok(parameters)
}

/// The parameters of the ring that is made when the emulator asks for `entries` and `asked`: its flags, and nothing else of
/// what it wrote.
fn parameters(entries: u32, asked: &Parameters) -> Result<Parameters, Errno> {
    let reserved = asked.get(RESERVED).ok_or(Errno::EINVAL)?;
    let flags = asked.get(FLAGS_AT).ok_or(Errno::EINVAL)?;
    if entries > MAX_ENTRIES || flags & !FLAGS != 0 || reserved.iter().any(|word| *word != 0) {
        return Err(Errno::EINVAL);
    }
    let mut parameters = Parameters::default();
    set_flags(&mut parameters, *flags);
    Ok(parameters)
}

fn set_flags(parameters: &mut Parameters, flags: u32) {
    if let Some(word) = parameters.get_mut(FLAGS_AT) {
        *word = flags;
    }
}

/// A ring that can be used, for what it is meant for. `parameters` become what the emulator is to see.
fn restricted(entries: u32, parameters: &mut Parameters) -> Result<OwnedFd, Errno> {
    let flags = parameters.get(FLAGS_AT).copied().unwrap_or_default();
    // A ring takes a list of what it may carry only before it can be used.
    set_flags(parameters, flags | IoringSetupFlags::R_DISABLED.bits());
    let ring = ring::set_up(entries, parameters).map_err(errno)?;
    set_flags(parameters, flags);
    ring::restrict(ring.as_fd(), &restrictions()).map_err(errno)?;
    ring::enable(&ring).map_err(errno)?;
    Ok(ring)
}

/// The list for the kernel. What it does not name is `EACCES`, for an operation in its completion.
fn restrictions() -> Vec<io_uring_restriction> {
    let mut list: Vec<_> = OPERATIONS
        .iter()
        .map(|operation| {
            let operation = register_or_sqe_op_or_sqe_flags_union { sqe_op: *operation };
            restriction(IoringRestrictionOp::SqeOp, operation)
        })
        .collect();
    list.extend(REGISTRATIONS.iter().map(|operation| {
        let operation = register_or_sqe_op_or_sqe_flags_union { register_op: *operation };
        restriction(IoringRestrictionOp::RegisterOp, operation)
    }));
    // QEMU sets none: no links between operations, no registered descriptors or buffers.
    let none = register_or_sqe_op_or_sqe_flags_union { sqe_flags: IoringSqeFlags::empty() };
    list.push(restriction(IoringRestrictionOp::SqeFlagsAllowed, none));
    list
}

fn restriction(kind: IoringRestrictionOp, what: register_or_sqe_op_or_sqe_flags_union) -> io_uring_restriction {
    let mut restriction = io_uring_restriction::default();
    restriction.opcode = kind;
    restriction.register_or_sqe_op_or_sqe_flags = what;
    restriction
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking_for(flags: u32) -> Parameters {
        // What the emulator writes elsewhere is dropped.
        let mut asked = Parameters::default();
        asked.fill(7);
        asked[RESERVED].fill(0);
        set_flags(&mut asked, flags);
        asked
    }

    #[test]
    fn nothing_of_the_emulators_parameters_is_used_but_a_flag() {
        let mut plain = Parameters::default();
        assert_eq!(parameters(128, &asking_for(0)), Ok(plain));
        set_flags(&mut plain, FLAGS);
        assert_eq!(parameters(MAX_ENTRIES, &asking_for(FLAGS)), Ok(plain));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for flag in (0..32).map(|bit| 1 << bit).filter(|flag| *flag != FLAGS) {
            assert_eq!(parameters(128, &asking_for(flag)), Err(Errno::EINVAL), "{flag:#x}");
        }
        assert_eq!(parameters(MAX_ENTRIES + 1, &asking_for(0)), Err(Errno::EINVAL));
        let mut reserved = asking_for(0);
        reserved[9] = 1;
        assert_eq!(parameters(128, &reserved), Err(Errno::EINVAL));
    }
}
