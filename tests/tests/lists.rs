//! `help` for each option gives what it gives without the broker, and nothing of the broker's before it.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use tests::{BrokerCommand, During, Error, Finished, Result, Workdir, broker_binary, need};

/// QEMU's defaults that the broker would spell out, and a device that ends QEMU if the option has not.
const AROUND: &[&str] =
    &["-machine", "none", "-nodefaults", "-display", "none", "-nic", "none", "-device", "no-such-device"];

/// Options whose argument QEMU looks at when the guest's devices are there, or that are the broker's to carry out, and one
/// for which the loader looks through folders that are not granted: each side ends with words of its own.
const OWN_WORDS: &[&str] = &["-chroot", "-gdb", "-incoming", "-plugin", "-qtest-log", "-runas", "-set"];

/// What a line of names and standings is about.
struct Known {
    name: String,
    refused: bool,
}

/// The options of the installed QEMU.
fn options() -> Result<Vec<Known>> {
    let mut command = Command::new(broker_binary()?);
    let output = command.args(["plan", "--coverage", "--json"]).output().during("ask for the options")?;
    let found: Value = serde_json::from_slice(&output.stdout).map_err(|error| Error::Unexpected(error.to_string()))?;
    let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows = found.get("names").and_then(Value::as_array).into_iter().flatten();
    let options = rows.filter(|row| text(row, "kind") == "option");
    Ok(options.map(|row| Known { name: text(row, "name"), refused: text(row, "standing") == "refused" }).collect())
}

fn run(words: &[&str], bare: bool) -> Result<Finished> {
    let workdir = Workdir::new()?;
    let command = BrokerCommand::new(&workdir).args(words.iter().copied());
    let mut finished = if bare { command.bare().run()? } else { command.run()? };
    let folder = workdir.files().to_string_lossy().into_owned();
    for said in [&mut finished.stdout, &mut finished.stderr] {
        *said = said.replace(&folder, "$DIR");
    }
    Ok(finished)
}

/// What is wrong with the answers to `words`, if anything.
fn difference(words: &[&str], refused: bool) -> Result<Option<String>> {
    let (bare, ours) = (run(words, true)?, run(words, false)?);
    let without_notices = |said: &str| {
        let lines = said.lines().filter(|line| !line.starts_with("broker: "));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    // A list is printed as it is, with nothing beside it. What is a file is an image of no stated format.
    let (theirs, said) = if bare.stdout.is_empty() {
        (bare.stderr.clone(), without_notices(&ours.stderr))
    } else {
        (bare.stderr.clone(), ours.stderr.clone())
    };
    let alike = bare.status == ours.status && bare.stdout == ours.stdout && theirs == said;
    let is_refusal = refused && ours.status.code() == Some(125) && ours.stderr.contains("not served");
    let shown = format!("{words:?}: {:?} {theirs:?} but {:?} {:?}", bare.status, ours.status, ours.stderr);
    Ok(if alike || is_refusal { None } else { Some(shown) })
}

#[test]
fn help_for_each_option() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let (mut wrong, mut lists) = (Vec::new(), BTreeSet::new());
    let options = options()?;
    assert!(options.len() > 80, "QEMU has more than {} options", options.len());
    for Known { name, refused } in options.iter().filter(|known| !OWN_WORDS.contains(&known.name.as_str())) {
        for word in ["help", "?"] {
            let words: Vec<&str> = [&[name.as_str(), word], AROUND].concat();
            wrong.extend(difference(&words, *refused)?);
        }
        if !run(&[&[name.as_str(), "help"], AROUND].concat(), false)?.stdout.is_empty() {
            lists.insert(name.as_str());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known = ["-add-fd", "-chardev", "-cpu", "-d", "-device", "-global", "-machine", "-object", "-rtc", "-vnc"];
    assert!(known.iter().all(|name| lists.contains(name)), "{lists:?}");
    Ok(())
}

#[test]
fn help_for_parts_of_options() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let mut wrong = Vec::new();
    for words in [
        ["-device", "virtio-blk-pci,help"],
        ["-device", "no-such-device,help"],
        ["-object", "iothread,help"],
        ["-machine", "q35,help"],
        ["-m", "64,help"],
        ["-name", "a,help"],
        ["-rtc", "base=utc,?"],
        ["-icount", "1,help"],
        ["-fsdev", "local,help"],
        ["-virtfs", "local,help"],
        ["-mon", "x,help"],
        ["-sandbox", "on,help"],
        ["-trace", "enable=x,help"],
        ["-chardev", "socket,help"],
        ["-drive", "format=help"],
        ["-net", "nic,model=help"],
        ["-audio", "model=help"],
        ["-global", "driver=x,help"],
    ] {
        // With QEMU's defaults, of which nothing is to be heard.
        wrong.extend(difference(&words, false)?);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
