//! Both sides of each line of a file.

use tests::{Error, Need, Result, is_met};

use crate::line::{self, Expected, Line};
use crate::observe::{Seen, Side, observe};

/// The broker's own exit status.
const BROKER_FAILED: Option<i32> = Some(125);

/// How many letters of two texts that differ are shown.
const SHOWN: usize = 400;

/// Runs all lines of a file, and fails with what is wrong of all of them.
pub(crate) fn file(name: &str, text: &str) -> Result<()> {
    let only = std::env::var("BROKER_TESTS_LINE").ok();
    let mut wrong = String::new();
    for line in line::read(name, text)? {
        if only.as_ref().is_some_and(|only| *only != line.name) {
            continue;
        }
        if line.network && !is_met(Need::Tun) {
            println!("SKIPPED: {}: need tun", line.name);
            continue;
        }
        if let Err(error) = check(&line) {
            wrong.push_str(&format!("\n== {}: {error}", line.name));
        }
    }
    assert!(wrong.is_empty(), "{name}:{wrong}");
    Ok(())
}

/// One line.
fn check(line: &Line) -> Result<()> {
    let brokered = observe(line, Side::Brokered)?;
    if let Expected::Refused(text) = &line.expected {
        return failed_before(&brokered, text);
    }
    let bare = observe(line, Side::Bare)?;
    match &line.expected {
        Expected::Named(text) => {
            if bare.greeted || bare.status == Some(0) || !bare.stderr.contains(text) {
                return wrong(format!("QEMU does not fail with {text:?}: {:?} {:?}", bare.status, bare.stderr));
            }
            failed_before(&brokered, text)
        }
        Expected::Wrong if bare.greeted || bare.status == Some(0) => {
            wrong(format!("QEMU takes it: {:?} {:?}", bare.status, bare.stderr))
        }
        Expected::Alike if !line.removed && !bare.greeted && bare.status != Some(0) => {
            wrong(format!("QEMU fails: {:?} {:?}", bare.status, bare.stderr))
        }
        _ => alike(&bare, &brokered),
    }
}

/// The broker ended before there was an emulator, and said so in a line with a way out.
fn failed_before(brokered: &Seen, text: &str) -> Result<()> {
    let [said] = brokered.broker.as_slice() else {
        return wrong(format!("the broker said {:?} and QEMU {:?}", brokered.broker, brokered.stderr));
    };
    let named = said.contains(text) && brokered.stderr.is_empty();
    if brokered.status == BROKER_FAILED && named { Ok(()) } else { wrong(format!("{:?} {said}", brokered.status)) }
}

fn alike(bare: &Seen, brokered: &Seen) -> Result<()> {
    if let Some(refusal) = brokered.broker.iter().find(|said| said.contains("refused: ")) {
        return wrong(refusal.clone());
    }
    if let Some((bare, brokered)) = bare.answers.iter().zip(&brokered.answers).find(|(bare, other)| bare != other) {
        return differ(bare, brokered);
    }
    if bare != &(Seen { broker: bare.broker.clone(), ..clone(brokered) }) {
        return differ(&summary(bare), &summary(brokered));
    }
    Ok(())
}

fn clone(seen: &Seen) -> Seen {
    Seen {
        greeted: seen.greeted,
        answers: seen.answers.clone(),
        status: seen.status,
        stdout: seen.stdout.clone(),
        stderr: seen.stderr.clone(),
        broker: Vec::new(),
    }
}

fn summary(seen: &Seen) -> String {
    let Seen { greeted, answers, status, stdout, stderr, broker } = seen;
    format!("greeted {greeted}, {} answers, {status:?}, {stdout:?}, {stderr:?}, {broker:?}", answers.len())
}

/// Two texts from shortly before they differ.
fn differ(bare: &str, brokered: &str) -> Result<()> {
    let same = bare.chars().zip(brokered.chars()).take_while(|(one, other)| one == other).count();
    let part = |text: &str| text.chars().skip(same.saturating_sub(SHOWN / 4)).take(SHOWN).collect::<String>();
    wrong(format!("\n   bare: {}\n broker: {}", part(bare), part(brokered)))
}

fn wrong(text: String) -> Result<()> {
    Err(Error::Unexpected(text))
}
