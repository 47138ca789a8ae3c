//! Checks rules one by one and resolves names of system calls.

use crate::calls::Calls;
use crate::shadow;
use crate::source::{Action, Argument, Call, Feature, Mistake, Number, Op, Profile};

/// A reason shorter than this many characters explains nothing.
pub const SHORTEST_REASON: usize = 20;

/// Stands for the process that a variant's `signals_only_to` names.
pub const SIGNAL_TARGET: &str = "$signals-only-to";

/// A profile whose rules have been checked.
#[derive(Debug)]
pub struct Checked {
    /// `notify` or `kill_process`.
    pub default: Action,
    /// Why.
    pub default_reason: String,
    /// One entry for each system call of each rule.
    pub rules: Vec<Rule>,
}

/// A rule for one system call.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name of the call.
    pub call: String,
    /// Its number.
    pub number: u32,
    /// What happens.
    pub action: Action,
    /// Name of the error number.
    pub errno: Option<String>,
    /// Conditions.
    pub args: Vec<Argument>,
    /// Feature that the variant must have.
    pub when: Option<Feature>,
    /// Feature that the variant must lack.
    pub unless: Option<Feature>,
    /// Why.
    pub reason: String,
}

/// Checks a whole profile.
///
/// # Errors
/// The first [`Mistake`] found.
pub fn profile(file: &Profile, architecture: &str, calls: &Calls) -> Result<Checked, Mistake> {
    let default = file.default.action;
    reason("default", &file.default.reason)?;
    if !matches!(default, Action::KillProcess | Action::Notify) {
        return Err(wrong("default", "its action must be `notify` or `kill_process`"));
    }
    let mut rules = Vec::new();
    for call in &file.call {
        let names = names(call)?;
        fields(call, default, &names.join(", "))?;
        if call.arch.as_deref().is_some_and(|arch| arch != architecture) {
            continue;
        }
        for name in names {
            rules.push(rule(call, name, calls)?);
        }
    }
    shadow::check(&rules)?;
    Ok(Checked { default, default_reason: file.default.reason.clone(), rules })
}

/// Checks that a reason says something.
///
/// # Errors
/// [`Mistake::Reason`] with the name of the entry.
pub fn reason(entry: &str, text: &str) -> Result<(), Mistake> {
    if text.trim().len() < SHORTEST_REASON || text.split_whitespace().count() < 4 {
        return Err(Mistake::Reason(entry.to_owned()));
    }
    Ok(())
}

fn names(call: &Call) -> Result<Vec<&str>, Mistake> {
    match (&call.name, &call.names) {
        (Some(name), None) => Ok(vec![name]),
        (None, Some(names)) if !names.is_empty() => Ok(names.iter().map(String::as_str).collect()),
        (name, _) => Err(Mistake::Names(name.clone().unwrap_or_else(|| call.reason.clone()))),
    }
}

fn fields(call: &Call, default: Action, names: &str) -> Result<(), Mistake> {
    reason(names, &call.reason)?;
    if (call.action == Action::Errno) != call.errno.is_some() {
        return Err(wrong(names, "`errno` belongs to `action = \"errno\"`, and must be there"));
    }
    if call.errno.as_deref().is_some_and(|errno| !errno.starts_with('E') || !is_constant(errno)) {
        return Err(wrong(names, "`errno` must be a name such as EPERM"));
    }
    if call.action == Action::Notify && default != Action::Notify {
        return Err(wrong(names, "nobody answers notifications where the default is not `notify`"));
    }
    if call.when.is_some() && call.unless.is_some() {
        return Err(wrong(names, "`when` and `unless` exclude each other"));
    }
    if !matches!(call.arch.as_deref(), None | Some("x86_64" | "aarch64")) {
        return Err(wrong(names, "`arch` must be x86_64 or aarch64"));
    }
    call.args.iter().try_for_each(|argument| condition(call, argument, names))
}

fn condition(call: &Call, argument: &Argument, names: &str) -> Result<(), Mistake> {
    if argument.index > 5 {
        return Err(wrong(names, "arguments are counted from 0 to 5"));
    }
    if !matches!(argument.width, 32 | 64) {
        return Err(wrong(names, "`width` must be 32 or 64"));
    }
    if (argument.op == Op::MaskedEq) != argument.mask.is_some() {
        return Err(wrong(names, "`mask` belongs to `op = \"masked_eq\"`, and must be there"));
    }
    if argument.label.is_some() != matches!(argument.value, Number::Literal(1..)) {
        return Err(wrong(names, "a number other than 0 needs a `label`, and nothing else has one"));
    }
    for number in argument.mask.iter().chain([&argument.value]) {
        if let Number::Named(text) = number {
            named(call, text, names)?;
        }
    }
    match (&argument.mask, &argument.value) {
        (None, _) | (Some(_), Number::Literal(0)) => Ok(()),
        (Some(Number::Named(mask)), Number::Named(value)) if within(value, mask) => Ok(()),
        (Some(Number::Literal(mask)), Number::Literal(value)) if value & !mask == 0 => Ok(()),
        _ => Err(wrong(names, "`value` must be 0, or names or bits that `mask` has too")),
    }
}

/// Whether each constant of `value` is one of those in `mask`.
fn within(value: &str, mask: &str) -> bool {
    value.split('|').all(|bit| is_constant(bit) && mask.split('|').any(|other| other == bit))
}

fn named(call: &Call, text: &str, names: &str) -> Result<(), Mistake> {
    if text == SIGNAL_TARGET {
        return match call.when {
            Some(Feature::SignalsUnscoped) => Ok(()),
            _ => Err(wrong(names, "only a rule with `when = \"signals-unscoped\"` knows the process")),
        };
    }
    if text.split('|').all(is_constant) {
        return Ok(());
    }
    Err(wrong(names, "a value is a number, or names of libc constants joined by |"))
}

/// Whether the text can be the name of a libc constant.
fn is_constant(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn rule(call: &Call, name: &str, calls: &Calls) -> Result<Rule, Mistake> {
    Ok(Rule {
        call: name.to_owned(),
        number: *calls.get(name).ok_or_else(|| Mistake::UnknownCall(name.to_owned()))?,
        action: call.action,
        errno: call.errno.clone(),
        args: call.args.clone(),
        when: call.when,
        unless: call.unless,
        reason: call.reason.clone(),
    })
}

fn wrong(names: &str, what: &str) -> Mistake {
    Mistake::Rule { call: names.to_owned(), what: what.to_owned() }
}
