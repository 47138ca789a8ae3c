//! Feeds wrong profile files to the build script's own modules: each mistake must fail the build,
//! with a message that says what to correct.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

#[path = "../build/calls.rs"]
mod calls;
#[path = "../build/check.rs"]
mod check;
#[path = "../build/check_mounts.rs"]
mod check_mounts;
#[path = "../build/emit.rs"]
mod emit;
#[path = "../build/shadow.rs"]
mod shadow;
#[path = "../build/source.rs"]
mod source;
#[path = "../build/source_mounts.rs"]
mod source_mounts;

const HEAD: &str = "[default]\naction = 'notify'\nreason = 'a reason that is long enough'\n";
const GOOD: &str = "[[call]]\nname = 'read'\nreason = 'reads what was granted before'\n";

/// The message that a profile with these rules fails with; `None` for a good one.
fn mistake(rules: &str) -> Option<String> {
    let file = format!("{HEAD}{rules}");
    let calls = calls::numbers("x86_64").unwrap();
    source::profile(&file)
        .and_then(|profile| check::profile(&profile, "x86_64", &calls))
        .err()
        .map(|mistake| mistake.to_string())
}

fn rule(keys: &str) -> String {
    format!("[[call]]\nreason = 'reads what was granted before'\n{keys}\n")
}

#[track_caller]
fn refused(rules: &str, because: &str) {
    let message = mistake(rules).unwrap_or_else(|| panic!("accepted: {rules}"));
    assert!(message.contains(because), "{message}");
}

#[test]
fn a_good_profile_passes() {
    assert_eq!(mistake(GOOD), None);
    let checked = check::profile(
        &source::profile(&format!("{HEAD}{GOOD}")).unwrap(),
        "x86_64",
        &calls::numbers("x86_64").unwrap(),
    )
    .unwrap();
    assert_eq!(checked.default, source::Action::Notify);
    assert_eq!(checked.default_reason, "a reason that is long enough");
    let rule = &checked.rules[0];
    assert_eq!((rule.call.as_str(), rule.number, rule.action), ("read", 0, source::Action::Allow));
    assert_eq!((rule.errno.as_deref(), rule.reason.as_str()), (None, "reads what was granted before"));
}

#[test]
fn constants_are_written_for_the_compiler_to_look_up() {
    let calls = calls::numbers("aarch64").unwrap();
    let conditional = "action = 'errno'\nerrno = 'EPERM'\nwhen = 'io-uring'\n\
        args = [{ index = 0, width = 32, op = 'masked_eq', mask = 'A|B', value = 'A' }]";
    let file = format!("{HEAD}{}", rule(&format!("name = 'newfstatat'\n{conditional}")));
    let checked = check::profile(&source::profile(&file).unwrap(), "aarch64", &calls).unwrap();
    let text = emit::profile("NAME", &checked);
    for part in [
        "static NAME: ProfileData",
        "call: \"newfstatat\", number: 79",
        "Action::Errno { name: \"EPERM\", number: libc::EPERM }",
        "mask: (libc::A as u64) | (libc::B as u64), text: \"A|B\"",
        "Operand::Constant { value: (libc::A as u64), text: \"A\" }",
        "when: Some(Feature::IoUring), unless: None",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(emit::calls(&calls).contains("(79, \"newfstatat\")"));
}

#[test]
fn misspelt_keys_are_refused() {
    refused(&rule("name = 'read'\narg = []"), "unknown field `arg`");
    refused(&rule("name = 'read'\nwhenn = 'io-uring'"), "unknown field `whenn`");
    refused(&rule("name = 'read'\nargs = [{ index = 0, widht = 32, op = 'eq', value = 0 }]"), "unknown field `widht`");
    refused(&format!("[[cal]]\nname = 'read'\n{GOOD}"), "unknown field `cal`");
    refused(&rule("name = 'read'\nwhen = 'iouring'"), "unknown variant `iouring`");
}

#[test]
fn reasons_must_be_there_and_say_something() {
    refused("[[call]]\nname = 'read'", "missing field `reason`");
    refused("[[call]]\nname = 'read'\nreason = ''", "reason of at least 20");
    refused("[[call]]\nname = 'read'\nreason = 'needed'", "`read` needs a reason");
    refused("[[call]]\nname = 'read'\nreason = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaa'", "four words");
}

#[test]
fn names_must_be_known_and_unambiguous() {
    refused(&rule("name = 'raed'"), "unknown system call `raed`");
    refused(&rule("names = []"), "either `name` or");
    refused(&rule("name = 'read'\nnames = ['write']"), "either `name` or");
    refused(&rule(""), "either `name` or");
    assert_eq!(mistake(&rule("name = 'no_such_call'\narch = 'aarch64'")), None);
    refused(&rule("name = 'read'\narch = 'sparc'"), "`arch` must be");
}

#[test]
fn keys_must_fit_together() {
    refused(&rule("name = 'read'\naction = 'errno'"), "`errno` belongs to");
    refused(&rule("name = 'read'\nerrno = 'EPERM'"), "`errno` belongs to");
    refused(&rule("name = 'read'\naction = 'errno'\nerrno = '1'"), "such as EPERM");
    refused(&rule("name = 'read'\nwhen = 'io-uring'\nunless = 'io-uring'"), "exclude each other");
    refused(&rule("name = 'read'\naction = 'trap'"), "unknown variant `trap`");
}

#[test]
fn conditions_must_make_sense() {
    let condition = |fields: &str| rule(&format!("name = 'read'\nargs = [{{ {fields} }}]"));
    refused(&condition("index = 6, width = 32, op = 'eq', value = 0"), "from 0 to 5");
    refused(&condition("index = 0, width = 16, op = 'eq', value = 0"), "32 or 64");
    refused(&condition("index = 0, width = 32, op = 'masked_eq', value = 0"), "`mask` belongs to");
    refused(&condition("index = 0, width = 32, op = 'eq', mask = 1, value = 0"), "`mask` belongs to");
    refused(&condition("index = 0, width = 32, op = 'eq', value = 5"), "needs a `label`");
    refused(&condition("index = 0, width = 32, op = 'eq', value = 'a; evil()'"), "libc constants");
    refused(&condition("index = 0, width = 32, op = 'eq', value = '$signals-only-to'"), "signals-unscoped");
    refused(&condition("index = 0, width = 32, op = 'masked_eq', mask = 'A|B', value = 'C'"), "that `mask` has too");
    refused(
        &condition("index = 0, width = 32, op = 'masked_eq', mask = 0xf0, value = 0x1f, label = 'X'"),
        "that `mask` has too",
    );
    refused(&condition("index = 0, width = 32, op = 'eq', value = -1"), "did not match any variant");
}

#[test]
fn rules_must_not_clash() {
    refused(&format!("{GOOD}{GOOD}"), "duplicates");
    refused(&format!("{GOOD}{}", rule("name = 'read'\naction = 'errno'\nerrno = 'EPERM'")), "stands before");
    let conditional = rule("name = 'read'\nargs = [{ index = 0, width = 32, op = 'eq', value = 0 }]");
    refused(&format!("{conditional}{conditional}"), "duplicates");
    refused(&format!("{conditional}{GOOD}"), "both do the same");
    refused(&format!("{GOOD}{conditional}"), "stands before");
    let variants = format!(
        "{}{}",
        rule("name = 'read'\nwhen = 'io-uring'"),
        rule("name = 'read'\naction = 'errno'\nerrno = 'EPERM'\nunless = 'io-uring'")
    );
    assert_eq!(mistake(&variants), None);
    refused(&variants.replace("unless", "when"), "stands before");
}

#[test]
fn nobody_is_asked_where_nobody_answers() {
    let file = format!("{}{}", HEAD.replace("notify", "kill_process"), rule("name = 'read'\naction = 'notify'"));
    let calls = calls::numbers("x86_64").unwrap();
    let mistake = check::profile(&source::profile(&file).unwrap(), "x86_64", &calls).unwrap_err();
    assert!(mistake.to_string().contains("nobody answers"), "{mistake}");
    refused("", "missing field `call`");
    let file = format!("{}{GOOD}", HEAD.replace("notify", "allow"));
    let mistake = check::profile(&source::profile(&file).unwrap(), "x86_64", &calls).unwrap_err();
    assert!(mistake.to_string().contains("must be `notify` or"), "{mistake}");
}

#[test]
fn the_shipped_profiles_pass_for_both_architectures() {
    for architecture in ["x86_64", "aarch64"] {
        let calls = calls::numbers(architecture).unwrap();
        for file in ["qemu-system", "agent", "broker", "prober", "relay"] {
            let path = format!("{}/profiles/{file}.toml", env!("CARGO_MANIFEST_DIR"));
            let profile = source::profile(&std::fs::read_to_string(path).unwrap()).unwrap();
            let checked = check::profile(&profile, architecture, &calls);
            assert!(checked.is_ok(), "{file} for {architecture}: {}", checked.unwrap_err());
        }
    }
    assert!(calls::numbers("sparc64").unwrap_err().to_string().contains("sparc64"));
}

#[test]
fn mistakes_in_the_file_of_mounts_are_found() {
    let path = format!("{}/profiles/qemu-system.mounts.toml", env!("CARGO_MANIFEST_DIR"));
    let good = std::fs::read_to_string(path).unwrap();
    let check = |file: &str| {
        source_mounts::mounts(file)
            .and_then(|file| check_mounts::mounts(file, "x86_64"))
            .map_err(|mistake| mistake.to_string())
    };
    let text = emit::mounts(&check(&good).unwrap());
    assert!(text.contains("base: Base::Prefix, path: \"share/qemu\", kind: MountKind::Tree, optional: true"));
    assert!(text.contains("right: LandlockRight::Truncate, abi: 3"));
    assert!(!text.contains("aarch64-linux-gnu"), "an entry of another architecture");
    assert!(check(&format!("{good}{}", first(&good, "[[device]]"))).unwrap_err().contains("twice"));
    for (from, to, because) in [
        ("path = \"/usr/lib64\"", "path = \"usr/lib64\"", "must be absolute"),
        ("path = \"/usr/lib64\"", "path = \"/usr/../etc\"", "must be absolute"),
        ("path = \"share/qemu\"", "path = \"../share/qemu\"", "relative and has no"),
        ("optional = true", "optinal = true", "unknown field"),
        ("base = \"own-prefix\"", "base = \"ownprefix\"", "unknown variant"),
        ("rights = [\"Truncate\"]", "rights = [\"MakeCharr\"]", "among those handled"),
        ("rights = [\"Truncate\"]", "rights = [\"ReadFile\"]", "twice"),
        (
            "reason = \"No program can be started but the emulator and its loader.\"",
            "reason = \"no\"",
            "needs a reason",
        ),
        ("prefix = \"/proc/\"", "prefix = \"\"", "either `path` or `prefix`"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let message = check(&bad).unwrap_err();
        assert!(message.contains(because), "{message}");
    }
}

/// The first entry of a list in a TOML file.
fn first<'a>(file: &'a str, header: &str) -> &'a str {
    let from = &file[file.find(header).unwrap()..];
    &from[..from.find("\n\n").unwrap()]
}
