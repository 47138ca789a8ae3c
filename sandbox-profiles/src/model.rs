//! The shape of a profile once its file has been read: rules on system calls, each with its reason.

/// What happens to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The whole process dies with `SIGSYS` (`SECCOMP_RET_KILL_PROCESS`, Linux 4.14).
    KillProcess,
    /// The call fails with this error number and nobody is told.
    Errno {
        /// Its name, such as `EPERM`.
        name: &'static str,
        /// Its number on this architecture.
        number: i32,
    },
    /// The call waits for the agent's answer (`SECCOMP_RET_USER_NOTIF`, Linux 5.0).
    Notify,
    /// The call goes to the kernel as it is.
    Allow,
}

/// How many bits of an argument are compared.
///
/// Where the kernel's own type is `int`, it ignores the upper half of the register, and so must the
/// comparison: a 64-bit one is passed by setting a bit that the kernel does not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The lower 32 bits.
    Bits32,
    /// All 64 bits.
    Bits64,
}

/// How an argument is compared with its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `argument == operand`
    Equal,
    /// `argument != operand`
    NotEqual,
    /// `argument & mask == operand`
    MaskedEqual {
        /// The bits that count.
        mask: u64,
        /// The mask as the profile file spells it.
        text: &'static str,
    },
}

/// What an argument is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A number that is known when the profile is built.
    Constant {
        /// Its value, sign-extended to 64 bits.
        value: u64,
        /// Its name, or the number as the profile file spells it.
        text: &'static str,
    },
    /// The process that [`Variant::signals_only_to`] names.
    SignalTarget,
}

/// One test of one argument of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Index of the argument, from 0 to 5.
    pub argument: u8,
    /// How much of it counts.
    pub width: Width,
    /// The comparison.
    pub comparison: Comparison,
    /// The other side of the comparison.
    pub operand: Operand,
}

/// A property of a host or of a command line that changes a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The process inherits a terminal from a host that still has `TIOCSTI`.
    FilterTerminalIoctls,
    /// The command line asks for `aio=io_uring`.
    IoUring,
    /// Landlock cannot keep signals inside the sandbox (ABI below 6).
    SignalsUnscoped,
    /// The command line makes the emulator fork (`-daemonize`, `-async-teardown`).
    Forks,
    /// The command line shares folders with the guest (`-virtfs`, `-fsdev local`).
    SharedFolders,
    /// One of them is written, and what the guest sets of owners and modes is the host's (`passthrough`, `none`).
    SharedModes,
    /// The command line names sockets, which the broker makes for the emulator.
    Sockets,
    /// The emulator opens windows (`--allow display`).
    Windows,
    /// The emulator draws on a graphics device of the host (`-display egl-headless`, `-spice gl=on`).
    RenderNode,
    /// The command line takes devices of the host's USB buses (`-device usb-host`).
    UsbHost,
}

impl Feature {
    /// The name that profile files and [`crate::explain()`] use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FilterTerminalIoctls => "filter-terminal-ioctls",
            Self::IoUring => "io-uring",
            Self::SignalsUnscoped => "signals-unscoped",
            Self::Forks => "forks",
            Self::SharedFolders => "shared-folders",
            Self::SharedModes => "shared-modes",
            Self::Sockets => "sockets",
            Self::Windows => "windows",
            Self::RenderNode => "render-node",
            Self::UsbHost => "usb-host",
        }
    }
}

/// Which variant of a profile is wanted. The default is the common case: no terminal, no io_uring, no fork, no
/// shared folder, and a kernel whose Landlock scopes signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// Refuse the ioctls that push input into a terminal. Costs each ioctl some 25 ns where no other
    /// rule looks at requests, so only for a process that inherits a terminal, on a host that still has `TIOCSTI`.
    pub filter_terminal_ioctls: bool,
    /// Allow rings of io_uring that the agent makes: what goes through one no filter sees.
    pub io_uring: bool,
    /// Allow processes beside threads: a child could outlive the emulator with all its descriptors.
    pub forks: bool,
    /// Allow new names, times and attributes, which folders that are shared with the guest need. Landlock keeps the names
    /// in those folders.
    pub shared_folders: bool,
    /// Allow changes of owner; ask the agent for those of mode, which natively would reach the granted images' too.
    pub shared_modes: bool,
    /// Make sockets, bind and connect them: the broker's, for a command line that names some.
    pub sockets: bool,
    /// Answer what libraries of windows ask for and do without, and tell nobody.
    pub windows: bool,
    /// Answer what graphics drivers ask for: whether two descriptors have one file open, and priorities of threads, which
    /// they do without.
    pub render_node: bool,
    /// Let the library for USB believe that it hears of devices that come and go.
    pub usb_host: bool,
    /// Signals go to this process (thread group id) only; for kernels whose Landlock has no signal
    /// scope (ABI below 6).
    pub signals_only_to: Option<u32>,
}

impl Variant {
    /// Whether this variant has the feature.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        match feature {
            Feature::FilterTerminalIoctls => self.filter_terminal_ioctls,
            Feature::IoUring => self.io_uring,
            Feature::SignalsUnscoped => self.signals_only_to.is_some(),
            Feature::Forks => self.forks,
            Feature::SharedFolders => self.shared_folders,
            Feature::SharedModes => self.shared_modes,
            Feature::Sockets => self.sockets,
            Feature::Windows => self.windows,
            Feature::RenderNode => self.render_node,
            Feature::UsbHost => self.usb_host,
        }
    }
}

/// One line of policy: a system call, what becomes of it, when, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name of the system call.
    pub call: &'static str,
    /// Its number on this architecture.
    pub number: u32,
    /// What happens when all conditions hold.
    pub action: Action,
    /// Conditions on arguments, all of which must hold; none means always.
    pub conditions: &'static [Condition],
    /// The rule exists only in variants that have this feature.
    pub when: Option<Feature>,
    /// The rule exists only in variants that lack this feature.
    pub unless: Option<Feature>,
    /// Why the rule exists.
    pub reason: &'static str,
}

impl Rule {
    /// Whether the rule exists in this variant.
    #[must_use]
    pub fn applies_to(&self, variant: &Variant) -> bool {
        self.when.is_none_or(|feature| variant.has(feature)) && self.unless.is_none_or(|feature| !variant.has(feature))
    }
}

/// All rules for one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProfileData {
    /// What happens to a call that no rule matches.
    pub default: Action,
    /// Why that is the right answer.
    pub default_reason: &'static str,
    /// The rules, in the order of the file.
    pub rules: &'static [Rule],
}
