//! What the broker reads in words about sockets is what QEMU does with them.
//!
//! Each line of `words` is given to the installed QEMU, traced, in a network namespace that holds nothing but its loopback:
//! every socket that it then binds or connects must be one that the broker found in the same words, and every socket that
//! the broker found must be bound or connected. What QEMU refuses names none.

mod compare;
mod trace;
mod words;

use std::sync::Mutex;
use std::thread;

use tests::{Result, need};

/// Command lines that are tried at a time.
const WORKERS: usize = 3;

#[test]
fn qemu_makes_the_sockets_that_the_broker_found() -> Result<()> {
    need!(Qemu, Strace, Tools, UserNamespaces);
    let split = |text: &'static str, refused| {
        let lines = text.lines().map(move |line| (line.split_whitespace().collect::<Vec<&str>>(), refused));
        lines.filter(|(words, _)| !words.is_empty())
    };
    let lines: Vec<(Vec<&str>, bool)> = split(words::WORDS, false).chain(split(words::REFUSED, true)).collect();
    assert!(lines.len() >= 150, "there are {} command lines", lines.len());
    let (wrong, sockets) = (Mutex::new(Vec::new()), Mutex::new(0));
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let mine = lines.iter().skip(worker).step_by(WORKERS);
            let (wrong, sockets) = (&wrong, &sockets);
            scope.spawn(move || {
                for (words, refused) in mine {
                    match compare::compare(words, *refused) {
                        Ok(number) => *sockets.lock().unwrap_or_else(|lock| lock.into_inner()) += number,
                        Err(problem) => wrong.lock().unwrap_or_else(|lock| lock.into_inner()).push(problem.to_string()),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap_or_default();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let sockets = sockets.into_inner().unwrap_or_default();
    assert!(sockets >= 100, "QEMU made {sockets} sockets");
    Ok(())
}
