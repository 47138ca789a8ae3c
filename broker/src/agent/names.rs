//! Which names the sandbox's own tree answers, and which the broker does.

use std::collections::HashSet;
use std::path::Path;

use protocol::SocketAddress;

use crate::paths::absolute;

/// The agent's view of names. It decides nothing about access: a name that is looked up natively gets what the mount
/// namespace and Landlock allow, whatever stands here.
#[derive(Debug, Default)]
pub struct Names {
    /// Names that the broker has a grant for, as the emulator spells them.
    brokered: HashSet<Vec<u8>>,
    /// Absolute paths that the sandbox's tree answers, with all beneath them.
    native: Vec<Vec<u8>>,
    /// Folders that the emulator may write. What is not a file of the broker's there is the sandbox's.
    private: Vec<Vec<u8>>,
    /// Addresses of UNIX sockets, an abstract one with its NUL, behind which there is nothing, and nobody is told.
    unreached: Vec<Vec<u8>>,
}

/// Who looks up a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The sandbox's tree.
    Native,
    /// The sandbox's tree, unless the broker knows the name: what was granted later may lie in a folder whose name stands
    /// for a private one inside.
    Private,
    /// The broker.
    Brokered,
}

impl Names {
    /// `brokered` names go to the broker wherever they lie; what is at or beneath a `native` path goes to the sandbox's
    /// tree; what is beneath a `private` one goes there if the broker does not know it; all others go to the broker.
    #[must_use]
    pub fn new(brokered: HashSet<Vec<u8>>, native: Vec<Vec<u8>>, private: Vec<Vec<u8>>) -> Self {
        Self { brokered, native, private, unreached: Vec::new() }
    }

    /// The same names, and UNIX sockets that libraries do without.
    #[must_use]
    pub fn with_unreached(self, unreached: Vec<Vec<u8>>) -> Self {
        Self { unreached, ..self }
    }

    /// Whether `address` is where a library asks a service of the host that the sandbox does not have, and does without.
    #[must_use]
    pub fn is_unreached(&self, address: &SocketAddress) -> bool {
        let SocketAddress::Unix(name) = address else { return false };
        let name = name.as_bytes();
        sandbox_profiles::absent_reason(name).is_some() || self.unreached.iter().any(|known| known == name)
    }

    /// Who looks `name` up.
    #[must_use]
    pub fn place_of(&self, name: &[u8]) -> Place {
        if self.brokered.contains(name) {
            return Place::Brokered;
        }
        // The working directory itself (libndctl goes there and back), and what the kernel refuses by itself.
        if matches!(name, b"" | b"." | b"/") || sandbox_profiles::absent_reason(name).is_some() {
            return Place::Native;
        }
        let plain = name.starts_with(b"/").then(|| absolute(Path::new("/"), name));
        let plain = plain.as_deref().unwrap_or(name);
        let holds = |trees: &[Vec<u8>], name: &[u8]| trees.iter().any(|path| is_at_or_beneath(name, path));
        if holds(&self.native, name) || holds(&self.native, plain) {
            Place::Native
        } else if holds(&self.private, plain) {
            Place::Private
        } else {
            Place::Brokered
        }
    }
}

fn is_at_or_beneath(name: &[u8], path: &[u8]) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use protocol::UnixName;

    use super::*;

    #[test]
    fn whole_components_decide() {
        let brokered = [b"/usr/share/disk.img".to_vec(), b"/tmp/disk.img".to_vec()].into();
        let names = Names::new(brokered, vec![b"/usr".to_vec()], vec![b"/tmp".to_vec()]);
        for native in [&b"/usr"[..], b"/usr/lib/libc.so.6", b"/usr/bin/../share/qemu", b".", b"/"] {
            assert_eq!(names.place_of(native), Place::Native, "{}", native.escape_ascii());
        }
        for brokered in
            [&b"/usrlocal"[..], b"/etc/shadow", b"top.qcow2", b"/usr/share/disk.img", b"..", b"/tmp/disk.img"]
        {
            assert_eq!(names.place_of(brokered), Place::Brokered, "{}", brokered.escape_ascii());
        }
        assert_eq!(names.place_of(b"/tmp//vl.abc"), Place::Private);
        assert_eq!(names.place_of(b"/tmp/../etc/shadow"), Place::Brokered);
    }

    #[test]
    fn services_that_are_out_of_reach_are_known_by_their_whole_address() {
        let names = Names::default().with_unreached(vec![b"/run/user/0/bus".to_vec(), b"\0/tmp/dbus".to_vec()]);
        let is_unreached = |name: &[u8]| names.is_unreached(&SocketAddress::Unix(UnixName::new(name).unwrap()));
        for name in [&b"/run/user/0/bus"[..], b"\0/tmp/dbus", b"/run/nscd/socket"] {
            assert!(is_unreached(name), "{}", name.escape_ascii());
        }
        for name in [&b"/run/user/0/bus2"[..], b"/tmp/dbus", b"\0/tmp/dbus\0"] {
            assert!(!is_unreached(name), "{}", name.escape_ascii());
        }
    }
}
