//! Joins the programs that seccompiler makes into one, and gives it the one action that seccompiler
//! does not know.
//!
//! A seccompiler program has two answers: one for calls that match its rules, one for the rest. A
//! profile has more, so each action gets a program of its own, a *segment*, and the segments stand
//! one behind the other. Two marker values stand in for what seccompiler cannot say: "go on with the
//! next segment" becomes a jump to the segment's end, "ask the agent" becomes
//! `SECCOMP_RET_USER_NOTIF`. Markers are replaced in return instructions only.

use libc::sock_filter;
use seccompiler::SeccompAction;

/// Data value of the marker for "go on with the next segment". Which one does not matter: return
/// instructions with `SECCOMP_RET_TRACE` come from nowhere else.
const NEXT: u32 = 0x6e78;
/// Data value of the marker for "ask the agent".
const NOTIFY: u32 = 0x6e74;

/// `return constant`; `BPF_RET | BPF_K` of `linux/bpf_common.h`.
const RETURN: u16 = 0x06;
/// `jump always`; `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `jump if equal to constant`; `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_IF_EQUAL: u16 = 0x15;
/// `jump if any bit of constant is set`; `BPF_JMP | BPF_JSET | BPF_K`.
const JUMP_IF_SET: u16 = 0x45;
/// `jump if greater than or equal to constant`; `BPF_JMP | BPF_JGE | BPF_K`.
const JUMP_IF_NOT_LESS: u16 = 0x35;
/// `load a word of seccomp_data`; `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;

/// Offset of the system call's number in `struct seccomp_data` (`linux/seccomp.h`).
const OFFSET_OF_NUMBER: u32 = 0;
/// Numbers with this bit are the x32 table's (`__X32_SYSCALL_BIT`, `asm/unistd.h` of x86); no other
/// architecture has such numbers.
const X32_BIT: u32 = 0x4000_0000;

/// The action that stands for "go on with the next segment".
pub(crate) fn next_segment() -> SeccompAction {
    SeccompAction::Trace(NEXT)
}

/// The action that stands for "ask the agent".
pub(crate) fn notify() -> SeccompAction {
    SeccompAction::Trace(NOTIFY)
}

/// Kills the process for x32 numbers. Foreign architectures are killed by the first instructions of
/// each segment.
pub(crate) fn x32_guard() -> [sock_filter; 3] {
    [
        sock_filter { code: LOAD, jt: 0, jf: 0, k: OFFSET_OF_NUMBER },
        sock_filter { code: JUMP_IF_SET, jt: 0, jf: 1, k: X32_BIT },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_KILL_PROCESS },
    ]
}

/// Goes past a block of this many instructions if the system call's number, which is loaded already,
/// is `first` or greater.
pub(crate) fn skip_from(first: u32, length: usize) -> [sock_filter; 2] {
    [sock_filter { code: JUMP_IF_NOT_LESS, jt: 0, jf: 1, k: first }, jump_over(length)]
}

/// Goes past this many instructions. A program has 4096 at most, so the distance always fits.
fn jump_over(length: usize) -> sock_filter {
    let distance = u32::try_from(length).unwrap_or(u32::MAX);
    sock_filter { code: JUMP, jt: 0, jf: 0, k: distance }
}

/// A segment with its markers resolved, and how many notifications it can return.
pub(crate) fn finish_segment(program: &[seccompiler::sock_filter]) -> (Vec<sock_filter>, usize) {
    let mut segment = shorten(program);
    let length = segment.len();
    let mut notifications = 0;
    for (index, instruction) in segment.iter_mut().enumerate() {
        if instruction.code != RETURN {
            continue;
        }
        if instruction.k == u32::from(next_segment()) {
            *instruction = jump_over(length - index - 1);
        } else if instruction.k == u32::from(notify()) {
            instruction.k = libc::SECCOMP_RET_USER_NOTIF;
            notifications += 1;
        }
    }
    (segment, notifications)
}

/// Shortens the five instructions that seccompiler makes of a rule without conditions to two: the
/// kernel runs the program once for each system call when it is installed, to learn which calls are
/// always allowed, and that time is part of every start.
fn shorten(program: &[seccompiler::sock_filter]) -> Vec<sock_filter> {
    let mut out = Vec::with_capacity(program.len());
    let mut rest = program;
    loop {
        rest = match rest {
            [test, skip, leave, hit, miss, tail @ ..]
                if (test.code, test.jt, test.jf) == (JUMP_IF_EQUAL, 0, 1)
                    && (skip.code, skip.k) == (JUMP, 1)
                    && (leave.code, leave.k) == (JUMP, 2)
                    && (hit.code, miss.code) == (RETURN, RETURN) =>
            {
                out.extend([copy(test), copy(hit)]);
                tail
            }
            [first, tail @ ..] => {
                out.push(copy(first));
                tail
            }
            [] => return out,
        };
    }
}

fn copy(instruction: &seccompiler::sock_filter) -> sock_filter {
    let seccompiler::sock_filter { code, jt, jf, k } = *instruction;
    sock_filter { code, jt, jf, k }
}
