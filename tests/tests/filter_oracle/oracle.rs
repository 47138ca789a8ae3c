//! What a profile file says about one system call, read from its rules and not from the program that the compiler
//! made of them.

use sandbox_profiles::{Action, Comparison, Condition, Operand, Profile, Rule, Variant, Width};

/// Arguments that no call can do anything with: no descriptor, no address, no flag, no process.
pub const IMPOSSIBLE: u64 = u64::MAX;

/// Values of single arguments that are kinder than [`IMPOSSIBLE`], with the reason.
const KINDER: [(&str, usize, u64, &str); 1] =
    [("prctl", 1, 0, "PR_SET_TIMERSLACK takes any number, and the highest makes every later sleep endless")];

/// Calls that are not made, with the reason.
const LEFT_OUT: [(&str, &str); 6] = [
    ("exit", "ends the program that makes the calls, as each of them does in the end"),
    ("exit_group", "the same"),
    ("pause", "waits for ever"),
    ("rt_sigreturn", "goes on wherever the stack says"),
    (
        "uretprobe",
        "passes every filter (kernel/seccomp.c, Linux 6.14), for only the kernel's own trampoline may make it",
    ),
    ("uprobe", "passes every filter (kernel/seccomp.c, Linux 6.18), for the same reason"),
];

/// One system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Call {
    /// A call with impossible arguments.
    pub fn impossible(number: u32) -> Self {
        let mut arguments = [IMPOSSIBLE; 6];
        for (name, index, value, _) in KINDER {
            if sandbox_profiles::syscall_name(number) == Some(name) {
                arguments[index] = value;
            }
        }
        Self { number, arguments }
    }

    /// Its name, or its number where it has none yet.
    pub fn name(&self) -> String {
        sandbox_profiles::syscall_name(self.number).map_or_else(|| format!("number {}", self.number), str::to_owned)
    }

    /// Whether it can be made without an end to the test.
    pub fn can_be_made(&self) -> bool {
        LEFT_OUT.iter().all(|(name, _)| *name != self.name())
    }
}

/// What the profile does with the call: of the rules that hold the strictest, else the default.
pub fn action(profile: Profile, variant: &Variant, call: &Call) -> Action {
    let holds = |rule: &&Rule| {
        rule.number == call.number
            && rule.applies_to(variant)
            && rule.conditions.iter().all(|condition| is_met(condition, variant, call))
    };
    let strictest = sandbox_profiles::rules(profile).filter(holds).map(|rule| rule.action).min();
    strictest.unwrap_or_else(|| sandbox_profiles::default_action(profile))
}

fn is_met(condition: &Condition, variant: &Variant, call: &Call) -> bool {
    let seen = |value: u64| match condition.width {
        Width::Bits32 => value & u64::from(u32::MAX),
        Width::Bits64 => value,
    };
    let argument = call.arguments[usize::from(condition.argument)];
    let operand = operand(condition, variant);
    match condition.comparison {
        Comparison::Equal => seen(argument) == seen(operand),
        Comparison::NotEqual => seen(argument) != seen(operand),
        Comparison::MaskedEqual { mask, .. } => seen(argument & mask) == seen(operand),
    }
}

fn operand(condition: &Condition, variant: &Variant) -> u64 {
    match condition.operand {
        Operand::Constant { value, .. } => value,
        Operand::SignalTarget => variant.signals_only_to.map_or(0, u64::from),
    }
}

/// Every number that there is, and the next ones, with impossible arguments.
pub fn calls_by_number() -> Vec<Call> {
    (0..=600).map(Call::impossible).filter(Call::can_be_made).collect()
}

/// For each rule with conditions on arguments: a call that it is about, that call with bits that the kernel does not
/// look at, and for each condition a call that misses it by one bit.
pub fn calls_by_rule(profile: Profile, variant: &Variant) -> Vec<Call> {
    let mut calls = Vec::new();
    for rule in sandbox_profiles::rules(profile).filter(|rule| rule.applies_to(variant)) {
        let mut exact = Call::impossible(rule.number);
        for condition in rule.conditions {
            let index = usize::from(condition.argument);
            exact.arguments[index] = meeting(condition, variant, exact.arguments[index]);
        }
        for condition in rule.conditions {
            let index = usize::from(condition.argument);
            for value in [exact.arguments[index] ^ HIGH_HALF, missing(condition, variant, exact.arguments[index])] {
                let mut other = exact;
                other.arguments[index] = value;
                calls.extend([exact, other]);
            }
        }
    }
    calls.retain(Call::can_be_made);
    calls.dedup();
    calls
}

/// Bits of a register above the kernel's `int`.
const HIGH_HALF: u64 = 0x5a5a_5a5a_0000_0000;

/// `value`, which meets the conditions before this one, changed as little as makes it meet this one too.
fn meeting(condition: &Condition, variant: &Variant, value: u64) -> u64 {
    let operand = operand(condition, variant);
    match condition.comparison {
        Comparison::Equal => operand,
        Comparison::NotEqual if value == operand => value ^ 1,
        Comparison::NotEqual => value,
        Comparison::MaskedEqual { mask, .. } => (value & !mask) | operand,
    }
}

/// `value`, which meets the condition, changed so that it does not: by one bit, where one is enough.
fn missing(condition: &Condition, variant: &Variant, value: u64) -> u64 {
    match condition.comparison {
        Comparison::Equal => value ^ 1,
        Comparison::NotEqual => operand(condition, variant),
        Comparison::MaskedEqual { mask, .. } => value ^ 1 << mask.trailing_zeros(),
    }
}
