//! The table of options knows every option that the installed QEMU has.

use std::process::Command;

use tests::{During, Result, need};

/// The options that a line of `-help` names: `-h or -help`, `-fda/-fdb file`, `-drive [file=...`.
fn options_of(line: &str) -> Vec<&str> {
    let ends = |c: char| c.is_whitespace() || "/[,=".contains(c);
    let mut words = line.split(ends).filter(|word| !word.is_empty());
    let mut options = Vec::new();
    while let Some(word) = words.next().filter(|word| word.starts_with('-')) {
        options.push(word);
        let mut rest = words.clone();
        if rest.next() == Some("or") {
            words = rest;
        }
    }
    options
}

#[test]
fn the_table_knows_every_option_of_this_qemu() -> Result<()> {
    need!(Qemu);
    let output = Command::new("qemu-system-x86_64").arg("-help").output().during("start qemu-system-x86_64 -help")?;
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let options: Vec<&str> = help.lines().filter(|line| line.starts_with('-')).flat_map(options_of).collect();
    assert!(options.len() > 100, "QEMU has more options than {options:?}");
    let unknown: Vec<&&str> = options.iter().filter(|option| !broker::emulator::knows(option)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    Ok(())
}

#[test]
fn help_is_read_as_it_is_written() {
    assert_eq!(options_of("-h or -help     display this help and exit"), ["-h", "-help"]);
    assert_eq!(options_of("-fda/-fdb file  use 'file' as floppy disk 0/1 image"), ["-fda", "-fdb"]);
    assert_eq!(options_of("-drive [file=file][,if=type]"), ["-drive"]);
    assert!(!broker::emulator::knows("-no-such-option"));
}
