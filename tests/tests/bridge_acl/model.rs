//! Random lists, made from what they are to mean: the list that is read must mean the same.

use broker::bridge_acl::AccessList;
use tests::{Random, Result, Workdir};

use crate::check;

/// Lists that are tried.
const CASES: usize = 1200;

const BRIDGES: [&str; 4] = ["br0", "lan", "virbr0.7", "b"];

/// Users and groups that every host has, as they are written, with their numbers.
const USERS: [(&str, u32); 4] = [("user:root", 0), ("user:0", 0), ("user:daemon", 1), ("user:4242", 4242)];
const GROUPS: [(&str, u32); 4] = [("group:root", 0), ("group:daemon", 1), ("group:1", 1), ("group:777", 777)];

/// Who asks: user and group.
const CALLERS: [(u32, u32); 4] = [(0, 0), (1, 9), (4242, 777), (9, 1)];

/// Lines that spoil a list.
const BAD: [&str; 12] = [
    "alow br0",
    "allow",
    "deny\t",
    "allow br0 br1",
    "deny br0 # no",
    "allow sixteen-bytes-xx",
    "include",
    "include br0",
    "include /none/at/all",
    "allow br0\0",
    "allow br0 user:",
    "deny all group:no-such-group",
];

/// What files say: a rule with the bridge that it is about (none: all) and whom it is for.
struct Rule {
    allows: bool,
    bridge: Option<&'static str>,
    users: Vec<u32>,
    groups: Vec<u32>,
}

/// One list, as text and as meaning.
struct Sample {
    files: Vec<String>,
    rules: Vec<Rule>,
    is_bad: bool,
}

fn blanks(random: &mut Random, least: usize) -> String {
    (0..least + random.below(3)).map(|_| if random.below(3) == 0 { '\t' } else { ' ' }).collect()
}

fn rule(random: &mut Random) -> (String, Rule) {
    let allows = random.below(3) != 0;
    let bridge = random.pick(&BRIDGES).copied().filter(|_| random.below(4) != 0);
    let mut words = vec![if allows { "allow" } else { "deny" }, bridge.unwrap_or("all")];
    let mut rule = Rule { allows, bridge, users: Vec::new(), groups: Vec::new() };
    for _ in 0..random.below(3) {
        let (set, subjects) =
            if random.below(2) == 0 { (&mut rule.users, &USERS) } else { (&mut rule.groups, &GROUPS) };
        if let Some((word, number)) = random.pick(subjects) {
            words.push(word);
            set.push(*number);
        }
    }
    let mut line = blanks(random, 0);
    for word in words {
        line.push_str(word);
        line.push_str(&blanks(random, 1));
    }
    (line, rule)
}

impl Sample {
    /// File 0 is the list; each file is included once, by one of those before it, or not at all.
    fn new(random: &mut Random, folder: &str) -> Self {
        let mut sample = Self { files: vec![String::new()], rules: Vec::new(), is_bad: false };
        sample.fill(0, random, folder);
        sample
    }

    fn fill(&mut self, file: usize, random: &mut Random, folder: &str) {
        let mut text = String::new();
        for _ in 0..random.below(5) {
            let line = match random.below(24) {
                0 => blanks(random, 0) + "# allow all deny all include /none",
                1 => blanks(random, 0),
                2 => {
                    self.is_bad = true;
                    random.pick(&BAD).copied().unwrap_or_default().to_owned()
                }
                3..7 if self.files.len() < 6 => {
                    let next = self.files.len();
                    self.files.push(String::new());
                    self.fill(next, random, folder);
                    format!("{}include{}{folder}/{next}{}", blanks(random, 0), blanks(random, 1), blanks(random, 0))
                }
                _ => {
                    let (line, rule) = rule(random);
                    self.rules.push(rule);
                    line
                }
            };
            text += &line;
            text += if random.below(8) == 0 { "\r\n" } else { "\n" };
        }
        if let Some(slot) = self.files.get_mut(file) {
            *slot = text;
        }
    }

    /// The documented rule: some rule allows, none denies.
    fn allows(&self, names: &[&str], (uid, gid): (u32, u32)) -> bool {
        let applies = |rule: &&Rule| {
            let everybody = rule.users.is_empty() && rule.groups.is_empty();
            rule.bridge.is_none_or(|bridge| names.contains(&bridge))
                && (everybody || rule.users.contains(&uid) || rule.groups.contains(&gid))
        };
        let applying: Vec<&Rule> = self.rules.iter().filter(applies).collect();
        !applying.is_empty() && applying.iter().all(|rule| rule.allows)
    }
}

#[test]
fn a_list_means_what_was_meant() -> Result<()> {
    let workdir = Workdir::new()?;
    let folder = workdir.files().to_string_lossy().into_owned();
    let mut random = Random::new(0x5eed_ac15);
    let (mut allowed, mut refused, mut bad) = (0, 0, 0);
    for case in 0..CASES {
        let sample = Sample::new(&mut random, &folder);
        for (number, text) in sample.files.iter().enumerate() {
            workdir.write(&number.to_string(), text.as_bytes())?;
        }
        let list = AccessList::read(&workdir.path("0"));
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                assert!(sample.is_bad, "{case}: {error}: {:?}", sample.files);
                bad += 1;
                continue;
            }
        };
        assert!(!sample.is_bad, "{case}: {:?}", sample.files);
        for names in [&["br0", "lan"][..], &["lan"], &["virbr0.7"], &["b", "other"], &["other"]] {
            for caller in CALLERS {
                let expected = sample.allows(names, caller);
                let found = check(&list, names, caller.0, caller.1).is_ok();
                assert_eq!(found, expected, "{case}: {names:?} for {caller:?}: {:?}", sample.files);
                *(if found { &mut allowed } else { &mut refused }) += 1;
            }
        }
    }
    assert!(allowed > CASES && refused > CASES && bad > CASES / 20, "{allowed} {refused} {bad}");
    Ok(())
}
