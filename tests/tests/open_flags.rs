//! Within the grant a descriptor has exactly the flags that were asked for, whichever thread asks.

use std::fs;

use rustix::fs::OFlags;
use tests::hostile::{Puppet, Scene};
use tests::{During, Error, ORDINARY_USER, Result, need};

/// `O_DSYNC` (asm-generic/fcntl.h), for which rustix has `O_SYNC`'s number.
const DSYNC: OFlags = OFlags::from_bits_retain(0o10_000);

/// What QEMU and its users ask for beside the access mode.
const FLAGS: [OFlags; 7] = [
    OFlags::empty(),
    OFlags::DIRECT,
    DSYNC,
    OFlags::SYNC,
    OFlags::NOATIME,
    OFlags::NONBLOCK,
    OFlags::DIRECT.union(DSYNC).union(OFlags::NOATIME),
];

/// The flags of the descriptor behind `/proc/PID/fd/N`, without those that the kernel adds.
fn flags_of(descriptor: &std::path::Path) -> Result<OFlags> {
    let path = descriptor.to_string_lossy().replace("/fd/", "/fdinfo/");
    let text = fs::read_to_string(&path).during(format!("read {path}"))?;
    let field = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
    let bits = u32::from_str_radix(field.trim(), 8).map_err(|error| Error::Unexpected(format!("{text}: {error}")))?;
    Ok(OFlags::from_bits_retain(bits) - OFlags::LARGEFILE - OFlags::CLOEXEC)
}

#[test]
fn a_descriptor_has_the_flags_that_were_asked_for() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in [None, Some(ORDINARY_USER)] {
        let scene = Scene::new()?;
        let puppet = Puppet::start_as(&scene, user, |command| command)?;
        for access in [OFlags::RDONLY, OFlags::RDWR] {
            // Each order is carried out by a thread of its own, all at once.
            let orders = FLAGS.map(|flags| (access | flags, puppet.start_open("granted.qcow2", access | flags, 0)));
            for (wanted, order) in orders {
                let order = order?;
                assert_eq!(puppet.answer(order)?, "ok", "{wanted:?}");
                assert_eq!(flags_of(&puppet.descriptor(order)?)?, wanted);
            }
        }
        scene.assert_unharmed(&puppet.end()?)?;
    }
    Ok(())
}
