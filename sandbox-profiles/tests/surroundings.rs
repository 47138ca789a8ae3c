//! The lists of mounts, devices, absent names and Landlock rights, as the library hands them out.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeSet;

use sandbox_profiles::{
    Base, LandlockRight, MountKind, Place, Profile, absent, absent_reason, devices, explain, grants, handled_rights,
    mounts, private_folders, rules,
};

#[test]
fn the_private_dev_has_exactly_the_harmless_nodes() {
    let nodes: BTreeSet<_> = devices().map(|device| device.path).collect();
    let wanted = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];
    assert_eq!(nodes, BTreeSet::from(wanted));
    assert_eq!(private_folders().map(|folder| folder.path).collect::<Vec<_>>(), ["/var/tmp"]);
}

#[test]
fn nothing_of_the_host_is_mounted_that_names_users_or_processes() {
    for mount in mounts() {
        for secret in ["/proc", "/sys", "/etc/passwd", "/etc/shadow", "/root", "/home", "/run", "/var", "/tmp"] {
            assert!(mount.base != Base::System || !mount.path.starts_with(secret), "{mount:?}");
        }
        assert_eq!(mount.path.starts_with('/'), mount.base == Base::System, "{mount:?}");
        assert!(mount.path != "/etc" && mount.path != "/usr" && mount.path != "/", "{mount:?}");
    }
    assert!(mounts().any(|mount| mount.path == "/etc/ld.so.cache" && mount.kind == MountKind::File));
}

#[test]
fn only_programs_may_be_executed_and_only_private_and_shared_folders_written() {
    let may = |place, right| grants(place).any(|grant| grant.rights.contains(&right));
    let all = [Place::ReadOnly, Place::Program, Place::Device, Place::Private, Place::Shared, Place::SharedReadOnly];
    for place in all {
        assert_eq!(may(place, LandlockRight::Execute), place == Place::Program);
        assert_eq!(may(place, LandlockRight::MakeReg), matches!(place, Place::Private | Place::Shared));
        assert_eq!(may(place, LandlockRight::MakeSock), place == Place::Shared);
        assert!(may(place, LandlockRight::ReadFile));
        assert!(!may(place, LandlockRight::IoctlDev));
        assert!(!may(place, LandlockRight::MakeChar) && !may(place, LandlockRight::MakeBlock));
    }
    assert_eq!(grants(Place::Listed).flat_map(|grant| grant.rights).collect::<Vec<_>>(), [&LandlockRight::ReadDir]);
    assert!(!may(Place::SharedReadOnly, LandlockRight::WriteFile));
    assert!(!may(Place::ReadOnly, LandlockRight::WriteFile));
    assert!(!may(Place::Program, LandlockRight::WriteFile));
}

/// Each file system right of each ABI up to 6 (`include/uapi/linux/landlock.h`): 13 in ABI 1, then
/// Refer, Truncate, two for TCP, IoctlDev, two scopes.
#[test]
fn every_right_up_to_abi_6_is_handled() {
    let counts = (1..=6).map(|abi| handled_rights().filter(|right| right.abi == abi).count());
    assert_eq!(counts.collect::<Vec<_>>(), [13, 1, 1, 2, 1, 2]);
}

#[test]
fn absent_names_are_recognised_as_asked_for() {
    assert!(absent_reason(b"/proc/self/status").is_some());
    assert!(absent_reason(b"/etc/qemu/qemu.conf").is_some());
    assert!(absent_reason(b"/etc/qemu/qemu.conf2").is_none());
    assert!(absent_reason(b"/proc").is_none());
    assert!(absent_reason(b"./etc/passwd").is_none());
    assert!(absent_reason(b"").is_none());
    let mounted: BTreeSet<_> = mounts().map(|mount| mount.path).collect();
    // These are mounted where the host has them, and missing quietly where it has not.
    let optional = ["/etc/gnutls/config", "/etc/timezone"];
    for entry in absent().filter(|entry| !optional.contains(&entry.name)) {
        assert!(!mounted.iter().any(|path| path.starts_with(entry.name)), "{entry:?}");
    }
}

#[test]
fn explanations_name_each_rule_with_its_reason() {
    for profile in Profile::ALL {
        let text = explain(profile).to_string();
        assert_eq!(text.lines().count(), rules(profile).count() + 1);
        for rule in rules(profile) {
            assert!(text.contains(rule.call) && text.contains(rule.reason));
        }
    }
    let text = explain(Profile::QemuSystem).to_string();
    assert!(text.contains("[argument 0 (32 bits) = AT_FDCWD] Opens by name"), "{text}");
    assert!(text.contains("with signals-unscoped"), "{text}");
}
