//! What the emulator's program must do whatever a later edit of its profile says.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod interpreter;

use interpreter::{Call, run};
use sandbox_profiles::{Profile, Variant, compile, rules, syscall_name};

#[test]
fn the_hot_calls_of_an_emulator_stay_free_of_arguments() {
    let program = compile(Profile::QemuSystem, &Variant::default()).unwrap();
    for name in ["ppoll", "futex", "read", "write", "preadv", "pwritev", "io_submit", "io_getevents"] {
        let rule = rules(Profile::QemuSystem).find(|rule| rule.call == name).unwrap();
        let verdict = run(&program.instructions, &Call::native(rule.number, [0; 6]));
        assert_eq!(verdict.action, libc::SECCOMP_RET_ALLOW, "{name}");
        assert!(!verdict.loaded_arguments, "{name}");
    }
}

/// What the threat model names must be refused whatever a later edit of the profile says.
#[test]
fn dangerous_calls_are_never_allowed_in_the_sandbox() {
    let never = [
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "process_madvise",
        "pidfd_open",
        "pidfd_getfd",
        "pidfd_send_signal",
        "kcmp",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsmount",
        "fspick",
        "mount_setattr",
        "name_to_handle_at",
        "open_by_handle_at",
        "unshare",
        "setns",
        "clone3",
        "setuid",
        "setresuid",
        "setgroups",
        "capset",
        "personality",
        "openat2",
        "execve",
        "execveat",
        "bind",
        "connect",
        "listen",
        "io_uring_setup",
        "shmget",
        "msgget",
        "semget",
        "mq_open",
        "memfd_secret",
        "fchmod",
        "fchownat",
        "fsetxattr",
        "utimensat",
        "linkat",
        "symlinkat",
        "mknodat",
        "renameat2",
        "init_module",
        "kexec_load",
        "reboot",
        "swapon",
        "quotactl",
        "syslog",
        "acct",
        "rt_sigqueueinfo",
        "rt_tgsigqueueinfo",
        "tkill",
        "ioprio_set",
        "setpriority",
        "migrate_pages",
        "move_pages",
    ];
    for profile in Profile::CONFINED {
        never.iter().for_each(|name| assert_never_allowed(profile, name));
    }
}

fn assert_never_allowed(profile: Profile, name: &str) {
    let program = compile(profile, &Variant::default()).unwrap();
    let number = (0..1100).find(|number| syscall_name(*number) == Some(name));
    let number = number.unwrap_or_else(|| panic!("{name} has no number"));
    for argument in [0, 1, u64::from(u32::MAX), u64::MAX] {
        let verdict = run(&program.instructions, &Call::native(number, [argument; 6]));
        assert_ne!(verdict.action, libc::SECCOMP_RET_ALLOW, "{profile:?} {name}");
    }
}

/// What an emulator does and a program that only works on images never does.
#[test]
fn programs_for_images_have_no_more_than_they_need() {
    for name in ["bind", "socketpair", "accept4", "listen", "sendmmsg", "memfd_create", "wait4", "setsid", "umask"] {
        assert_never_allowed(Profile::QemuImg, name);
    }
    for name in ["seccomp", "mlockall", "sched_setaffinity", "fchdir", "pause"] {
        assert_never_allowed(Profile::QemuImg, name);
        assert_never_allowed(Profile::QemuStorage, name);
    }
    // A process of its own, even where the command line would let an emulator have one.
    let forks = Variant { forks: true, ..Variant::default() };
    let program = compile(Profile::QemuImg, &forks).unwrap();
    let clone = rules(Profile::QemuImg).find(|rule| rule.call == "clone").unwrap().number;
    let verdict = run(&program.instructions, &Call::native(clone, [libc::SIGCHLD as u64; 6]));
    assert_eq!(verdict.action, libc::SECCOMP_RET_USER_NOTIF);
    // All that they have an emulator has too.
    for profile in [Profile::QemuImg, Profile::QemuStorage] {
        for rule in rules(profile) {
            assert!(rules(Profile::QemuSystem).any(|other| other.call == rule.call), "{profile:?} {}", rule.call);
        }
    }
}

#[test]
fn terminal_ioctls_are_refused_whatever_the_upper_half_of_the_register_says() {
    let variant = Variant { filter_terminal_ioctls: true, ..Variant::default() };
    let program = compile(Profile::QemuSystem, &variant).unwrap();
    let number = rules(Profile::QemuSystem).find(|rule| rule.call == "ioctl").unwrap().number;
    for request in [0x5412, 0x541C, 0x1_0000_5412, 0xFFFF_FFFF_0000_541C] {
        let verdict = run(&program.instructions, &Call::native(number, [0, request, 0, 0, 0, 0]));
        assert_eq!(verdict.action, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, "{request:#x}");
    }
    let tcgets = Call::native(number, [0, 0x5401, 0, 0, 0, 0]);
    assert_eq!(run(&program.instructions, &tcgets).action, libc::SECCOMP_RET_ALLOW);
}

/// The number that `request` on a device leads to.
fn ioctl(request: u64) -> u32 {
    let program = compile(Profile::QemuSystem, &Variant::default()).unwrap();
    let number = rules(Profile::QemuSystem).find(|rule| rule.call == "ioctl").unwrap().number;
    run(&program.instructions, &Call::native(number, [3, request, 0, 0, 0, 0])).action
}

#[test]
fn a_tap_is_good_for_frames_and_not_for_managing_the_interface() {
    let refused = [
        libc::TUNSETNOCSUM,
        libc::TUNSETDEBUG,
        libc::TUNSETIFF,
        libc::TUNSETPERSIST,
        libc::TUNSETOWNER,
        libc::TUNSETLINK,
        libc::TUNSETGROUP,
        libc::TUNSETTXFILTER,
        libc::TUNATTACHFILTER,
        libc::TUNDETACHFILTER,
        libc::TUNSETIFINDEX,
        libc::TUNGETFILTER,
        libc::TUNSETFILTEREBPF,
        libc::TUNSETCARRIER,
        libc::TUNGETDEVNETNS,
        0x8924, // SIOCSIFHWADDR, linux/sockios.h
        0x894c, // SIOCGSKNS, the same
        0x8901, // FIOSETOWN, asm-generic/sockios.h
        0x8912, // SIOCGIFCONF, linux/sockios.h
        0x8933, // SIOCGIFINDEX, the same
    ];
    for request in refused {
        for high_half in [0, 1 << 32, u64::MAX << 32] {
            let wanted = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
            assert_eq!(ioctl(request | high_half), wanted, "{request:#x}");
        }
    }
    // `net/tap-linux.c` of QEMU 7.2 and 10.0, and what vhost-net and KVM need.
    let allowed = [
        libc::TUNGETFEATURES,
        libc::TUNSETOFFLOAD,
        libc::TUNGETIFF,
        libc::TUNSETSNDBUF,
        libc::TUNGETVNETHDRSZ,
        libc::TUNSETVNETHDRSZ,
        libc::TUNSETQUEUE,
        libc::TUNSETVNETLE,
        libc::TUNSETVNETBE,
        libc::TUNSETSTEERINGEBPF,
        0x0000_ae80, // KVM_RUN, linux/kvm.h
        0x4008_af30, // VHOST_NET_SET_BACKEND, linux/vhost.h
        0x0000_541b, // FIONREAD, asm-generic/ioctls.h
    ];
    for request in allowed {
        assert_eq!(ioctl(request), libc::SECCOMP_RET_ALLOW, "{request:#x}");
    }
}

/// What becomes of a call with these arguments in a profile.
fn verdict(profile: Profile, name: &str, arguments: [u64; 6]) -> u32 {
    let program = compile(profile, &Variant::default()).unwrap();
    let number = rules(profile).find(|rule| rule.call == name).unwrap().number;
    run(&program.instructions, &Call::native(number, arguments)).action
}

#[test]
fn no_socket_connects_while_it_sends() {
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let flags = libc::MSG_FASTOPEN as u64;
    for profile in Profile::CONFINED {
        for (name, index) in [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)] {
            if name == "sendmmsg" && profile == Profile::QemuImg {
                continue;
            }
            for value in [flags, flags | libc::MSG_NOSIGNAL as u64, flags | 1 << 40] {
                let mut arguments = [0; 6];
                arguments[index] = value;
                assert_eq!(verdict(profile, name, arguments), refused, "{profile:?} {name} {value:#x}");
            }
            let mut arguments = [0; 6];
            arguments[index] = (libc::MSG_NOSIGNAL | libc::MSG_ZEROCOPY) as u64;
            assert_eq!(verdict(profile, name, arguments), libc::SECCOMP_RET_ALLOW, "{profile:?} {name}");
        }
    }
}

#[test]
fn a_socket_can_be_tuned_and_not_be_led_elsewhere() {
    let option = |profile, level: i32, option: i32| {
        let level = u64::from(level.unsigned_abs());
        verdict(profile, "setsockopt", [3, level, u64::from(option.unsigned_abs()), 0, 4, 0])
    };
    // `util/qemu-sockets.c`, `util/oslib-posix.c` and `io/channel-socket.c` of QEMU 7.2 and 10.0.
    let allowed = [
        (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        (libc::SOL_SOCKET, libc::SO_ZEROCOPY),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::IPPROTO_TCP, libc::TCP_CORK),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    ];
    for (level, name) in allowed {
        assert_eq!(option(Profile::QemuSystem, level, name), libc::SECCOMP_RET_ALLOW, "{level} {name}");
    }
    let refused = [
        (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
        (libc::SOL_SOCKET, libc::SO_DETACH_FILTER),
        (libc::SOL_SOCKET, libc::SO_LOCK_FILTER),
        (libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT),
        (libc::SOL_SOCKET, libc::SO_BROADCAST),
        (libc::SOL_SOCKET, libc::SO_MARK),
        (libc::IPPROTO_IP, libc::IP_OPTIONS),
        (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        (libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM),
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT),
        (libc::IPPROTO_TCP, libc::TCP_REPAIR),
        (libc::IPPROTO_TCP, libc::TCP_ULP),
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION),
    ];
    for profile in Profile::CONFINED {
        for (level, name) in refused {
            assert_eq!(option(profile, level, name), libc::SECCOMP_RET_USER_NOTIF, "{profile:?} {level} {name}");
        }
        let filter = option(profile, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
        assert_ne!(filter, libc::SECCOMP_RET_ALLOW, "{profile:?}");
    }
    // The agent is asked only where libusb is to believe that it has put one on.
    let filter = option(Profile::QemuSystem, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    assert_eq!(filter, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
}

#[test]
fn names_and_numbers_of_system_calls_agree_with_libc() {
    assert_eq!(syscall_name(libc::SYS_openat as u32), Some("openat"));
    assert_eq!(syscall_name(libc::SYS_newfstatat as u32), Some("newfstatat"));
    assert_eq!(syscall_name(469), Some("file_setattr"));
    assert_eq!(syscall_name(4000), None);
}
