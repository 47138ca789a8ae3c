//! Prints a profile as a table that a person can read.

use std::fmt;

use crate::{Action, Comparison, Condition, Operand, Profile, Rule, Width, rules};

/// A profile as a table; one line for each rule: call, action, conditions, reason.
#[derive(Clone, Copy, Debug)]
pub struct Explanation(Profile);

/// The profile as a readable table.
#[must_use]
pub fn explain(profile: Profile) -> Explanation {
    Explanation(profile)
}

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.0.data();
        writeln!(out, "{}: what no line names: {}. {}", self.0.name(), data.default, data.default_reason)?;
        let rows: Vec<_> =
            rules(self.0).map(|rule| (rule.call, rule.action.to_string(), condition_text(rule), rule.reason)).collect();
        let call_width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
        let action_width = rows.iter().map(|row| row.1.len()).max().unwrap_or(0);
        for (call, action, condition, reason) in rows {
            write!(out, "{call:call_width$}  {action:action_width$}  ")?;
            if !condition.is_empty() {
                write!(out, "[{condition}] ")?;
            }
            writeln!(out, "{reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillProcess => out.pad("kill"),
            Self::Errno { name, .. } => out.pad(name),
            Self::Notify => out.pad("ask"),
            Self::Allow => out.pad("allow"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "argument {}", self.argument)?;
        if self.width == Width::Bits32 {
            write!(out, " (32 bits)")?;
        }
        match self.comparison {
            Comparison::Equal => write!(out, " = ")?,
            Comparison::NotEqual => write!(out, " is not ")?,
            Comparison::MaskedEqual { text, .. } => write!(out, " & ({text}) = ")?,
        }
        match self.operand {
            Operand::Constant { text, .. } => write!(out, "{text}"),
            Operand::SignalTarget => write!(out, "the process itself"),
        }
    }
}

fn condition_text(rule: &Rule) -> String {
    let mut parts: Vec<_> = rule.conditions.iter().map(ToString::to_string).collect();
    parts.extend(rule.when.map(|feature| format!("with {}", feature.name())));
    parts.extend(rule.unless.map(|feature| format!("without {}", feature.name())));
    parts.join(", ")
}
