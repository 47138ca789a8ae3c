//! What this host offers that changes how the sandbox is made.

use std::os::fd::RawFd;

use landlock::ABI;

use crate::confine::landlock as domains;
use crate::emulator::{CommandLine, SecurityModel};
use crate::sys::process::is_terminal;

/// The features that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Landlock ABI.
    pub abi: ABI,
    /// Yama's `ptrace_scope`; 0 also where there is no Yama.
    pub ptrace_scope: u8,
    /// Whether a process can push input into its terminal (`TIOCSTI`).
    pub terminal_injection: bool,
}

/// Why no sandbox is possible on this host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No Landlock.
    #[error(transparent)]
    Landlock(#[from] domains::Error),
    /// Too old a Landlock.
    #[error("this kernel offers Landlock ABI {0}; use Linux 5.19 (ABI 2) or newer")]
    OldLandlock(i32),
    /// Yama forbids what the agent does.
    #[error(
        "kernel.yama.ptrace_scope is 3, which forbids to read the emulator's memory until the next boot; boot with 2 or \
         less"
    )]
    Yama,
}

impl Host {
    /// Looks.
    ///
    /// # Errors
    /// One variant for each thing that is missing and has no substitute.
    pub fn inspect() -> Result<Self, Error> {
        let abi = domains::abi()?;
        if abi < ABI::V2 {
            return Err(Error::OldLandlock(abi as i32));
        }
        let ptrace_scope = read_number("/proc/sys/kernel/yama/ptrace_scope").unwrap_or(0);
        if ptrace_scope >= 3 {
            return Err(Error::Yama);
        }
        // The switch came with Linux 6.2; before, injection is always possible.
        let terminal_injection = read_number("/proc/sys/dev/tty/legacy_tiocsti") != Some(0);
        Ok(Self { abi, ptrace_scope, terminal_injection })
    }

    /// The filter's variant for an emulator with these inherited descriptors, whose process is `pid`; `granted`: it may
    /// get terminals besides.
    #[must_use]
    pub fn filter_variant(
        &self,
        inherited: &[RawFd],
        granted: bool,
        command: &CommandLine,
        pid: u32,
    ) -> sandbox_profiles::Variant {
        let terminal = granted || inherited.iter().any(|number| is_terminal(*number));
        sandbox_profiles::Variant {
            filter_terminal_ioctls: terminal && self.terminal_injection,
            io_uring: command.io_uring,
            forks: command.forks,
            shared_folders: !command.shared_folders.is_empty(),
            shared_modes: command
                .shared_folders
                .iter()
                .any(|shared| !shared.read_only && shared.model == SecurityModel::Native),
            sockets: false,
            windows: command.window.is_some(),
            // Libraries of windows look for OpenGL on the display server, and load the same drivers.
            render_node: !command.render_nodes.is_empty() || command.window.is_some(),
            usb_host: !command.usb_hosts.is_empty(),
            signals_only_to: signals_only_to(self.abi, pid),
        }
    }

    /// The variant for this process's own filter, or that of a process it confines itself as.
    #[must_use]
    pub fn own_variant(abi: ABI) -> sandbox_profiles::Variant {
        sandbox_profiles::Variant { signals_only_to: signals_only_to(abi, std::process::id()), ..Default::default() }
    }
}

/// Landlock keeps signals in the sandbox since ABI 6; before, the filter has to.
fn signals_only_to(abi: ABI, pid: u32) -> Option<u32> {
    (abi < ABI::V6).then_some(pid)
}

/// The number that a file of `/proc/sys` holds.
#[must_use]
pub fn read_number(path: &str) -> Option<u8> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_filtered_wherever_there_may_be_a_terminal() {
        let host = Host { abi: ABI::V6, ptrace_scope: 0, terminal_injection: true };
        let filters =
            |host: &Host, granted| host.filter_variant(&[], granted, &CommandLine::default(), 1).filter_terminal_ioctls;
        assert!(filters(&host, true));
        assert!(!filters(&host, false));
        assert!(!filters(&Host { terminal_injection: false, ..host }, true), "the kernel refuses it");
    }
}
