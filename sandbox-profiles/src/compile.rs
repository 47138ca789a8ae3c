//! Makes one seccomp program of a profile.
//!
//! Actions are tested in the kernel's own order of strictness, the strictest first: kill, errno,
//! notify, allow, and then the profile's default. So a rule without conditions that allows a call,
//! beside one with conditions that refuses it, reads as "allowed, except ...".
//!
//! Numbers are tested before any argument is loaded: the kernel (5.11 and newer) remembers which
//! calls are always allowed, and then does not run the program for them, but only as long as the way
//! to that answer has loaded neither an argument nor the instruction pointer
//! (`seccomp_is_const_allow` in `kernel/seccomp.c`). It learns that by running the program once for
//! each system call there is, when the program is installed; that time is part of every start, and
//! so calls are grouped in blocks, of which each call runs through one only.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::{Action, Comparison, Condition, Operand, Profile, Rule, Variant, Width, bpf};

/// `BPF_MAXINSNS` of `linux/bpf_common.h`: the kernel takes no longer program.
const LONGEST_PROGRAM: usize = 4096;

/// Why a profile could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// seccompiler has no table for this architecture.
    #[error("no system call filter can be made for {0}; run on x86_64 or aarch64")]
    Architecture(&'static str),
    /// seccompiler refused the rules.
    #[error("the system call filter `{profile}` could not be compiled; this is a bug, report it")]
    Backend {
        /// Name of the profile.
        profile: &'static str,
        /// What seccompiler says.
        source: seccompiler::BackendError,
    },
    /// A condition needs the process that signals may go to.
    #[error("a rule for `{0}` needs the process that signals may go to; this is a bug, report it")]
    SignalTarget(&'static str),
    /// The number of notifying instructions contradicts the profile.
    #[error("the system call filter `{0}` lost its notifications; this is a bug, report it")]
    Notifications(&'static str),
    /// The kernel would refuse the program.
    #[error(
        "the system call filter `{profile}` has {length} instructions, of which the kernel takes 4096; remove rules"
    )]
    TooLong {
        /// Name of the profile.
        profile: &'static str,
        /// Number of instructions.
        length: usize,
    },
}

/// A seccomp program, ready for `seccomp(2)`.
#[derive(Clone, Debug)]
#[must_use]
pub struct Program {
    /// The instructions; at most 4096, so the length fits `sock_fprog`'s 16 bits.
    pub instructions: Vec<libc::sock_filter>,
    /// Whether it can return `SECCOMP_RET_USER_NOTIF`, so that it must be installed with
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
    pub notifies: bool,
}

/// Conditions by system call; an empty list means that the call matches always.
type Segment = BTreeMap<i64, Vec<SeccompRule>>;

/// So many system calls share a block. A call runs past the blocks before its own and then through
/// its own, so the square root of the number of calls is about right.
const CALLS_IN_BLOCK: usize = 16;

/// Compiles a profile for this architecture.
///
/// # Errors
/// [`Error::Architecture`] on an architecture that seccompiler does not know; the others are
/// mistakes in a profile that the build could not see.
pub fn compile(profile: Profile, variant: &Variant) -> Result<Program, Error> {
    let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in crate::rules(profile).filter(|rule| rule.applies_to(variant)) {
        calls.entry(rule.number).or_default().push(rule);
    }
    let calls: Vec<_> = calls.into_iter().collect();
    let mut blocks = calls.chunks(CALLS_IN_BLOCK).peekable();
    let mut instructions = bpf::x32_guard().to_vec();
    let mut notifications = 0;
    while let Some(calls) = blocks.next() {
        let rules = calls.iter().flat_map(|(_, rules)| rules).copied();
        let (body, notifying) = block(profile, variant, rules)?;
        if let Some((next, _)) = blocks.peek().and_then(|calls| calls.first()) {
            instructions.extend(bpf::skip_from(*next, body.len()));
        }
        instructions.extend(body);
        notifications += notifying;
    }
    program(profile, instructions, notifications)
}

/// The instructions for some of the calls, which end in the profile's default for all others, and
/// the number of notifications among them.
fn block<'a>(
    profile: Profile,
    variant: &Variant,
    rules: impl Iterator<Item = &'a Rule>,
) -> Result<(Vec<libc::sock_filter>, usize), Error> {
    let arch = std::env::consts::ARCH;
    let target = TargetArch::try_from(arch).map_err(|_| Error::Architecture(arch))?;
    let default = profile.data().default;
    let backend = |source| Error::Backend { profile: profile.name(), source };
    let mut instructions = Vec::new();
    let mut notifications = 0;
    for (action, segment) in segments(profile, variant, rules)? {
        let rest = if action == Action::Allow { seccomp_action(default) } else { bpf::next_segment() };
        let filter = SeccompFilter::new(segment, rest, seccomp_action(action), target);
        let program = BpfProgram::try_from(filter.map_err(backend)?).map_err(backend)?;
        let (segment, notifying) = bpf::finish_segment(&program);
        instructions.extend(segment);
        notifications += notifying;
    }
    Ok((instructions, notifications))
}

/// Checks what the kernel and the installer rely on.
fn program(profile: Profile, instructions: Vec<libc::sock_filter>, notifications: usize) -> Result<Program, Error> {
    let notifies = profile.data().default == Action::Notify;
    if notifies != (notifications > 0) {
        return Err(Error::Notifications(profile.name()));
    }
    if instructions.len() > LONGEST_PROGRAM {
        return Err(Error::TooLong { profile: profile.name(), length: instructions.len() });
    }
    Ok(Program { instructions, notifies })
}

/// The rules by action, the strictest action first, and `Allow` always there as the last.
fn segments<'a>(
    profile: Profile,
    variant: &Variant,
    rules: impl Iterator<Item = &'a Rule>,
) -> Result<BTreeMap<Action, Segment>, Error> {
    let default = profile.data().default;
    let mut segments = BTreeMap::from([(Action::Allow, Segment::new())]);
    for rule in rules {
        // The default says the same, and no other rule names the call: the build checks that.
        if rule.action == default && rule.conditions.is_empty() {
            continue;
        }
        let calls = segments.entry(rule.action).or_default();
        let chain = calls.entry(i64::from(rule.number)).or_default();
        if let Some(conditions) = conditions(rule, variant)? {
            let rule =
                SeccompRule::new(conditions).map_err(|source| Error::Backend { profile: profile.name(), source })?;
            chain.push(rule);
        }
    }
    Ok(segments)
}

fn conditions(rule: &Rule, variant: &Variant) -> Result<Option<Vec<SeccompCondition>>, Error> {
    if rule.conditions.is_empty() {
        return Ok(None);
    }
    rule.conditions.iter().map(|one| condition(rule.call, one, variant)).collect::<Result<_, _>>().map(Some)
}

fn condition(call: &'static str, condition: &Condition, variant: &Variant) -> Result<SeccompCondition, Error> {
    let operator = match condition.comparison {
        Comparison::Equal => SeccompCmpOp::Eq,
        Comparison::NotEqual => SeccompCmpOp::Ne,
        Comparison::MaskedEqual { mask, .. } => SeccompCmpOp::MaskedEq(mask),
    };
    let width = match condition.width {
        Width::Bits32 => SeccompCmpArgLen::Dword,
        Width::Bits64 => SeccompCmpArgLen::Qword,
    };
    let value = match condition.operand {
        Operand::Constant { value, .. } => value,
        Operand::SignalTarget => u64::from(variant.signals_only_to.ok_or(Error::SignalTarget(call))?),
    };
    SeccompCondition::new(condition.argument, width, operator, value)
        .map_err(|source| Error::Backend { profile: call, source })
}

fn seccomp_action(action: Action) -> SeccompAction {
    match action {
        Action::KillProcess => SeccompAction::KillProcess,
        Action::Errno { number, .. } => SeccompAction::Errno(number.unsigned_abs()),
        Action::Notify => bpf::notify(),
        Action::Allow => SeccompAction::Allow,
    }
}
