//! Compiles every profile in every variant and runs the programs over system calls: the profile
//! files are the oracle for what the programs do.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod interpreter;

use interpreter::{Call, NATIVE, run};
use sandbox_profiles::{
    Action, Comparison, Condition, Operand, Profile, Program, Rule, Variant, compile, default_action, rules,
};

/// A process number that no constant of the profiles equals.
const PROCESS: u32 = 0x0012_3456;

/// All variants of a profile, each with its program.
fn programs(profile: Profile) -> Vec<(Variant, Program)> {
    let flags = [false, true];
    let mut out = Vec::new();
    for filter_terminal_ioctls in flags {
        for io_uring in flags {
            for signals_only_to in [None, Some(PROCESS)] {
                let variant = Variant {
                    filter_terminal_ioctls,
                    io_uring,
                    forks: io_uring,
                    shared_folders: io_uring,
                    shared_modes: io_uring,
                    sockets: io_uring,
                    windows: io_uring,
                    render_node: io_uring,
                    usb_host: io_uring,
                    signals_only_to,
                };
                out.push((variant, compile(profile, &variant).unwrap()));
            }
        }
    }
    out
}

fn every_program() -> impl Iterator<Item = (Profile, Variant, Program)> {
    Profile::ALL
        .into_iter()
        .flat_map(|profile| programs(profile).into_iter().map(move |(variant, program)| (profile, variant, program)))
}

fn raw(action: Action) -> u32 {
    match action {
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::Errno { number, .. } => libc::SECCOMP_RET_ERRNO | number as u32,
        Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
        Action::Allow => libc::SECCOMP_RET_ALLOW,
    }
}

fn operand(condition: &Condition) -> u64 {
    match condition.operand {
        Operand::Constant { value, .. } => value,
        Operand::SignalTarget => u64::from(PROCESS),
    }
}

/// The bits of the argument that count.
fn relevant(condition: &Condition) -> u64 {
    let width = match condition.width {
        sandbox_profiles::Width::Bits32 => u64::from(u32::MAX),
        sandbox_profiles::Width::Bits64 => u64::MAX,
    };
    match condition.comparison {
        Comparison::MaskedEqual { mask, .. } => width & mask,
        Comparison::Equal | Comparison::NotEqual => width,
    }
}

/// Decides by the profile alone, without any program: the strictest rule that holds, else the default.
fn expected(profile: Profile, variant: &Variant, number: u32, args: [u64; 6]) -> Action {
    let holds = |condition: &Condition| {
        let bits = relevant(condition);
        let equal = args[usize::from(condition.argument)] & bits == operand(condition) & bits;
        equal != (condition.comparison == Comparison::NotEqual)
    };
    rules(profile)
        .filter(|rule| rule.number == number && rule.applies_to(variant))
        .filter(|rule| rule.conditions.iter().all(holds))
        .map(|rule| rule.action)
        .min()
        .unwrap_or(default_action(profile))
}

/// Arguments that fulfil all conditions of a rule.
fn fitting(rule: &Rule) -> [u64; 6] {
    let mut args = [0x5555_5555_5555_5555; 6];
    for condition in rule.conditions {
        let at = usize::from(condition.argument);
        let bits = relevant(condition);
        let fitted = args[at] & !bits | operand(condition) & bits;
        if condition.comparison != Comparison::NotEqual {
            args[at] = fitted;
        } else if args[at] == fitted {
            args[at] ^= 1;
        }
    }
    args
}

/// The arguments with each bit of each argument flipped in turn; a few bits where none should count.
fn perturbed(rule: &Rule, args: [u64; 6]) -> impl Iterator<Item = [u64; 6]> {
    let step = if rule.conditions.is_empty() { 31 } else { 1 };
    (0..6).flat_map(move |index| {
        (0..64).step_by(step).map(move |bit| {
            let mut args = args;
            args[index] ^= 1 << bit;
            args
        })
    })
}

#[test]
fn each_rule_does_what_it_says_and_each_argument_counts() {
    for (profile, variant, program) in every_program() {
        for rule in rules(profile).filter(|rule| rule.applies_to(&variant)) {
            let args = fitting(rule);
            for args in perturbed(rule, args).chain([args]) {
                let verdict = run(&program.instructions, &Call::native(rule.number, args));
                let wanted = expected(profile, &variant, rule.number, args);
                assert_eq!(verdict.action, raw(wanted), "{profile:?} {variant:?} {} {args:x?}", rule.call);
            }
        }
    }
}

#[test]
fn a_fulfilled_rule_is_the_verdict_unless_a_stricter_one_holds_too() {
    for (profile, variant, program) in every_program() {
        for rule in rules(profile).filter(|rule| rule.applies_to(&variant)) {
            let call = Call::native(rule.number, fitting(rule));
            assert_eq!(run(&program.instructions, &call).action, raw(rule.action), "{profile:?} {rule:?}");
        }
    }
}

#[test]
fn every_condition_decides() {
    for (profile, variant, program) in every_program() {
        for rule in rules(profile).filter(|rule| rule.applies_to(&variant)) {
            let args = fitting(rule);
            for condition in rule.conditions {
                let (at, bits) = (usize::from(condition.argument), relevant(condition));
                let mut broken = args;
                broken[at] = match condition.comparison {
                    Comparison::NotEqual => args[at] & !bits | operand(condition) & bits,
                    Comparison::Equal | Comparison::MaskedEqual { .. } => args[at] ^ 1 << bits.ilog2(),
                };
                let verdict = run(&program.instructions, &Call::native(rule.number, broken));
                assert_ne!(verdict.action, raw(rule.action), "{profile:?} {variant:?} {rule:?}");
            }
        }
    }
}

#[test]
fn what_is_not_listed_gets_the_default() {
    for (profile, variant, program) in every_program() {
        for number in 0..1100 {
            if rules(profile).any(|rule| rule.number == number && rule.applies_to(&variant)) {
                continue;
            }
            for argument in [0, u64::MAX] {
                let verdict = run(&program.instructions, &Call::native(number, [argument; 6]));
                assert_eq!(verdict.action, raw(default_action(profile)), "{profile:?} {number}");
                assert!(!verdict.loaded_arguments);
            }
        }
    }
}

#[test]
fn x32_numbers_and_foreign_architectures_are_killed() {
    for (profile, variant, program) in every_program() {
        for number in (0..1100).chain([u32::MAX, 0x7FFF_FFFF]) {
            // i386, ARM, and the other 64-bit table that this crate knows (linux/audit.h).
            for arch in [0x4000_0003, 0x4000_0028, 0xC000_003E, 0xC000_00B7] {
                let foreign = Call { arch, number, args: [0; 6] };
                let x32 = Call::native(number | 0x4000_0000, [0; 6]);
                let killed = raw(Action::KillProcess);
                assert_eq!(run(&program.instructions, &x32).action, killed, "{profile:?} {variant:?}");
                if arch != NATIVE {
                    assert_eq!(run(&program.instructions, &foreign).action, killed, "{profile:?} {variant:?}");
                }
            }
        }
    }
}

#[test]
fn arguments_are_loaded_only_for_calls_whose_rules_need_them() {
    for (profile, variant, program) in every_program() {
        for number in 0..1100 {
            let verdict = run(&program.instructions, &Call::native(number, [7; 6]));
            let needed = rules(profile)
                .any(|rule| rule.number == number && rule.applies_to(&variant) && !rule.conditions.is_empty());
            assert_eq!(verdict.loaded_arguments, needed, "{profile:?} {number}");
        }
    }
}

#[test]
fn the_kernel_would_take_the_programs() {
    for (profile, _, program) in every_program() {
        let length = program.instructions.len();
        assert!(length <= 4096, "{profile:?}: {length}");
        assert_eq!(program.instructions[length - 1].code, 0x06, "the last instruction returns");
        for (index, instruction) in program.instructions.iter().enumerate() {
            let farthest = match instruction.code {
                0x05 => instruction.k as usize,
                code if code & 7 == 5 => usize::from(instruction.jt.max(instruction.jf)),
                _ => 0,
            };
            assert!(index + farthest + 1 < length || instruction.code == 0x06, "{profile:?} {index}");
        }
        assert!(
            program
                .instructions
                .iter()
                .all(|one| { one.code != 0x06 || one.k & 0xFFFF_0000 != libc::SECCOMP_RET_TRACE })
        );
    }
}

#[test]
fn only_programs_in_the_sandbox_have_somebody_to_ask() {
    for (profile, _, program) in every_program() {
        let asks = program.instructions.iter().any(|one| one.code == 0x06 && one.k == libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!(program.notifies, asks);
        assert_eq!(asks, Profile::CONFINED.contains(&profile));
    }
}
