//! QEMU's own helper, asked about random lists: what it denies is not allowed here, and the other way round.

use std::fmt::Write;
use std::process::Command;

use broker::bridge_acl::{AccessList, Error};
use tests::{During, Random, Result, Workdir, need};

use crate::check;

/// Lists that are tried.
const CASES: usize = 300;

/// Where distributions have the helper.
const HELPERS: [&str; 2] = ["/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper"];

const BRIDGES: [&str; 2] = ["br0", "br1"];

/// Parts of lists, whole lines among them so that some lists are understood. `@` stands for their folder.
const PARTS: [&str; 40] = [
    "allow br0\n",
    "allow br0\n",
    "allow br1\n",
    "allow all\n",
    "deny br0\n",
    "deny br1\n",
    "deny all\n",
    "#\n",
    "\n",
    "allow\tbr0\n",
    "deny\tbr1\n",
    " allow  br0 \n",
    "allow br1\r\n",
    "deny\tbr0 \n",
    "allow br0",
    "allow br1",
    "include @/more\n",
    "include @/none\n",
    "include @/bad\n",
    "include\t@/more\n",
    "include more\n",
    "allow",
    "deny",
    " ",
    "\t",
    "br0",
    "br1",
    "all",
    "\n",
    "\n",
    "\r",
    "\u{c}",
    "\u{b}",
    "# deny all",
    "deny br0 # x\n",
    "allow br0 br1\n",
    "Allow br0\n",
    "allow a-name-of-16-byt\n",
    "allow \n",
    "x",
];

/// Asks the helper about each list and bridge, in namespaces in which it can go no further than the list; `$1` is the
/// helper, `$2` the folder of the lists, `$3` how many there are. Says in a line what it said first.
const ASK: &str = r#"
mount -t tmpfs none /etc && mkdir /etc/qemu || exit 1
number=0
while [ "$number" -lt "$3" ]; do
    cp "$2/$number" /etc/qemu/bridge.conf
    for bridge in br0 br1; do
        "$1" --use-vnet --br="$bridge" --fd=0 2>&1 < /dev/null | tr '\n\r\f\v' '    ' | tr -d '\0'
        echo
    done
    number=$((number + 1))
done
"#;

/// What somebody makes of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Denied,
    /// The list does not count.
    Broken,
}

/// Writes the lists, and what they include.
fn write_lists(workdir: &Workdir) -> Result<Vec<String>> {
    let folder = workdir.files().to_string_lossy().into_owned();
    workdir.write("more", b"allow br1\ndeny br0\n")?;
    workdir.write("bad", b"allow br0\nwhat\ndeny br0\n")?;
    let mut random = Random::new(0xb41d_6e5a);
    let mut lists = Vec::new();
    for number in 0..CASES {
        let mut list = String::new();
        for _ in 0..=random.below(4) {
            list += &random.pick(&PARTS).copied().unwrap_or_default().replace('@', &folder);
        }
        workdir.write(&number.to_string(), list.as_bytes())?;
        lists.push(list);
    }
    Ok(lists)
}

/// What QEMU's helper makes of each list, for each bridge.
fn ask_qemu(workdir: &Workdir, helper: &str) -> Result<Vec<Verdict>> {
    let folder = workdir.files();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "sh", "-c", ASK, "sh", helper]).arg(&folder).arg(CASES.to_string());
    let output = command.current_dir(&folder).output().during("start unshare")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let verdict = |line: &str| {
        if line.contains("failed to parse default acl file") {
            Verdict::Broken
        } else if line.contains("access denied by acl file") {
            Verdict::Denied
        } else {
            // The namespace has no such bridge.
            assert!(line.contains("failed to get mtu of bridge") || line.contains("tun"), "{line}");
            Verdict::Allowed
        }
    };
    Ok(text.lines().map(verdict).collect())
}

fn ask_ours(workdir: &Workdir, number: usize, bridge: &str) -> Verdict {
    let list = match AccessList::read(&workdir.path(&number.to_string())) {
        Ok(list) => list,
        Err(_) => return Verdict::Broken,
    };
    match check(&list, &[bridge], 0, 0) {
        Ok(()) => Verdict::Allowed,
        Err(Error::Denied { .. } | Error::NotAllowed { .. }) => Verdict::Denied,
        Err(_) => Verdict::Broken,
    }
}

#[test]
fn lists_mean_what_they_mean_to_qemus_helper() -> Result<()> {
    need!(Root, Qemu);
    let helper = HELPERS.into_iter().find(|path| std::path::Path::new(path).exists());
    let helper = helper.ok_or_else(|| tests::Error::Unexpected("QEMU has no bridge helper".to_owned()))?;
    let workdir = Workdir::new()?;
    let lists = write_lists(&workdir)?;
    let verdicts = ask_qemu(&workdir, helper)?;
    assert_eq!(verdicts.len(), CASES * BRIDGES.len());
    let mut counts = [0; 4];
    let mut wrong = String::new();
    for (number, (list, verdicts)) in lists.iter().zip(verdicts.chunks(BRIDGES.len())).enumerate() {
        for (bridge, theirs) in BRIDGES.into_iter().zip(verdicts.iter().copied()) {
            let ours = ask_ours(&workdir, number, bridge);
            let case = match (theirs, ours) {
                (Verdict::Allowed, Verdict::Allowed) => 0,
                (Verdict::Denied, Verdict::Denied) => 1,
                // Refused here with a reason, or by both.
                (_, Verdict::Broken) => 2,
                // Blanks of another kind than QEMU cuts a line at.
                (Verdict::Broken, _) if list.contains('\t') => 3,
                _ => {
                    let _ = writeln!(wrong, "{list:?}: {bridge}: QEMU's helper says {theirs:?}, ours {ours:?}");
                    continue;
                }
            };
            if let Some(count) = counts.get_mut(case) {
                *count += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(counts.iter().all(|count| *count > 5), "too few of a kind: {counts:?}");
    println!("both allow, both deny, refused here, blanks: {counts:?}");
    Ok(())
}
