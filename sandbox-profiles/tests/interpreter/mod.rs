//! Runs a classic BPF program over one system call, as `seccomp_run_filters` in the kernel does.

use libc::sock_filter;

/// `AUDIT_ARCH_*` of this machine (`linux/audit.h`).
#[cfg(target_arch = "x86_64")]
pub const NATIVE: u32 = 0xC000_003E;
/// `AUDIT_ARCH_*` of this machine (`linux/audit.h`).
#[cfg(target_arch = "aarch64")]
pub const NATIVE: u32 = 0xC000_00B7;

/// One system call, as `struct seccomp_data` has it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// `AUDIT_ARCH_*`
    pub arch: u32,
    /// Number.
    pub number: u32,
    /// Arguments.
    pub args: [u64; 6],
}

impl Call {
    /// A call of this machine's own table.
    pub fn native(number: u32, args: [u64; 6]) -> Self {
        Self { arch: NATIVE, number, args }
    }

    /// The 32-bit word at this offset of `struct seccomp_data`, on a little-endian machine.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16.. => {
                let argument = self.args[(offset as usize - 16) / 8];
                (if offset.is_multiple_of(8) { argument } else { argument >> 32 }) as u32
            }
            other => panic!("load from offset {other}"),
        }
    }
}

/// What a program did with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `SECCOMP_RET_*` with its data.
    pub action: u32,
    /// Whether an argument or the instruction pointer was loaded on the way.
    pub loaded_arguments: bool,
}

/// Runs the program.
///
/// # Panics
/// At an instruction that the kernel would refuse, or that no profile should contain.
pub fn run(program: &[sock_filter], call: &Call) -> Verdict {
    let mut accumulator = 0_u32;
    let mut loaded_arguments = false;
    let mut at = 0;
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        match code {
            0x20 => {
                accumulator = call.word(k);
                loaded_arguments |= k >= 8;
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += usize::from(if accumulator == k { jt } else { jf }),
            0x25 => at += usize::from(if accumulator > k { jt } else { jf }),
            0x35 => at += usize::from(if accumulator >= k { jt } else { jf }),
            0x45 => at += usize::from(if accumulator & k != 0 { jt } else { jf }),
            0x06 => {
                return Verdict { action: k, loaded_arguments };
            }
            other => panic!("unexpected instruction {other:#x} at {}", at - 1),
        }
    }
}
