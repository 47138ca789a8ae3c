//! Which names the sandbox's own tree answers, and which the broker does.

use std::collections::HashSet;
use std::path::Path;

use crate::paths::absolute;

/// The agent's view of names. It decides nothing about access: a name that is looked up natively gets what the mount
/// namespace and Landlock allow, whatever stands here.
#[derive(Debug, Default)]
pub struct Names {
    /// Names that the broker has a grant for, as the emulator spells them.
    brokered: HashSet<Vec<u8>>,
    /// Absolute paths that the sandbox's tree answers, with all beneath them.
    native: Vec<Vec<u8>>,
}

impl Names {
    /// `brokered` names go to the broker wherever they lie; what is at or beneath a `native` path goes to the sandbox's
    /// tree; all others go to the broker.
    #[must_use]
    pub fn new(brokered: HashSet<Vec<u8>>, native: Vec<Vec<u8>>) -> Self {
        Self { brokered, native }
    }

    /// Whether the look-up of `name` is the sandbox's own affair.
    #[must_use]
    pub fn is_native(&self, name: &[u8]) -> bool {
        if self.brokered.contains(name) {
            return false;
        }
        // The working directory itself (libndctl goes there and back), and what the kernel refuses by itself.
        if matches!(name, b"" | b"." | b"/") || sandbox_profiles::absent_reason(name).is_some() {
            return true;
        }
        self.is_in_a_tree(name) || (name.starts_with(b"/") && self.is_in_a_tree(&absolute(Path::new("/"), name)))
    }

    fn is_in_a_tree(&self, name: &[u8]) -> bool {
        self.native.iter().any(|path| is_at_or_beneath(name, path))
    }
}

fn is_at_or_beneath(name: &[u8], path: &[u8]) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_components_decide() {
        let names = Names::new([b"/usr/share/disk.img".to_vec()].into(), vec![b"/usr".to_vec()]);
        for native in [&b"/usr"[..], b"/usr/lib/libc.so.6", b"/usr/bin/../share/qemu", b".", b"/"] {
            assert!(names.is_native(native), "{}", native.escape_ascii());
        }
        for brokered in [&b"/usrlocal"[..], b"/etc/shadow", b"top.qcow2", b"/usr/share/disk.img", b".."] {
            assert!(!names.is_native(brokered), "{}", brokered.escape_ascii());
        }
    }
}
