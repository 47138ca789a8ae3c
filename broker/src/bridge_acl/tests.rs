use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

/// Files in memory; user `alice` is 1, group `kvm` is 2.
struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    fn new(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect())
    }

    fn read_list(&self) -> Result<AccessList, Error> {
        AccessList::read_on(self, Path::new("/list"))
    }
}

impl Host for Memory {
    fn read(&self, path: &Path) -> Result<Text, FileFault> {
        let found = self.0.iter().zip(0..).find(|((name, _), _)| name.as_path() == path);
        let ((_, bytes), inode) = found.ok_or_else(|| FileFault::Missing(std::io::ErrorKind::NotFound.into()))?;
        Ok(Text { bytes: bytes.clone(), identity: (0, inode) })
    }

    fn user(&self, name: &str) -> std::io::Result<Option<u32>> {
        Ok((name == "alice").then_some(1))
    }

    fn group(&self, name: &str) -> std::io::Result<Option<u32>> {
        if name == "silent" { Err(std::io::Error::from_raw_os_error(5)) } else { Ok((name == "kvm").then_some(2)) }
    }
}

fn caller(uid: u32, groups: &[u32]) -> Caller {
    Caller { uid, groups: groups.to_vec() }
}

/// Whether user 1000 may use the bridge by what is in one file.
fn allows(text: &str, names: &[&str], caller: &Caller) -> bool {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Memory::new(&[("/list", text)]).read_list().unwrap().check(&names, caller).is_ok()
}

#[test]
fn deny_wins_wherever_it_stands() {
    let anybody = caller(1000, &[1000]);
    for (text, allowed) in [
        ("", false),
        ("allow br0", true),
        ("allow all", true),
        ("allow br1", false),
        ("deny br1\nallow all", true),
        ("deny br0\nallow br0", false),
        ("allow br0\ndeny br0", false),
        ("allow br0\ndeny all", false),
        ("deny all\nallow all", false),
    ] {
        assert_eq!(allows(text, &["br0"], &anybody), allowed, "{text:?}");
    }
}

#[test]
fn a_rule_for_somebody_is_for_nobody_else() {
    let (alice, kvm, other) = (caller(1, &[7]), caller(3, &[7, 2]), caller(3, &[1]));
    for (text, expected) in [
        ("allow br0 user:alice", [true, false, false]),
        ("allow br0 group:kvm", [false, true, false]),
        ("allow br0 user:alice group:kvm", [true, true, false]),
        ("allow br0 user:3 group:9", [false, true, true]),
        ("allow br0\ndeny br0 user:alice", [false, true, true]),
        ("deny all group:2 user:1\nallow br0", [false, false, true]),
    ] {
        assert_eq!([&alice, &kvm, &other].map(|caller| allows(text, &["br0"], caller)), expected, "{text:?}");
    }
}

#[test]
fn every_name_of_a_bridge_counts() {
    let anybody = caller(1000, &[]);
    assert!(allows("allow lan", &["br0", "lan"], &anybody));
    assert!(!allows("allow br0\ndeny lan", &["br0", "lan"], &anybody));
    assert!(!allows("allow lan", &[], &anybody));
}

#[test]
fn refusals_name_file_line_and_bridge() {
    let files = Memory::new(&[("/list", "# mine\nallow br0\ninclude /more"), ("/more", "\n deny \t br0 \n")]);
    let list = files.read_list().unwrap();
    let refusal = |bridge: &str| list.check(&[bridge.to_owned()], &caller(1000, &[])).unwrap_err().to_string();
    assert_eq!(refusal("br0"), r#"bridge br0 is denied by /more line 2 ("deny \t br0")"#);
    assert_eq!(
        refusal("br1"),
        "bridge br1: no rule of /list allows it to user 1000; the administrator can add the line \"allow br1\""
    );
}

#[test]
fn a_list_counts_whole_or_not_at_all() {
    let deep: Vec<(String, String)> =
        (0..8).map(|number| (format!("/{number}"), format!("include /{}", number + 1))).collect();
    let mut deep: Vec<(&str, &str)> = deep.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    deep.push(("/list", "include /0"));
    let twice = "include /b\ninclude /b\n".repeat(3);
    let wide =
        [("/list", twice.as_str()), ("/b", &twice.replace('b', "c")), ("/c", &twice.replace('b', "d")), ("/d", "")];
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("/other", "")], "access list /list: entity not found; create it as root"),
        (&[("/list", "allow br0\nallow br0 # x")], "/list line 2: a comment must stand"),
        (&[("/list", "allow br0\n\ninclude /none")], "/list line 3: include /none: entity not found"),
        (&[("/list", "include /list")], "/list line 1: include /list: it is being read already"),
        (&[("/list", "include /b"), ("/b", "#\ninclude /list")], "/b line 2: include /list: it is being read already"),
        (&[("/list", "allow br1 user:bob")], r#"/list line 1: there is no user "bob" on this host"#),
        (&[("/list", "allow br1 group:silent")], r#"/list line 1: cannot look up group "silent": Input/output error"#),
        (&deep, "/6 line 1: include /7: files include each other more than 8 deep"),
        (&wide, "include /d: more than 64 files are included"),
    ];
    for (files, message) in cases {
        let error = Memory::new(files).read_list().unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{error}");
    }
    let relative = AccessList::read_on(&Memory::new(&[]), Path::new("list")).unwrap_err();
    assert!(matches!(relative, Error::Relative(_)));
}
