//! Writes checked profiles down as Rust constants. Names of libc constants are written as they are,
//! so that the compiler looks them up for the architecture it builds for.

use crate::calls::Calls;
use crate::check::{Checked, Rule, SIGNAL_TARGET};
use crate::source::{Action, Argument, Feature, Number, Op};
use crate::source_mounts::{Mounts, Named, Occasion};

/// The table of system calls, ordered by number.
#[must_use]
pub fn calls(calls: &Calls) -> String {
    let mut table: Vec<_> = calls.iter().map(|(name, number)| (*number, *name)).collect();
    table.sort_unstable();
    format!("pub(crate) static SYSTEM_CALLS: &[(u32, &str)] = &{table:?};\n")
}

/// One profile.
#[must_use]
pub fn profile(constant: &str, profile: &Checked) -> String {
    let rules: String = profile.rules.iter().map(rule).collect();
    format!(
        "pub(crate) static {constant}: ProfileData = ProfileData {{ default: {}, \
         default_reason: {:?}, rules: &[{rules}] }};\n",
        action(profile.default, None),
        profile.default_reason,
    )
}

fn rule(rule: &Rule) -> String {
    let conditions: String = rule.args.iter().map(condition).collect();
    format!(
        "Rule {{ call: {:?}, number: {}, action: {}, conditions: &[{conditions}], when: {}, \
         unless: {}, reason: {:?} }},\n",
        rule.call,
        rule.number,
        action(rule.action, rule.errno.as_deref()),
        feature(rule.when),
        feature(rule.unless),
        rule.reason,
    )
}

fn action(action: Action, errno: Option<&str>) -> String {
    match errno {
        Some(name) => format!("Action::Errno {{ name: {name:?}, number: libc::{name} }}"),
        None => format!("Action::{action:?}"),
    }
}

fn feature(feature: Option<Feature>) -> String {
    feature.map_or_else(|| "None".to_owned(), |feature| format!("Some(Feature::{feature:?})"))
}

fn condition(argument: &Argument) -> String {
    let comparison = match (argument.op, &argument.mask) {
        (Op::Ne, _) => "NotEqual".to_owned(),
        (Op::MaskedEq, Some(mask)) => {
            format!("MaskedEqual {{ mask: {}, text: {:?} }}", value(mask), text(mask, None))
        }
        (Op::Eq | Op::MaskedEq, _) => "Equal".to_owned(),
    };
    let operand = match &argument.value {
        Number::Named(name) if name == SIGNAL_TARGET => "SignalTarget".to_owned(),
        number => {
            format!("Constant {{ value: {}, text: {:?} }}", value(number), text(number, argument.label.as_deref()))
        }
    };
    format!(
        "Condition {{ argument: {}, width: Width::Bits{}, comparison: Comparison::{comparison}, \
         operand: Operand::{operand} }},",
        argument.index, argument.width
    )
}

/// `as u64` extends the sign of `int` constants such as `AT_FDCWD`.
fn value(number: &Number) -> String {
    match number {
        Number::Literal(number) => format!("{number}"),
        Number::Named(names) => {
            let terms: Vec<_> = names.split('|').map(|name| format!("(libc::{name} as u64)")).collect();
            terms.join(" | ")
        }
    }
}

fn text(number: &Number, label: Option<&str>) -> String {
    match (number, label) {
        (_, Some(label)) => label.to_owned(),
        (Number::Named(names), None) => names.clone(),
        (Number::Literal(number), None) => number.to_string(),
    }
}

/// Mounts, device nodes, private folders, absent names and Landlock rights.
#[must_use]
pub fn mounts(file: &Mounts) -> String {
    let mounts = file.mount.iter().map(|mount| {
        format!(
            "base: Base::{:?}, path: {:?}, kind: MountKind::{:?}, optional: {}, windows: {}, reason: {:?}",
            mount.base,
            mount.path,
            mount.kind,
            mount.optional,
            mount.when == Some(Occasion::Windows),
            mount.reason
        )
    });
    let mut out = list("MOUNTS", "Mount", mounts);
    out.push_str(&list("DEVICES", "Device", file.device.iter().map(named)));
    out.push_str(&list("PRIVATE_FOLDERS", "PrivateFolder", file.private.iter().map(named)));
    let absent = file.absent.iter().map(|entry| {
        let name = entry.path.as_ref().or(entry.prefix.as_ref());
        format!(
            "name: {:?}, prefix: {}, reason: {:?}",
            name.map_or("", String::as_str),
            entry.prefix.is_some(),
            entry.reason
        )
    });
    out.push_str(&list("ABSENT", "Absent", absent));
    let sought = file
        .sought
        .iter()
        .map(|entry| format!("base: SoughtIn::{:?}, path: {:?}, reason: {:?}", entry.base, entry.path, entry.reason));
    out.push_str(&list("SOUGHT", "Sought", sought));
    let handled = file
        .handled
        .iter()
        .map(|entry| format!("right: LandlockRight::{}, abi: {}, reason: {:?}", entry.right, entry.abi, entry.reason));
    out.push_str(&list("HANDLED", "Handled", handled));
    let grants = file.grant.iter().map(|entry| {
        let rights: String = entry.rights.iter().map(|right| format!("LandlockRight::{right},")).collect();
        format!("place: Place::{:?}, rights: &[{rights}], reason: {:?}", entry.place, entry.reason)
    });
    out.push_str(&list("GRANTS", "Grant", grants));
    out
}

fn named(entry: &Named) -> String {
    format!("path: {:?}, reason: {:?}", entry.path, entry.reason)
}

fn list(constant: &str, kind: &str, entries: impl Iterator<Item = String>) -> String {
    let entries: String = entries.map(|fields| format!("{kind} {{ {fields} }},\n")).collect();
    format!("pub(crate) static {constant}: &[{kind}] = &[\n{entries}];\n")
}
