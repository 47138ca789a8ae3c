//! Finds rules that say the same twice, and rules that can never apply because another one stands
//! before them, in each of the variants.

use crate::check::Rule;
use crate::source::{Feature, Mistake};

const FEATURES: [Feature; 10] = [
    Feature::FilterTerminalIoctls,
    Feature::IoUring,
    Feature::SignalsUnscoped,
    Feature::Forks,
    Feature::SharedFolders,
    Feature::SharedModes,
    Feature::Sockets,
    Feature::Windows,
    Feature::RenderNode,
    Feature::UsbHost,
];

/// Looks at each pair of rules for one call that exist together in some variant.
///
/// # Errors
/// [`Mistake::Clash`] for the first bad pair.
pub fn check(rules: &[Rule]) -> Result<(), Mistake> {
    for (index, rule) in rules.iter().enumerate() {
        for other in rules.iter().skip(index + 1).filter(|other| other.number == rule.number) {
            if coexist(rule, other) {
                pair(rule, other)?;
            }
        }
    }
    Ok(())
}

/// Whether some set of features gives both rules life.
fn coexist(one: &Rule, other: &Rule) -> bool {
    (0..1_u16 << FEATURES.len()).any(|set| lives(one, set) && lives(other, set))
}

/// Whether the rule exists in the variant whose features are the bits of `set`.
fn lives(rule: &Rule, set: u16) -> bool {
    let has =
        |wanted: Feature| FEATURES.iter().enumerate().any(|(bit, feature)| *feature == wanted && set >> bit & 1 == 1);
    rule.when.is_none_or(has) && !rule.unless.is_some_and(has)
}

fn pair(one: &Rule, other: &Rule) -> Result<(), Mistake> {
    let clash = |what| Err(Mistake::Clash { call: one.call.clone(), what });
    if one.action == other.action && one.args == other.args {
        return clash("they are duplicates; keep one");
    }
    // A stricter action is tested first (see `compile`), so it takes all calls if it has no condition.
    let (first, second) = if one.action <= other.action { (one, other) } else { (other, one) };
    if first.args.is_empty() {
        return clash("one without conditions stands before the other; remove one of them");
    }
    if first.action == second.action && second.args.is_empty() {
        return clash("both do the same, one with conditions and one without; remove one of them");
    }
    Ok(())
}
