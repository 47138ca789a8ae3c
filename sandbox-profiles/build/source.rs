//! The profile files as they are written. Unknown keys are refused everywhere: a misspelt key must
//! not turn a rule with a condition into one without.

use serde::Deserialize;

/// What can be wrong with a profile file.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// Not TOML, or not of the right shape.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// No table of system calls for this architecture.
    #[error("no table of system calls for {0}; build for x86_64 or aarch64, or add the table to build/calls.rs")]
    Architecture(String),
    /// A rule names a system call that does not exist.
    #[error("unknown system call `{0}`; correct the name, or add `arch = \"x86_64\"` if only x86_64 has it")]
    UnknownCall(String),
    /// A rule has to name its calls by exactly one of two keys.
    #[error("the rule for `{0}` needs either `name` or a non-empty `names`, not both")]
    Names(String),
    /// A reason that explains nothing.
    #[error("`{0}` needs a reason of at least {min} characters and four words", min = crate::check::SHORTEST_REASON)]
    Reason(String),
    /// Keys of one rule that contradict each other.
    #[error("the rule for `{call}` is wrong: {what}")]
    Rule {
        /// Names of the rule's calls.
        call: String,
        /// What is wrong.
        what: String,
    },
    /// A rule that can never have an effect, or says the same again.
    #[error("two rules for `{call}` clash in a variant where both exist: {what}")]
    Clash {
        /// The system call.
        call: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Something else that is wrong with a mount, device, name or right.
    #[error("the entry `{entry}` is wrong: {what}")]
    Entry {
        /// Path or name of the entry.
        entry: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// A whole file of rules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What happens to calls without a rule.
    pub default: Default,
    /// The rules.
    pub call: Vec<Call>,
}

/// What happens to calls without a rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Default {
    /// `notify` or `kill_process`.
    pub action: Action,
    /// Why.
    pub reason: String,
}

/// One rule, for one or more calls that share a reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The call.
    pub name: Option<String>,
    /// The calls.
    pub names: Option<Vec<String>>,
    /// What happens; `allow` when not given.
    #[serde(default)]
    pub action: Action,
    /// Name of the error number for `action = "errno"`.
    pub errno: Option<String>,
    /// Conditions, all of which must hold.
    #[serde(default)]
    pub args: Vec<Argument>,
    /// Feature that the variant must have.
    pub when: Option<Feature>,
    /// Feature that the variant must lack.
    pub unless: Option<Feature>,
    /// The only architecture that has the call.
    pub arch: Option<String>,
    /// Why the rule exists.
    pub reason: String,
}

/// See `model::Action`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Kill.
    KillProcess,
    /// Fail with an error number.
    Errno,
    /// Ask the agent.
    Notify,
    /// Let through.
    #[default]
    Allow,
}

/// See `model::Feature`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Terminal ioctls are filtered.
    FilterTerminalIoctls,
    /// io_uring is wanted.
    IoUring,
    /// Landlock has no signal scope.
    SignalsUnscoped,
    /// The emulator forks.
    Forks,
    /// Folders are shared.
    SharedFolders,
    /// Folders are shared whose owners and modes are the host's.
    SharedModes,
    /// The broker makes sockets.
    Sockets,
    /// The emulator opens windows.
    Windows,
    /// A graphics device draws.
    RenderNode,
    /// Devices of the host's USB buses are taken.
    UsbHost,
}

/// One condition on one argument.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Argument {
    /// Index, 0 to 5.
    pub index: u8,
    /// 32 or 64.
    pub width: u8,
    /// The comparison.
    pub op: Op,
    /// Mask of `masked_eq`.
    pub mask: Option<Number>,
    /// The operand.
    pub value: Number,
    /// Name of a numeric operand that the libc crate does not have.
    pub label: Option<String>,
}

/// A comparison.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `& mask ==`
    MaskedEq,
}

/// A number, names of libc constants joined by `|`, or `$signals-only-to`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Number {
    /// The number itself.
    Literal(u32),
    /// Names.
    Named(String),
}

/// Reads a file of rules.
///
/// # Errors
/// [`Mistake::Syntax`], which names line and column.
pub fn profile(text: &str) -> Result<Profile, Mistake> {
    Ok(toml::from_str(text)?)
}
